/* The edge's life from outside: keep-alive, bodies, waits, streams. The table of refusals is in
 * test_http_guard.c, listeners and caps in test_http_listen.c, time in test_http_deadline.c. */
#include "http_fixture.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UPLOAD "PUT /upload HTTP/1.1\r\nHost: localhost\r\n" AUTH

static struct reply reply;
static char filler[100000];

static void start(void)
{
    memset(filler, 'x', sizeof filler);
    fixture_start((struct http_config){0});
}

static void stop(void)
{
    buf_free(&reply.body);
    fixture_stop();
}

START_TEST(a_request_is_answered_over_tcp_with_a_token)
{
    struct client *client = client_tcp();
    client_get(client, "/hello");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    ck_assert_str_eq(reply.body.data, "{\"ok\":true}");
    ck_assert(reply_has(&reply, "Content-Type: application/json"));
    ck_assert(reply_has(&reply, "X-Content-Type-Options: nosniff"));
    client_free(client);
}
END_TEST

START_TEST(a_sane_request_id_is_echoed_and_another_is_replaced)
{
    struct client *client = client_local();
    client_send(client, "GET /hello HTTP/1.1\r\nHost: x\r\nX-Request-Id: my-1.a_B\r\n\r\n");
    client_reply(client, &reply);
    ck_assert(reply_has(&reply, "X-Request-Id: my-1.a_B"));
    client_send(client, "GET /hello HTTP/1.1\r\nHost: x\r\nX-Request-Id: not sane\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_ptr_nonnull(strstr(reply.head, "X-Request-Id: rq_"));
    client_free(client);
}
END_TEST

START_TEST(a_problem_has_its_media_type_and_its_request_id)
{
    struct client *client = client_local();
    client_send(client, "GET /problem HTTP/1.1\r\nHost: x\r\nX-Request-Id: me\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 409);
    ck_assert(reply_has(&reply, "Content-Type: application/problem+json"));
    ck_assert_ptr_nonnull(strstr(reply.body.data, "\"code\":\"busy\""));
    ck_assert_ptr_nonnull(strstr(reply.body.data, "\"request_id\":\"me\""));
    client_free(client);
}
END_TEST

START_TEST(a_head_request_gets_the_head_alone)
{
    struct client *client = client_local();
    client_send(client, "HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client_until_eof(client);
    const char *end = strstr(client->in.data, "\r\n\r\n");
    ck_assert_ptr_nonnull(strstr(client->in.data, "Content-Length: 11\r\n"));
    ck_assert_ptr_nonnull(end);
    ck_assert_str_eq(end + 4, "");
    client_free(client);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    struct client *client = client_tcp();
    client_get(client, "/echo/1");
    client_get(client, "/wait");
    client_get(client, "/echo/3");
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "1");
    run_until_held();
    run_some();
    ck_assert_uint_eq(client->in.length, 0);
    fixture_reply("2");
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "2");
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "3");
    ck_assert_uint_eq(fixture_stats().connections_total, 1);
    client_free(client);
}
END_TEST

START_TEST(many_pipelined_requests_larger_than_the_pool_are_answered)
{
    struct client *client = client_tcp();
    auto_buf struct buf text = {0};
    for (int i = 0; i < 500; i++)
        buf_printf(&text, "GET /echo/%d HTTP/1.1\r\nHost: localhost\r\n" AUTH "\r\n", i);
    client_send_bytes(client, text.data, text.length);
    for (int i = 0; i < 500; i++) {
        char wanted[16];
        snprintf(wanted, sizeof wanted, "%d", i);
        client_reply(client, &reply);
        ck_assert_str_eq(reply.body.data, wanted);
    }
    client_free(client);
}
END_TEST

START_TEST(a_buffered_body_is_there_whole_however_it_comes)
{
    struct client *client = client_local();
    client_send(client, "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    run_some();
    ck_assert_uint_eq(seen.requests, 0);
    client_send(client, "def");
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "abcdef");
    client_send(client, "POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "3\r\nabc\r\n3\r\ndef\r\n0\r\nX-Trailer: ignored\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "abcdef");
    client_send(client, "POST /json HTTP/1.1\r\nHost: x\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    ck_assert_uint_eq(reply.body.length, 0);
    client_free(client);
}
END_TEST

START_TEST(a_chunked_body_past_the_limit_is_refused_in_its_midst)
{
    struct client *client = client_local();
    client_send(client,
                "POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n");
    client_send_bytes(client, filler, 2000);
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 413);
    ck_assert(reply_has(&reply, "Connection: close"));
    ck_assert_ptr_nonnull(strstr(reply.body.data, "body_too_large"));
    client_until_eof(client);
    ck_assert_uint_eq(seen.requests, 0);
    client_free(client);
}
END_TEST

