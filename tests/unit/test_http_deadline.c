/* Time: deadlines of heads, bodies, requests and replies, and the drain that ends them all. */
#include "http_fixture.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHORT_MS 60
#define UPLOAD "PUT /upload HTTP/1.1\r\nHost: localhost\r\n" AUTH

static struct reply reply;
static char filler[100000];

static void start(void)
{
    fixture_start((struct http_config){0});
}

static void start_impatient(void)
{
    memset(filler, 'x', sizeof filler);
    fixture_start((struct http_config){.head_timeout_ms = SHORT_MS,
                                       .body_timeout_ms = SHORT_MS,
                                       .request_timeout_ms = 3 * SHORT_MS});
}

static void stop(void)
{
    buf_free(&reply.body);
    fixture_stop();
}

START_TEST(a_slow_head_is_answered_408)
{
    struct client *silent = client_tcp(), *slow = client_tcp();
    client_send(slow, "GET /hello HTTP/1.1\r\nHost: loc");
    client_reply(slow, &reply);
    ck_assert_int_eq(reply.status, 408);
    client_until_eof(slow);
    client_until_eof(silent);
    client_free(slow);
    client_free(silent);
}
END_TEST

static bool drip(void *arg)
{
    struct client *client = arg;
    static unsigned turns;
    if (++turns % 10 == 0 && !client->eof)
        client_send(client, "x");
    return client->eof;
}

START_TEST(a_head_byte_by_byte_has_the_same_deadline)
{
    struct client *client = client_tcp();
    client_send(client, "GET /");
    run_until(drip, client);
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 408);
    client_free(client);
}
END_TEST

START_TEST(a_second_head_byte_by_byte_has_a_deadline_too)
{
    struct client *client = client_tcp();
    client_get(client, "/hello");
    client_reply(client, &reply);
    run_until(drip, client);
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 408);
    client_free(client);
}
END_TEST

static bool long_passed(void *arg)
{
    return clock_monotonic_us() > *(int64_t *)arg + 5 * SHORT_MS * US_PER_MS;
}

START_TEST(a_quiet_kept_connection_outlives_the_head_deadline)
{
    struct client *client = client_tcp();
    client_get(client, "/hello");
    client_reply(client, &reply);
    int64_t now = clock_monotonic_us();
    run_until(long_passed, &now);
    client_get(client, "/hello");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    client_free(client);
}
END_TEST

START_TEST(a_slow_body_is_answered_408)
{
    struct client *client = client_local();
    client_send(client, "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    run_until(drip, client);
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 408);
    ck_assert_uint_eq(seen.requests, 0);
    client_free(client);
}
END_TEST

START_TEST(a_slow_upload_is_gone_for_its_handler)
{
    struct client *client = client_local();
    client_send(client, UPLOAD "Content-Length: 100\r\n\r\nabc");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 408);
    ck_assert_uint_eq(seen.gone, 1);
    client_free(client);
}
END_TEST

START_TEST(a_request_that_takes_too_long_is_answered_504)
{
    struct client *client = client_local();
    client_get(client, "/wait");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 504);
    ck_assert_uint_eq(seen.gone, 1);
    client_get(client, "/hello");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    client_free(client);
}
END_TEST

START_TEST(a_long_request_may_wait_past_the_deadline)
{
    struct client *client = client_local();
    client_get(client, "/wait");
    run_until_held();
    http_request_long(seen.held);
    int64_t now = clock_monotonic_us();
    run_until(long_passed, &now);
    ck_assert_uint_eq(seen.gone, 0);
    fixture_reply("late");
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "late");
    client_free(client);
}
END_TEST

START_TEST(a_stream_nobody_reads_is_cut_in_the_end)
{
    struct client *client = client_stream(-1);
    client_stop_reading(client);
    while (seen.held && http_stream_send(seen.held, filler, sizeof filler))
        run_some();
    run_until_gone(1);
    client_free(client);
}
END_TEST

static unsigned drained;

static void on_drained(void *arg)
{
    (void)arg;
    drained++;
}

static bool is_drained(void *arg)
{
    (void)arg;
    return drained > 0;
}

START_TEST(draining_ends_what_is_idle_and_finishes_what_is_not)
{
    struct client *idle = client_local(), *waiting = client_local();
    client_get(idle, "/hello");
    client_reply(idle, &reply);
    client_get(waiting, "/wait");
    run_until_held();
    http_server_drain(server, 10000, on_drained, NULL);
    client_until_eof(idle);
    ck_assert_int_ne(access(fixture_socket(), F_OK), 0);
    ck_assert_uint_eq(drained, 0);
    fixture_reply("last");
    client_reply(waiting, &reply);
    ck_assert_str_eq(reply.body.data, "last");
    ck_assert(reply_has(&reply, "Connection: close"));
    run_until(is_drained, NULL);
    ck_assert_uint_eq(fixture_stats().connections, 0);
    client_free(idle);
    client_free(waiting);
}
END_TEST

START_TEST(draining_gives_up_at_its_deadline)
{
    struct client *waiting = client_local();
    client_get(waiting, "/wait");
    run_until_held();
    http_server_drain(server, SHORT_MS, on_drained, NULL);
    run_until(is_drained, NULL);
    ck_assert_uint_eq(seen.gone, 1);
    client_free(waiting);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_deadline");
    TCase *draining = tcase_create("draining");
    tcase_set_timeout(draining, 60);
    tcase_add_checked_fixture(draining, start, stop);
    tcase_add_test(draining, draining_ends_what_is_idle_and_finishes_what_is_not);
    tcase_add_test(draining, draining_gives_up_at_its_deadline);
    suite_add_tcase(suite, draining);
    TCase *deadlines = tcase_create("deadlines");
    tcase_set_timeout(deadlines, 60);
    tcase_add_checked_fixture(deadlines, start_impatient, stop);
    tcase_add_test(deadlines, a_slow_head_is_answered_408);
    tcase_add_test(deadlines, a_head_byte_by_byte_has_the_same_deadline);
    tcase_add_test(deadlines, a_second_head_byte_by_byte_has_a_deadline_too);
    tcase_add_test(deadlines, a_quiet_kept_connection_outlives_the_head_deadline);
    tcase_add_test(deadlines, a_slow_body_is_answered_408);
    tcase_add_test(deadlines, a_slow_upload_is_gone_for_its_handler);
    tcase_add_test(deadlines, a_request_that_takes_too_long_is_answered_504);
    tcase_add_test(deadlines, a_long_request_may_wait_past_the_deadline);
    tcase_add_test(deadlines, a_stream_nobody_reads_is_cut_in_the_end);
    suite_add_tcase(suite, deadlines);
    return run_and_free(suite);
}
