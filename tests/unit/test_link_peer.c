/* What a hostile peer may send: bytes that are no HTTP/2, messages that are no gRPC's. */
#include "link_pair.h"

#include "guestagent/link_internal.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct link_pair pair;
static int peer = -1; /* the other end of a link that is alone */

static void teardown(void)
{
    link_pair_close(&pair);
    if (peer >= 0)
        close(peer);
    peer = -1;
}

/* Puts these bytes, as they are, in place of a message. */
static void send_raw(struct link_call *call, const void *bytes, size_t length)
{
    struct chunk *chunk = chunk_new(length);
    memcpy(chunk->data, bytes, length);
    list_append(&call->out, &chunk->siblings);
    call->queued += length;
}

START_TEST(a_bad_message_ends_the_call_with_its_status)
{
    static const struct {
        const char *bytes;
        size_t length;
        enum link_status status;
    } bad[] = {
        {"\1\0\0\0\1x", 6, LINK_STATUS_UNIMPLEMENTED},
        {"\2\0\0\0\1x", 6, LINK_STATUS_INTERNAL},
        {"\0\0\x80\0\1x", 6, LINK_STATUS_RESOURCE_EXHAUSTED},
        {"\0\xff\xff\xff\xffx", 6, LINK_STATUS_RESOURCE_EXHAUSTED},
        {"\0\0\0\0\2x", 6, LINK_STATUS_INTERNAL},
        {"\0\0\0", 3, LINK_STATUS_INTERNAL},
    };
    link_pair_open(&pair, _i % 2);
    struct caller caller = {0}, next = {0};
    caller_start(&caller, &pair, "Chat", NULL, false, 0);
    send_raw(caller.call, bad[_i].bytes, bad[_i].length);
    link_call_finish(caller.call);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, bad[_i].status);
    ck_assert_int_eq(pair.echo.last_status, bad[_i].status);
    caller_start(&next, &pair, "Unary", "the link works on", true, 0);
    RUN_UNTIL(&pair, next.ended);
    ck_assert_int_eq(next.status, LINK_STATUS_OK);
}
END_TEST

START_TEST(a_second_answer_to_a_unary_call_is_an_error)
{
    link_pair_open(&pair, 0);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Repeat", "2 10", true, 0);
    caller.call->unary = true;
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_INTERNAL);
    ck_assert_int_eq(caller.messages, 1);
}
END_TEST

START_TEST(what_many_calls_hold_at_once_is_bounded)
{
    link_pair_open(&pair, 0);
    /* 20 messages of 8 MiB, of which the last byte never comes. */
    char *partial = calloc(1, LINK_MESSAGE_MAX + MESSAGE_PREFIX);
    memcpy(partial, "\0\0\x80\0\0", 5);
    static struct caller callers[20];
    for (int i = 0; i < 20; i++) {
        caller_start(&callers[i], &pair, "Collect", NULL, false, 0);
        send_raw(callers[i].call, partial, LINK_MESSAGE_MAX);
    }
    free(partial);
    unsigned refused = 0;
    while (refused < 12) {
        link_pair_turn(&pair);
        ck_assert_uint_le(pair.server->buffered, LINK_BUFFERED_MAX);
        refused = 0;
        for (int i = 0; i < 20; i++)
            refused += callers[i].ended && callers[i].status == LINK_STATUS_RESOURCE_EXHAUSTED;
    }
}
END_TEST

static void server_down(struct link *link, void *arg, const struct hearth_failure *why)
{
    pair.server_downs++;
    ck_assert_int_eq(why->error, HEARTH_EUNAVAILABLE);
}

static void server_call(struct link *link, void *arg, struct link_call *call, const char *path)
{
    echo_on_call(link, &pair.echo, call, path);
}

static const struct link_events alone = {.on_down = server_down, .on_call = server_call};

/* A link whose peer is the test itself. */
static struct link *open_alone(bool server)
{
    int fds[2];
    struct hearth_failure failure;
    struct link *link;
    pair = (struct link_pair){.base = event_base_new(), .relay_fds = {-1, -1}};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    peer = fds[1];
    if (server)
        ck_assert_int_eq(link_new_server(&link, pair.base, fds[0], &alone, NULL, &failure), 0);
    else
        ck_assert_int_eq(link_new_client(&link, pair.base, fds[0], &alone, NULL, &failure), 0);
    if (server)
        pair.server = link;
    else
        pair.client = link;
    return link;
}

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"

static void peer_says(const void *bytes, size_t length)
{
    ck_assert_int_eq(write(peer, bytes, length), (ssize_t)length);
}