START_TEST(a_client_that_asks_first_is_told_to_continue_or_refused_at_once)
{
    struct client *client = client_local();
    client_send(client, "POST /json HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                        "Content-Length: 3\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 100);
    client_send(client, "abc");
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "abc");
    client_send(client, "POST /json HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                        "Content-Length: 3000\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 413);
    client_until_eof(client);
    client_free(client);
}
END_TEST

START_TEST(a_refusal_reads_a_short_body_and_keeps_the_connection)
{
    struct client *client = client_local();
    client_send(client, "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc");
    client_send(client, "deGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 404);
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    client_free(client);
}
END_TEST

START_TEST(a_request_may_wait_while_others_are_served)
{
    struct client *waiting = client_tcp(), *other = client_tcp();
    client_get(waiting, "/wait");
    run_until_held();
    ck_assert_uint_eq(fixture_stats().suspended, 1);
    client_get(other, "/hello");
    client_reply(other, &reply);
    ck_assert_int_eq(reply.status, 200);
    fixture_reply("done");
    client_reply(waiting, &reply);
    ck_assert_str_eq(reply.body.data, "done");
    ck_assert_uint_eq(fixture_stats().suspended, 0);
    client_free(waiting);
    client_free(other);
}
END_TEST

START_TEST(a_client_that_leaves_while_it_waits_is_noticed)
{
    struct client *(*const connect[])(void) = {client_tcp, client_local};
    for (unsigned i = 0; i < 2; i++) {
        struct client *client = connect[i]();
        client_get(client, "/wait");
        run_until_held();
        client_free(client);
        run_until_gone(i + 1);
        run_some();
        ck_assert_uint_eq(fixture_stats().suspended, 0);
        ck_assert_uint_eq(fixture_stats().connections, 0);
    }
}
END_TEST

START_TEST(a_client_that_left_before_the_handler_was_called_is_noticed)
{
    struct client *client = client_tcp();
    client_get(client, "/wait");
    client_free(client);
    run_until_gone(1);
    ck_assert_ptr_null(seen.held);
}
END_TEST

START_TEST(an_upload_comes_in_pieces_and_is_counted)
{
    struct client *client = client_local();
    client_send(client, UPLOAD "Content-Length: 100000\r\n\r\n");
    client_send_bytes(client, filler, sizeof filler);
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "100000");
    ck_assert_uint_eq(fixture_stats().bytes_in, 100000);
    client_free(client);
}
END_TEST

/* More than a piece: what is gathered of a body is handed on in pieces of 128 KiB. */
static void upload_paused(const char *framing, const char *before, const char *after)
{
    struct client *client = client_local();
    seen.pause_body = true;
    client_send(client, UPLOAD);
    client_send(client, framing);
    client_send(client, before);
    client_send_bytes(client, filler, 100000);
    client_send_bytes(client, filler, 50000);
    run_until_held();
    run_some();
    size_t before_pause = seen.body_bytes;
    ck_assert_uint_gt(before_pause, 0);
    ck_assert_uint_lt(before_pause, 150000);
    uint64_t turns = loop_turns(loop);
    run_some();
    /* A pause that is a refusal to read would turn the loop thousands of times. */
    ck_assert_uint_lt(loop_turns(loop) - turns, 200);
    ck_assert_uint_eq(seen.body_bytes, before_pause);
    seen.pause_body = false;
    http_request_pause_body(seen.held, false);
    client_send(client, after);
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "150000");
    client_free(client);
}

START_TEST(a_paused_upload_waits_without_turning_the_loop)
{
    upload_paused("Content-Length: 150000\r\n\r\n", "", "");
}
END_TEST

START_TEST(a_paused_chunked_upload_waits_too)
{
    upload_paused("Transfer-Encoding: chunked\r\n\r\n", "249f0\r\n", "\r\n0\r\n\r\n");
}
END_TEST

START_TEST(a_pause_at_the_last_piece_holds_the_end_back)
{
    struct client *client = client_local();
    seen.pause_body = true;
    client_send(client, UPLOAD "Content-Length: 3\r\n\r\nabc");
    run_until_held();
    run_some();
    ck_assert_uint_eq(seen.body_bytes, 3);
    ck_assert_uint_eq(seen.body_ends, 0);
    http_request_pause_body(seen.held, false);
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "3");
    client_free(client);
}
END_TEST

