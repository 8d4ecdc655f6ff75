/* Connections carried over a link, between two socket pairs in one event loop. */
#include "suite.h"

#include "agent.pb-c.h"
#include "guestagent/forward.h"

#include <event2/event.h>
#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 65536

struct forwards {
    struct event_base *base;
    struct link *client, *server;
    struct forward *near, *far;
    int near_fd, far_fd; /* the test's ends */
    unsigned ended;
    enum link_status status;
};

static void on_down(struct link *link, void *arg, const struct hearth_failure *why)
{
    ck_abort_msg("%s", why->detail);
}

static void near_ended(void *arg, enum link_status status, const char *message)
{
    struct forwards *forwards = arg;
    forwards->near = NULL;
    forwards->status = status;
    forwards->ended++;
}

static void far_ended(void *arg, enum link_status status, const char *message)
{
    ((struct forwards *)arg)->far = NULL;
}

static const struct forward_events near_events = {.on_end = near_ended};
static const struct forward_events far_events = {.on_end = far_ended};

static void first_item(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct forwards *forwards = arg;
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    forwards->far_fd = pair[0];
    forwards->far = forward_serve(call, forwards->base, pair[1], &far_events, forwards);
    ck_assert_ptr_nonnull(forwards->far);
}

static void never_ended(struct link_call *call, void *arg, enum link_status status,
                        const char *message)
{
}

static const struct link_call_events first_events = {.on_message = first_item,
                                                     .on_end = never_ended};

static void on_call(struct link *link, void *arg, struct link_call *call, const char *path)
{
    link_call_accept(call, &first_events, arg);
}

static const struct link_events client_events = {.on_down = on_down};
static const struct link_events server_events = {.on_down = on_down, .on_call = on_call};

static void turn(struct forwards *forwards)
{
    event_base_loop(forwards->base, EVLOOP_NONBLOCK);
}

static void forwards_open(struct forwards *forwards)
{
    struct hearth_failure failure;
    int pair[2];
    *forwards = (struct forwards){.base = event_base_new(), .near_fd = -1, .far_fd = -1};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert_int_eq(link_new_client(&forwards->client, forwards->base, pair[0], &client_events,
                                     forwards, &failure),
                     0);
    ck_assert_int_eq(link_new_server(&forwards->server, forwards->base, pair[1], &server_events,
                                     forwards, &failure),
                     0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    forwards->near_fd = pair[0];
    ck_assert_int_eq(forward_dial(&forwards->near, forwards->client, forwards->base, pair[1], 80,
                                  &near_events, forwards, &failure),
                     0);
    while (!forwards->far)
        turn(forwards);
}

static void forwards_close(struct forwards *forwards)
{
    forward_free(forwards->near);
    forward_free(forwards->far);
    link_free(forwards->client);
    link_free(forwards->server);
    event_base_free(forwards->base);
    close(forwards->near_fd);
    close(forwards->far_fd);
}

/* The far side writes what it can; the near side takes a piece a turn, so that something always
 * waits for it. Gives how much arrived. */
static size_t trickle(struct forwards *forwards, size_t length)
{
    static char bytes[PIECE];
    size_t sent = 0, got = 0;
    while (got < length && !forwards->ended) {
        size_t most = length - sent < sizeof bytes ? length - sent : sizeof bytes;
        ssize_t part = 1;
        while (most && part > 0) {
            part = send(forwards->far_fd, bytes, most, MSG_NOSIGNAL);
            sent += part > 0 ? (size_t)part : 0;
            most = length - sent < sizeof bytes ? length - sent : sizeof bytes;
        }
        turn(forwards);
        part = recv(forwards->near_fd, bytes, sizeof bytes, 0);
        got += part > 0 ? (size_t)part : 0;
    }
    return got;
}

START_TEST(a_slow_reader_gets_all_and_no_more_than_the_window_is_kept)
{
    struct forwards forwards;
    const size_t length = (size_t)200 << 20;
    forwards_open(&forwards);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    ck_assert_uint_eq(trickle(&forwards, length), length);
    ck_assert_uint_eq(forwards.ended, 0);
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    ck_assert_msg(after < before + ((size_t)8 << 20), "%zu bytes more are held", after - before);
    forwards_close(&forwards);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("forward");
    TCase *flow = tcase_create("flow");
    tcase_set_timeout(flow, 60);
    tcase_add_test(flow, a_slow_reader_gets_all_and_no_more_than_the_window_is_kept);
    suite_add_tcase(suite, flow);
    return suite;
}

int main(void)
{
    return run_and_free(suite());
}
