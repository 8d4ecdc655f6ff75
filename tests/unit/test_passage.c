/* A passage between two TCP connections: whoever is at their far ends sees one. */
#include "base/socket.h"
#include "suite.h"
#include "supervisord/passage.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUCH ((size_t)24 << 20)
#define UNEND 1 /* not yet ended: no errno */

static struct loop *loop;
static struct passages *passages;
static struct passage *passage;
static int near[2], far[2]; /* near: the passage's */
static int ended;

static void on_ended(void *arg, int error)
{
    ck_assert_ptr_eq(arg, &ended);
    ck_assert_int_eq(ended, UNEND);
    ended = error;
    passage = NULL;
}

static void connect_pair(int *ret_near, int *ret_far)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    *ret_far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(*ret_far, (struct sockaddr *)&address, size), 0);
    *ret_near = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    ck_assert_int_ge(*ret_near, 0);
    ck_assert_int_eq(fcntl(*ret_far, F_SETFL, O_NONBLOCK), 0);
    close(listener);
}

static void setup(void)
{
    struct hearth_failure failure;
    ck_assert_int_eq(loop_new(&loop, &failure), 0);
    for (int i = 0; i < 2; i++)
        connect_pair(&near[i], &far[i]);
    ended = UNEND;
    passages = passages_new(loop);
    passage = passage_new(passages, near[0], near[1], on_ended, &ended);
    ck_assert_ptr_nonnull(passage);
}

static void teardown(void)
{
    passage_free(passage);
    passages_free(passages);
    close(far[0]);
    close(far[1]);
    loop_free(loop);
}

static void stop(void *arg)
{
    loop_stop(arg);
}

static void turn(void)
{
    loop_post(loop, stop, loop);
    loop_run(loop);
}

/* Waits, turning, until the socket has something to tell: bytes, 0 for its end, or -errno. */
static ssize_t hear(int fd, void *out, size_t size)
{
    for (;;) {
        ssize_t got = recv(fd, out, size, 0);
        if (got >= 0 || errno != EAGAIN)
            return got < 0 ? -errno : got;
        turn();
    }
}

static void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void reset(int *fd)
{
    socket_reset(*fd);
    *fd = -1;
}

static void hears(int fd, const char *wanted)
{
    char got[64];
    ssize_t length = hear(fd, got, sizeof got - 1);
    ck_assert_int_ge(length, 0);
    got[length] = '\0';
    ck_assert_str_eq(got, wanted);
}

START_TEST(bytes_go_both_ways_and_each_direction_ends_by_itself)
{
    say(far[0], "question");
    shutdown(far[0], SHUT_WR);
    hears(far[1], "question");
    hears(far[1], "");
    say(far[1], "answer");
    hears(far[0], "answer");
    ck_assert_int_eq(ended, UNEND);
    shutdown(far[1], SHUT_WR);
    hears(far[0], "");
    ck_assert_int_eq(ended, 0);
}
END_TEST

START_TEST(a_reset_is_passed_on_with_what_was_said_before)
{
    char byte;
    say(far[_i], "last words");
    reset(&far[_i]);
    hears(far[1 - _i], "last words");
    ck_assert_int_eq(hear(far[1 - _i], &byte, 1), -ECONNRESET);
    ck_assert_int_eq(ended, -ECONNRESET);
}
END_TEST

/* The side that broke off is found by writing to it: it had ended its own direction before. */
START_TEST(who_reads_no_more_stops_who_sends)
{
    shutdown(far[0], SHUT_WR);
    hears(far[1], "");
    reset(&far[0]);
    while (send(far[1], "more", 4, MSG_NOSIGNAL) == 4)
        turn();
    ck_assert_int_lt(ended, 0);
}
END_TEST

START_TEST(a_freed_passage_resets_both)
{
    char byte;
    passage_free(passage);
    passage = NULL;
    ck_assert_int_eq(hear(far[0], &byte, 1), -ECONNRESET);
    ck_assert_int_eq(hear(far[1], &byte, 1), -ECONNRESET);
    ck_assert_int_eq(ended, UNEND);
}
END_TEST