START_TEST(a_client_that_dies_in_a_paused_upload_is_noticed)
{
    struct client *client = client_tcp();
    seen.pause_body = true;
    client_send(client, UPLOAD "Content-Length: 100000\r\n\r\n");
    client_send_bytes(client, filler, 50000);
    run_until_held();
    struct linger reset = {.l_onoff = 1};
    ck_assert_int_eq(setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    client_free(client);
    run_until_gone(1);
}
END_TEST

START_TEST(an_upload_that_ends_early_is_gone)
{
    struct client *client = client_local();
    client_send(client, UPLOAD "Content-Length: 100000\r\n\r\nabc");
    run_until_held();
    client_free(client);
    run_until_gone(1);
    ck_assert_uint_eq(seen.body_ends, 0);
}
END_TEST

START_TEST(a_handler_may_refuse_an_upload_at_its_head)
{
    struct client *client = client_local();
    seen.reply_at_head = true;
    client_send(client, UPLOAD "Content-Length: 1000000\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 409);
    client_until_eof(client);
    client_free(client);
    client = client_local();
    client_send(client, UPLOAD "Content-Length: 3\r\n\r\nabc");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 409);
    client_get(client, "/hello");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    ck_assert_uint_eq(seen.body_bytes + seen.body_ends + seen.gone, 0);
    client_free(client);
}
END_TEST

START_TEST(a_handler_may_refuse_an_upload_in_its_midst)
{
    struct client *client = client_tcp();
    seen.refuse_body = true;
    client_send(client, UPLOAD "Content-Length: 1000000\r\n\r\n");
    client_send_bytes(client, filler, sizeof filler);
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 422);
    ck_assert(reply_has(&reply, "Connection: close"));
    ck_assert_str_eq(reply.body.data, "{\"refused\":true}");
    /* It may go on sending for a while and is not reset. */
    for (int i = 0; i < 9; i++)
        client_send_bytes(client, filler, sizeof filler);
    ck_assert(!client->send_failed);
    client_until_eof(client);
    ck_assert_uint_eq(seen.gone + seen.body_ends, 0);
    client_free(client);
}
END_TEST

START_TEST(a_streamed_reply_goes_out_as_it_is_sent)
{
    struct client *client = client_stream(-1);
    ck_assert(http_stream_send(seen.held, "one ", 4));
    run_some();
    ck_assert_ptr_nonnull(strstr(client->in.data, "one "));
    ck_assert(http_stream_send(seen.held, "two", 3));
    http_stream_end(seen.held, true);
    client_reply(client, &reply);
    ck_assert_str_eq(reply.body.data, "one two");
    client_get(client, "/hello");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    ck_assert_uint_eq(seen.gone, 0);
    client_free(client);
}
END_TEST

START_TEST(a_stream_of_known_length_keeps_the_connection)
{
    struct client *client = client_stream(6);
    http_stream_send(seen.held, "abc", 3);
    run_some();
    http_stream_send(seen.held, "def", 3);
    http_stream_end(seen.held, true);
    client_reply(client, &reply);
    ck_assert(reply_has(&reply, "Content-Length: 6"));
    ck_assert_str_eq(reply.body.data, "abcdef");
    client_get(client, "/hello");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    client_free(client);
}
END_TEST

START_TEST(a_stream_that_fails_is_seen_to_be_cut)
{
    struct client *client = client_stream(-1);
    http_stream_send(seen.held, "part", 4);
    http_stream_end(seen.held, false);
    client_until_eof(client);
    ck_assert_ptr_nonnull(strstr(client->in.data, "part"));
    ck_assert_ptr_null(strstr(client->in.data, "\r\n0\r\n\r\n"));
    client_free(client);
}
END_TEST

static bool was_writable(void *arg)
{
    (void)arg;
    return seen.writable > 0;
}

START_TEST(a_slow_reader_holds_the_sender_back)
{
    struct client *client = client_stream(-1);
    size_t sent = 0;
    client_stop_reading(client);
    for (bool more = true; more; sent += sizeof filler) {
        more = http_stream_send(seen.held, filler, sizeof filler);
        run_some();
        ck_assert_uint_lt(sent, 64 << 20);
    }
    run_some();
    ck_assert_uint_eq(seen.writable, 0);
    client_start_reading(client);
    run_until(was_writable, NULL);
    ck_assert(http_stream_send(seen.held, "end", 3));
    http_stream_end(seen.held, true);
    client_reply(client, &reply);
    ck_assert_uint_eq(reply.body.length, sent + 3);
    ck_assert_uint_eq(fixture_stats().bytes_out, sent + 3);
    client_free(client);
}
END_TEST