START_TEST(garbage_brings_the_link_down_once)
{
#define BYTES(text)                                                                                \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
    static const struct {
        const char *bytes;
        size_t length;
    } garbage[] = {
        BYTES("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        BYTES(PREFACE "\xff\xff\xff\0\0\0\0\0\1"),
        BYTES(PREFACE SETTINGS "\0\0\1\0\0\0\0\0\1x"),
        BYTES(PREFACE SETTINGS "\0\0\5\1\4\0\0\0\1\xff\xff\xff\xff\xff"),
        BYTES(PREFACE SETTINGS "\0\0\4\x8\0\0\0\0\0\0\0\0\0"),
        BYTES(PREFACE SETTINGS "\0\0\1\1\0\0\0\0\1\x82\0\0\0\4\0\0\0\0\0"),
        BYTES(PREFACE SETTINGS "\0\0\x8\7\0\0\0\0\0\0\0\0\0\0\0\0\1"),
        BYTES(""),
    };
#undef BYTES
    bool server = _i % 2 == 0;
    size_t row = (size_t)_i / 2;
    struct link *link = open_alone(server);
    /* A client's peer starts with its settings. */
    size_t skip = !server && garbage[row].length > 24 && garbage[row].bytes[0] == 'P' ? 24 : 0;
    struct caller caller = {.pair = &pair};
    if (!server)
        caller_start(&caller, &pair, "Unary", "x", true, 0);
    peer_says(garbage[row].bytes + skip, garbage[row].length - skip);
    if (row >= 6)
        shutdown(peer, SHUT_WR);
    RUN_UNTIL(&pair, pair.server_downs);
    ck_assert_int_eq(caller.ended, server ? 0 : 1);
    for (int i = 0; i < 5; i++)
        link_pair_poll(&pair);
    ck_assert_int_eq(pair.server_downs, 1);
    ck_assert_ptr_nonnull(link);
}
END_TEST

/* A literal header without indexing. */
static size_t put_header(char *out, const char *name, const char *value)
{
    size_t at = 0;
    out[at++] = 0;
    out[at++] = (char)strlen(name);
    at += (size_t)sprintf(out + at, "%s", name);
    out[at++] = (char)strlen(value);
    return at + (size_t)sprintf(out + at, "%s", value);
}

static size_t put_request(char frame[1024], unsigned stream, const char *method, const char *path,
                          const char *type)
{
    memset(frame, 0, 9);
    size_t at = 9;
    at += put_header(frame + at, ":method", method);
    at += put_header(frame + at, ":scheme", "http");
    at += put_header(frame + at, ":authority", "x");
    at += put_header(frame + at, ":path", path);
    at += put_header(frame + at, "content-type", type);
    frame[1] = (char)((at - 9) >> 8);
    frame[2] = (char)(at - 9);
    frame[3] = 1;
    frame[4] = 5;
    for (int i = 0; i < 4; i++)
        frame[5 + i] = (char)(stream >> (24 - 8 * i));
    return at;
}

static void peer_calls(unsigned stream, const char *method, const char *path, const char *type)
{
    char frame[1024];
    peer_says(frame, put_request(frame, stream, method, path, type));
}

START_TEST(a_request_that_is_no_call_reaches_nobody)
{
    open_alone(true);
    peer_says(PREFACE SETTINGS, 24 + 9);
    peer_calls(1, "GET", ECHO_PATH "Unary", "application/grpc");
    peer_calls(3, "POST", ECHO_PATH "Unary", "text/plain");
    peer_calls(5, "POST", ECHO_PATH "Unary", "application/grpcx");
    peer_calls(7, "POST", "/\xff\xfe", "application/grpc");
    peer_calls(9, "POST", "relative", "application/grpc");
    peer_calls(11, "POST", ECHO_PATH "Never", "application/grpc");
    RUN_UNTIL(&pair, pair.echo.started);
    ck_assert_int_eq(pair.echo.started, 1);
    ck_assert_int_eq(pair.server->call_count, 1);
    ck_assert_int_eq(pair.server_downs, 0);
}
END_TEST

/* Says the same again and again, with stream ids that grow, to a link whose answers nobody reads.
 */
static void flood(const char *frame, size_t length, bool is_request)
{
    char request[1024];
    open_alone(true);
    peer_says(PREFACE SETTINGS, 24 + 9);
    for (unsigned stream = 1; !pair.server_downs; stream += 2) {
        if (is_request)
            length = put_request(request, stream, "GET", "/", "text/plain");
        const char *said = is_request ? request : frame;
        for (size_t at = 0; at < length && !pair.server_downs;) {
            ssize_t sent = send(peer, said + at, length - at, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent > 0)
                at += (size_t)sent;
            else
                link_pair_poll(&pair);
        }
    }
}

START_TEST(a_peer_that_asks_and_never_reads_is_given_up)
{
    static const char ping[] = "\0\0\x8\6\0\0\0\0\0"
                               "12345678";
    flood(ping, sizeof ping - 1, _i == 1);
    ck_assert_int_eq(pair.server_downs, 1);
}
END_TEST

static void pause_first(struct caller *caller)
{
    link_call_pause(caller->call, true);
}

START_TEST(what_a_call_had_to_say_is_dropped_when_the_server_has_ended)
{
    struct link *link = open_alone(false);
    struct caller caller = {.pair = &pair, .at_message = pause_first};
    char *message = calloc(1, LINK_MESSAGE_MAX), heard[65536];
    peer_says(SETTINGS, 9);
    /* Windows, so that a frame waits in nghttp2 for the kernel alone. */
    peer_says("\0\0\4\x8\0\0\0\0\0\x7f\0\0\0", 13);
    peer_says("\0\0\6\4\0\0\0\0\0\0\4\x7f\0\0\0", 15);
    caller_start(&caller, &pair, "Chat", NULL, false, 0);
    ck_assert_int_eq(link_call_send_bytes(caller.call, message, LINK_MESSAGE_MAX), 0);
    free(message);
    for (int i = 0; i < 5; i++)
        link_pair_poll(&pair);
    ck_assert_uint_gt(link_call_queued(caller.call), 0);
    /* :status 200 of the static table, two messages, grpc-status 0. */
    peer_says("\0\0\1\1\4\0\0\0\1\x88", 10);
    peer_says("\0\0\x0c\0\0\0\0\0\1\0\0\0\0\1a\0\0\0\0\1b", 21);
    char trailers[64] = "\0\0\0\1\5\0\0\0\1";
    size_t length = put_header(trailers + 9, "grpc-status", "0");
    trailers[2] = (char)length;
    peer_says(trailers, 9 + length);
    for (int i = 0; i < 100; i++) {
        link_pair_poll(&pair);
        while (recv(peer, heard, sizeof heard, MSG_DONTWAIT) > 0)
            ;
    }
    ck_assert_int_eq(caller.messages, 1);
    ck_assert_uint_eq(link_call_queued(caller.call), 0);
    link_call_pause(caller.call, false);
    caller.at_message = NULL;
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.messages, 2);
    ck_assert_int_eq(caller.status, LINK_STATUS_OK);
    ck_assert_ptr_null(link->broken);
}
END_TEST