/* Sends some, if it is taken. Gives how much has been sent. */
static size_t push(int fd, size_t sent)
{
    unsigned char piece[PASSAGE_PIECE];
    size_t length = MUCH - sent < sizeof piece ? MUCH - sent : sizeof piece;
    for (size_t i = 0; i < length; i++)
        piece[i] = (unsigned char)((sent + i) % 251);
    ssize_t put = length ? send(fd, piece, length, MSG_NOSIGNAL) : 0;
    turn();
    return put > 0 ? sent + (size_t)put : sent;
}

START_TEST(a_slow_reader_holds_up_who_sends_and_gets_all_in_order)
{
    unsigned char piece[PASSAGE_PIECE];
    size_t sent = 0, taken = 0;
    bool in_order = true;
    for (int held = 0; held < 100 && sent < MUCH; held++)
        for (size_t more; (more = push(far[0], sent)) > sent; sent = more)
            held = 0;
    ck_assert_uint_lt(sent, MUCH);
    say(far[1], "the other way goes on");
    hears(far[0], "the other way goes on");
    while (taken < MUCH) {
        ssize_t got = recv(far[1], piece, sizeof piece, 0);
        for (ssize_t i = 0; i < got; i++)
            in_order = in_order && piece[i] == taken++ % 251;
        sent = push(far[0], sent);
    }
    ck_assert(in_order);
    shutdown(far[0], SHUT_WR);
    hears(far[1], "");
}
END_TEST

#define CROWD 4

static void crowd_ended(void *arg, int error)
{
    (void)arg;
    (void)error;
}

START_TEST(a_crowd_passes_on_a_bounded_number_of_bytes_a_turn_and_all_of_it_gets_on)
{
    unsigned char piece[4 * PASSAGE_PIECE] = {0};
    struct passage *crowd[CROWD];
    int ends[CROWD][2];
    size_t taken[CROWD] = {0};
    for (int i = 0; i < CROWD; i++) {
        int ours[2];
        for (int side = 0; side < 2; side++)
            connect_pair(&ours[side], &ends[i][side]);
        crowd[i] = passage_new(passages, ours[0], ours[1], crowd_ended, NULL);
    }
    for (int turns = 0; turns < 400; turns++) {
        size_t in_turn = 0;
        for (int i = 0; i < CROWD; i++)
            (void)send(ends[i][0], piece, sizeof piece, MSG_NOSIGNAL);
        turn();
        for (int i = 0; i < CROWD; i++) {
            ssize_t got = recv(ends[i][1], piece, sizeof piece, 0);
            taken[i] += got > 0 ? (size_t)got : 0;
            in_turn += got > 0 ? (size_t)got : 0;
        }
        ck_assert_uint_le(in_turn, PASSAGE_TURN_BYTES + PASSAGE_PIECE);
    }
    for (int i = 0; i < CROWD; i++) {
        ck_assert_uint_ge(taken[i], 400 * PASSAGE_TURN_BYTES / CROWD / 4);
        passage_free(crowd[i]);
        close(ends[i][0]);
        close(ends[i][1]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("passage");
    TCase *tests = tcase_create("passage");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, bytes_go_both_ways_and_each_direction_ends_by_itself);
    tcase_add_loop_test(tests, a_reset_is_passed_on_with_what_was_said_before, 0, 2);
    tcase_add_test(tests, who_reads_no_more_stops_who_sends);
    tcase_add_test(tests, a_freed_passage_resets_both);
    tcase_add_test(tests, a_slow_reader_holds_up_who_sends_and_gets_all_in_order);
    tcase_add_test(tests, a_crowd_passes_on_a_bounded_number_of_bytes_a_turn_and_all_of_it_gets_on);
    suite_add_tcase(suite, tests);
    return run_and_free(suite);
}
