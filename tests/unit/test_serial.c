/* An agent on a port that is one pipe for its whole life: a link on it, and the end of both. */
#include "base/cleanup.h"
#include "guestagent/agent/agent.h"
#include "guestagent/preamble.h"
#include "suite.h"

#include <check.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(int fd, enum preamble_kind kind)
{
    struct preamble preamble = {.kind = kind, .nonce = "sixteen letters"};
    uint8_t bytes[PREAMBLE_SIZE];
    preamble_encode(&preamble, bytes);
    ck_assert_int_eq(write(fd, bytes, sizeof bytes), sizeof bytes);
}

static void hear(int fd, enum preamble_kind kind)
{
    struct preamble_scanner scanner = {0};
    struct preamble preamble = {0};
    uint8_t bytes[PREAMBLE_SIZE];
    ck_assert_int_eq(read(fd, bytes, sizeof bytes), sizeof bytes);
    ck_assert(preamble_scanner_feed(&scanner, bytes, sizeof bytes, &preamble));
    ck_assert_int_eq(preamble.kind, kind);
}

/* As PID 1 is asked to end, once somebody is linked. */
static void end_when_linked(evutil_socket_t fd, short what, void *arg)
{
    struct agent *agent = arg;
    (void)fd;
    (void)what;
    if (!list_empty(&agent->links))
        raise(SIGTERM);
    else
        event_base_once(agent->base, -1, EV_TIMEOUT, end_when_linked, agent, NULL);
}

START_TEST(test_the_end_comes_with_somebody_still_linked)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    struct agent agent = {
        .options = {.workspace = "/", .listen_fd = -1, .connected_fd = -1, .serial_fd = ends[1]},
        .root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .base = event_base_new()};
    say(ends[0], PREAMBLE_OFFER);
    say(ends[0], PREAMBLE_BEGIN);
    event_base_once(agent.base, -1, EV_TIMEOUT, end_when_linked, &agent, NULL);
    ck_assert_int_eq(agent_serve(&agent), 0);
    ck_assert_ptr_null(agent.serial);
    hear(ends[0], PREAMBLE_ACCEPT);
    hear(ends[0], PREAMBLE_BEGUN);
    event_base_free(agent.base);
    close(agent.root_fd);
    close(ends[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serial");
    TCase *cases = tcase_create("serial");
    tcase_add_test(cases, test_the_end_comes_with_somebody_still_linked);
    suite_add_tcase(suite, cases);
    return run_and_free(suite);
}
