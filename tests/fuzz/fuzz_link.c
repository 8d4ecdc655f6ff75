/* guestagent/link*.c: what a peer says to either end. The first byte chooses: which end, how many
 * bytes come at a time, and what the owner does when a message comes. */
#include "fuzz.h"

#include "../unit/echo_service.h"

#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum habit { READS, CANCELS, PAUSES, FREES_THE_LINK };
#define CALLS 3

static struct link *subject;
static struct link_call *calls[CALLS];
static unsigned ended[CALLS], downs;
static enum habit habit;

static void free_link(void)
{
    struct link *gone = subject;
    subject = NULL;
    link_free(gone);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    const unsigned *end = arg;
    PROMISE(*end == 0 && subject && length <= LINK_MESSAGE_MAX);
    /* Every byte may be read. */
    unsigned sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += data[i];
    if (habit == CANCELS && sum % 2 == 0)
        link_call_cancel(call);
    else if (habit == PAUSES)
        link_call_pause(call, true);
    else if (habit == FREES_THE_LINK)
        free_link();
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    unsigned *end = arg;
    PROMISE(*end == 0 && strlen(message) <= (size_t)4 << 10);
    (*end)++;
    for (int i = 0; i < CALLS; i++)
        if (calls[i] == call)
            calls[i] = NULL;
}

static void on_half_closed(struct link_call *call, void *arg)
{
    const unsigned *end = arg;
    PROMISE(*end == 0);
}

static void on_down(struct link *which, void *arg, const struct hearth_failure *why)
{
    PROMISE(which == subject);
    downs++;
}

static const struct link_call_events call_events = {
    .on_message = on_message,
    .on_half_closed = on_half_closed,
    .on_end = on_end,
};
static const struct link_events client_events = {.on_down = on_down};
static const struct link_events server_events = {.on_down = on_down, .on_call = echo_on_call};

static void open_calls(void)
{
    for (int i = 0; i < CALLS; i++) {
        if (link_call_start(&calls[i], subject, ECHO_PATH "Chat", i == 1 ? 1000 : 0, &call_events,
                            &ended[i], NULL))
            continue;
        PROMISE(link_call_send_bytes(calls[i], "hello", 5) == 0);
        if (i > 0)
            link_call_finish(calls[i]);
    }
}

static void turn(struct event_base *base, int peer)
{
    char heard[65536];
    event_base_loop(base, EVLOOP_NONBLOCK);
    while (recv(peer, heard, sizeof heard, MSG_DONTWAIT) > 0)
        ;
    if (habit != PAUSES)
        return;
    for (int i = 0; i < CALLS; i++)
        if (calls[i])
            link_call_pause(calls[i], false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t chops[] = {1, 9, 137, 65536};
    int fds[2];
    struct echo_service echo = {0};
    if (size == 0 || size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return 0;
    bool server = data[0] & 1;
    size_t chop = chops[data[0] >> 1 & 3];
    habit = (enum habit)(data[0] >> 3 & 3);
    memset(ended, 0, sizeof ended);
    memset(calls, 0, sizeof calls);
    downs = 0;
    struct event_base *base = event_base_new();
    int error = server ? link_new_server(&subject, base, fds[0], &server_events, &echo, NULL)
                       : link_new_client(&subject, base, fds[0], &client_events, NULL, NULL);
    PROMISE(error == 0);
    if (!server)
        open_calls();
    turn(base, fds[1]);
    for (size_t at = 1; at < size && subject; at += chop) {
        size_t length = size - at < chop ? size - at : chop;
        if (send(fds[1], data + at, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            break;
        turn(base, fds[1]);
    }
    for (int i = 0; i < 5 && subject; i++)
        turn(base, fds[1]);
    shutdown(fds[1], SHUT_WR);
    for (int i = 0; i < 5 && subject; i++)
        turn(base, fds[1]);
    PROMISE(!subject || downs == 1);
    if (subject)
        free_link();
    for (int i = 0; i < CALLS && !server; i++)
        PROMISE(ended[i] == 1);
    PROMISE(echo.accepted == echo.ended);
    PROMISE(downs <= 1);
    event_base_free(base);
    close(fds[1]);
    return 0;
}
