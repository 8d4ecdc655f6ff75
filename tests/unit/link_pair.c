#include "link_pair.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void relay_readable(evutil_socket_t fd, short what, void *arg)
{
    struct relay *relay = arg;
    ssize_t length = read(relay->from, relay->bytes, relay->chop);
    if (length <= 0) {
        shutdown(relay->to, SHUT_WR);
        return;
    }
    relay->length = (size_t)length;
    relay->sent = 0;
    event_active(relay->writable, EV_WRITE, 0);
}

static void relay_writable(evutil_socket_t fd, short what, void *arg)
{
    struct relay *relay = arg;
    ssize_t length =
        send(relay->to, relay->bytes + relay->sent, relay->length - relay->sent, MSG_NOSIGNAL);
    if (length > 0)
        relay->sent += (size_t)length;
    if (length < 0 && errno != EAGAIN)
        return;
    event_add(relay->sent < relay->length ? relay->writable : relay->readable, NULL);
}

static struct relay *relay_new(struct event_base *base, int from, int to, size_t chop)
{
    struct relay *relay = calloc(1, sizeof *relay);
    ck_assert_ptr_nonnull(relay);
    relay->from = from;
    relay->to = to;
    relay->chop = chop;
    fcntl(from, F_SETFL, O_NONBLOCK);
    relay->readable = event_new(base, from, EV_READ, relay_readable, relay);
    relay->writable = event_new(base, to, EV_WRITE, relay_writable, relay);
    event_add(relay->readable, NULL);
    return relay;
}

static void relay_free(struct relay *relay)
{
    if (!relay)
        return;
    event_free(relay->readable);
    event_free(relay->writable);
    free(relay);
}

static void client_down(struct link *link, void *arg, const struct hearth_failure *why)
{
    struct link_pair *pair = arg;
    ck_assert_ptr_eq(link, pair->client);
    pair->client_downs++;
    pair->client_why = *why;
}

static void server_down(struct link *link, void *arg, const struct hearth_failure *why)
{
    struct link_pair *pair = arg;
    ck_assert_ptr_eq(link, pair->server);
    pair->server_downs++;
}

static void server_call(struct link *link, void *arg, struct link_call *call, const char *path)
{
    struct link_pair *pair = arg;
    echo_on_call(link, &pair->echo, call, path);
}

static const struct link_events client_events = {.on_down = client_down};
static const struct link_events server_events = {.on_down = server_down, .on_call = server_call};

void link_pair_open(struct link_pair *pair, size_t chop)
{
    int left[2], right[2];
    struct hearth_failure failure;
    *pair = (struct link_pair){.base = event_base_new(), .relay_fds = {-1, -1}};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, left), 0);
    if (chop) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, right), 0);
        pair->relays[0] = relay_new(pair->base, left[1], right[0], chop);
        pair->relays[1] = relay_new(pair->base, right[0], left[1], chop);
        pair->relay_fds[0] = left[1];
        pair->relay_fds[1] = right[0];
    } else {
        right[1] = left[1];
    }
    ck_assert_int_eq(
        link_new_client(&pair->client, pair->base, left[0], &client_events, pair, &failure), 0);
    ck_assert_int_eq(
        link_new_server(&pair->server, pair->base, right[1], &server_events, pair, &failure), 0);
}

void link_pair_close(struct link_pair *pair)
{
    link_free(pair->client);
    link_free(pair->server);
    for (int i = 0; i < 2; i++) {
        relay_free(pair->relays[i]);
        if (pair->relay_fds[i] >= 0)
            close(pair->relay_fds[i]);
    }
    event_base_free(pair->base);
}

void link_pair_turn(struct link_pair *pair)
{
    ck_assert_int_eq(event_base_loop(pair->base, EVLOOP_ONCE), 0);
}

void link_pair_poll(struct link_pair *pair)
{
    ck_assert_int_ge(event_base_loop(pair->base, EVLOOP_NONBLOCK), 0);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct caller *caller = arg;
    ck_assert_int_eq(caller->ended, 0);
    caller->messages++;
    caller->bytes += length;
    snprintf(caller->last, sizeof caller->last, "%.*s",
             (int)(length < sizeof caller->last ? length : sizeof caller->last - 1),
             (const char *)data);
    if (caller->at_message)
        caller->at_message(caller);
}

static void on_writable(struct link_call *call, void *arg)
{
    struct caller *caller = arg;
    caller->writable++;
}

static void on_half_closed(struct link_call *call, void *arg)
{
    struct caller *caller = arg;
    caller->half_closed++;
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    struct caller *caller = arg;
    caller->ended++;
    ck_assert_int_eq(caller->ended, 1);
    caller->status = status;
    snprintf(caller->text, sizeof caller->text, "%s", message);
    caller->call = NULL;
    if (caller->at_end)
        caller->at_end(caller);
}

const struct link_call_events caller_events = {
    .on_message = on_message,
    .on_writable = on_writable,
    .on_half_closed = on_half_closed,
    .on_end = on_end,
};

void caller_start(struct caller *caller, struct link_pair *pair, const char *method,
                  const char *text, bool finish, unsigned timeout_ms)
{
    struct hearth_failure failure;
    char path[64];
    snprintf(path, sizeof path, "%s%s", ECHO_PATH, method);
    caller->pair = pair;
    int error = link_call_start(&caller->call, pair->client, path, timeout_ms, &caller_events,
                                caller, &failure);
    ck_assert_msg(error == 0, "%s", error ? failure.detail : "");
    if (text)
        ck_assert_int_eq(link_call_send_bytes(caller->call, text, strlen(text)), 0);
    if (finish)
        link_call_finish(caller->call);
}