START_TEST(texts_of_the_wire_are_read_as_grpc_says)
{
    open_alone(true);
    char out[16], text[64];
    ck_assert_uint_eq(grpc_timeout_format(out, 1500), 5);
    ck_assert_str_eq(out, "1500m");
    grpc_timeout_format(out, 4000000000u);
    ck_assert_str_eq(out, "4000001S");
    ck_assert_uint_eq(grpc_timeout_parse((const uint8_t *)"1500m", 5), 1500);
    ck_assert_uint_eq(grpc_timeout_parse((const uint8_t *)"2S", 2), 2000);
    ck_assert_uint_eq(grpc_timeout_parse((const uint8_t *)"1n", 2), 1);
    ck_assert_uint_eq(grpc_timeout_parse((const uint8_t *)"99999999H", 9), UINT32_MAX);
    ck_assert_uint_eq(grpc_timeout_parse((const uint8_t *)"123456789m", 10), 0);
    ck_assert_uint_eq(grpc_timeout_parse((const uint8_t *)"-1m", 3), 0);
    ck_assert_uint_eq(grpc_timeout_parse((const uint8_t *)"m", 1), 0);

    grpc_message_encode(text, sizeof text, "a%\n\xc3\xa9");
    ck_assert_str_eq(text, "a%25%0A%C3%A9");
    char *decoded = grpc_message_decode((const uint8_t *)"a%25%0a%zz%4\xff%00b", 17);
    ck_assert_str_eq(decoded, "a%\n%zz%4\xef\xbf\xbd b");
    free(decoded);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("link_peer");
    TCase *peers = tcase_create("peer");
    tcase_set_timeout(peers, 60);
    tcase_add_checked_fixture(peers, NULL, teardown);
    tcase_add_loop_test(peers, a_bad_message_ends_the_call_with_its_status, 0, 6);
    tcase_add_test(peers, a_second_answer_to_a_unary_call_is_an_error);
    tcase_add_test(peers, what_many_calls_hold_at_once_is_bounded);
    tcase_add_loop_test(peers, garbage_brings_the_link_down_once, 0, 16);
    tcase_add_test(peers, a_request_that_is_no_call_reaches_nobody);
    tcase_add_loop_test(peers, a_peer_that_asks_and_never_reads_is_given_up, 0, 2);
    tcase_add_test(peers, what_a_call_had_to_say_is_dropped_when_the_server_has_ended);
    tcase_add_test(peers, texts_of_the_wire_are_read_as_grpc_says);
    suite_add_tcase(suite, peers);
    return suite;
}

int main(void)
{
    return run_and_free(suite());
}
