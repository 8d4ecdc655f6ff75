/* A feed: what a pipe does not take waits, in order, and its end comes after all of it. */
#include "suite.h"
#include "supervisord/feed.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define FULL_AT ((size_t)1 << 20)
#define PIECE 1000

static struct loop *loop;
static struct feed feed;
static struct watch watch;
static int reader;
static size_t written, taken;
static unsigned rooms;
static bool in_order, ended;

/* The bytes of the stream are counted, so that a lost or a doubled one shows. */
static char byte_at(size_t at)
{
    return (char)(at % 251);
}

static int write_piece(void)
{
    char piece[PIECE];
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = byte_at(written + i);
    written += sizeof piece;
    return feed_write(&feed, piece, sizeof piece);
}

static void on_room(void *arg)
{
    ck_assert_ptr_eq(arg, &feed);
    ck_assert_uint_eq(feed.waiting.length, 0);
    if (++rooms == 2)
        feed_end(&feed);
    else
        while (write_piece())
            ;
}

static void on_readable(void *arg)
{
    char piece[4096];
    ssize_t got = read(reader, piece, sizeof piece);
    (void)arg;
    for (ssize_t i = 0; i < got; i++)
        in_order = in_order && piece[i] == byte_at(taken++);
    ended = got == 0;
    if (got <= 0)
        loop_stop(loop);
}

static void setup(void)
{
    struct hearth_failure failure;
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(loop_new(&loop, &failure), 0);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    reader = ends[0];
    feed = (struct feed){
        .loop = loop, .fd = ends[1], .full_at = FULL_AT, .on_room = on_room, .arg = &feed};
    written = taken = rooms = 0;
    in_order = true;
    ended = false;
}

static void teardown(void)
{
    feed_close(&feed);
    close(reader);
    loop_free(loop);
}

START_TEST(what_a_pipe_does_not_take_waits_in_order)
{
    ck_assert_int_eq(watch_init(&watch, loop, reader, on_readable, NULL), 0);
    while (write_piece())
        ;
    ck_assert_uint_ge(feed.waiting.length, FULL_AT);
    ck_assert_uint_eq(rooms, 0);
    loop_run(loop);
    watch_free(&watch);
    ck_assert_uint_eq(rooms, 2);
    ck_assert_uint_eq(taken, written);
    ck_assert(in_order && ended);
}
END_TEST

START_TEST(the_end_comes_after_what_waits)
{
    ck_assert_int_eq(watch_init(&watch, loop, reader, on_readable, NULL), 0);
    while (!feed.waiting.length)
        ck_assert_int_eq(write_piece(), 1);
    feed_end(&feed);
    loop_run(loop);
    watch_free(&watch);
    ck_assert_uint_eq(taken, written);
    ck_assert(in_order && ended);
    ck_assert_int_eq(feed.fd, -1);
}
END_TEST

START_TEST(with_nothing_waiting_the_end_comes_at_once)
{
    ck_assert_int_eq(write_piece(), 1);
    feed_end(&feed);
    ck_assert_int_eq(feed.fd, -1);
}
END_TEST

START_TEST(what_nobody_reads_any_more_is_dropped)
{
    close(reader);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(write_piece(), 1);
    ck_assert_int_eq(feed.fd, -1);
    ck_assert_uint_eq(feed.waiting.length, 0);
    reader = -1;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("feed");
    TCase *test_case = tcase_create("feed");
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, what_a_pipe_does_not_take_waits_in_order);
    tcase_add_test(test_case, the_end_comes_after_what_waits);
    tcase_add_test(test_case, with_nothing_waiting_the_end_comes_at_once);
    tcase_add_test(test_case, what_nobody_reads_any_more_is_dropped);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