START_TEST(a_client_that_leaves_a_stream_is_noticed)
{
    struct client *client = client_stream(-1);
    http_stream_send(seen.held, "part", 4);
    run_some();
    client_free(client);
    run_until_gone(1);
    client = client_stream(-1);
    client_stop_reading(client);
    while (http_stream_send(seen.held, filler, sizeof filler))
        run_some();
    client_free(client);
    run_until_gone(2);
}
END_TEST

START_TEST(a_head_request_for_a_stream_ends_it)
{
    struct client *client = client_local();
    client_send(client, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    run_until_held();
    http_stream_begin(seen.held, 200, "text/plain", -1, &fixture_stream_events, NULL);
    run_until_gone(1);
    client_get(client, "/hello");
    client_free(client);
}
END_TEST

START_TEST(freeing_the_server_ends_every_request)
{
    struct client *clients[4] = {client_local(), client_stream(-1), client_local(), client_local()};
    http_stream_send(seen.held, "part", 4);
    seen.held = NULL;
    client_get(clients[0], "/wait");
    run_until_held();
    seen.held = NULL;
    seen.pause_body = true;
    client_send(clients[2], UPLOAD "Content-Length: 100\r\n\r\nabc");
    run_until_held();
    client_send(clients[3], "GET /hel");
    run_some();
    http_server_free(server);
    server = NULL;
    ck_assert_uint_eq(seen.gone, 3);
    for (int i = 0; i < 4; i++) {
        client_until_eof(clients[i]);
        client_free(clients[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *test_case = tcase_create("http");
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, start, stop);
    tcase_add_test(test_case, a_request_is_answered_over_tcp_with_a_token);
    tcase_add_test(test_case, a_sane_request_id_is_echoed_and_another_is_replaced);
    tcase_add_test(test_case, a_problem_has_its_media_type_and_its_request_id);
    tcase_add_test(test_case, a_head_request_gets_the_head_alone);
    tcase_add_test(test_case, pipelined_requests_are_answered_in_order);
    tcase_add_test(test_case, many_pipelined_requests_larger_than_the_pool_are_answered);
    tcase_add_test(test_case, a_buffered_body_is_there_whole_however_it_comes);
    tcase_add_test(test_case, a_chunked_body_past_the_limit_is_refused_in_its_midst);
    tcase_add_test(test_case, a_client_that_asks_first_is_told_to_continue_or_refused_at_once);
    tcase_add_test(test_case, a_refusal_reads_a_short_body_and_keeps_the_connection);
    tcase_add_test(test_case, a_request_may_wait_while_others_are_served);
    tcase_add_test(test_case, a_client_that_leaves_while_it_waits_is_noticed);
    tcase_add_test(test_case, a_client_that_left_before_the_handler_was_called_is_noticed);
    tcase_add_test(test_case, an_upload_comes_in_pieces_and_is_counted);
    tcase_add_test(test_case, a_paused_upload_waits_without_turning_the_loop);
    tcase_add_test(test_case, a_paused_chunked_upload_waits_too);
    tcase_add_test(test_case, a_pause_at_the_last_piece_holds_the_end_back);
    tcase_add_test(test_case, a_client_that_dies_in_a_paused_upload_is_noticed);
    tcase_add_test(test_case, an_upload_that_ends_early_is_gone);
    tcase_add_test(test_case, a_handler_may_refuse_an_upload_at_its_head);
    tcase_add_test(test_case, a_handler_may_refuse_an_upload_in_its_midst);
    tcase_add_test(test_case, a_streamed_reply_goes_out_as_it_is_sent);
    tcase_add_test(test_case, a_stream_of_known_length_keeps_the_connection);
    tcase_add_test(test_case, a_stream_that_fails_is_seen_to_be_cut);
    tcase_add_test(test_case, a_slow_reader_holds_the_sender_back);
    tcase_add_test(test_case, a_client_that_leaves_a_stream_is_noticed);
    tcase_add_test(test_case, a_head_request_for_a_stream_ends_it);
    tcase_add_test(test_case, freeing_the_server_ends_every_request);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
