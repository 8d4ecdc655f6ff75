/* What is refused, row by row as docs/http-edge.md has it: raw bytes to a real server, and the pure
 * functions of guard.c beneath. */
#include "api/guard.h"
#include "http_fixture.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST "Host: localhost\r\n"
#define HELLO "GET /hello HTTP/1.1\r\n"
#define POST "POST /json HTTP/1.1\r\n" HOST AUTH
/* For rows with a NUL in them: sizeof knows better than strlen. */
#define BYTES(text) text, sizeof(text) - 1

/* Who makes the refusal: ours are problem+json with a request ID, the library's HTML. */
enum maker { OURS, LIBRARY };

static const struct row {
    const char *name, *bytes;
    size_t length;
    int status;
    bool closed;
    enum maker maker;
} rows[] = {
    {"a plain request", BYTES(HELLO HOST AUTH "\r\n"), 200, false, OURS},
    {"bare LF ends",
     BYTES("GET /hello HTTP/1.1\nHost: localhost\nAuthorization: Bearer " DOUBLE_TOKEN "\n\n"), 200,
     false, OURS},
    {"more blanks before a value", BYTES(HELLO "Host:  \t localhost\r\n" AUTH "\r\n"), 200, false,
     OURS},
    {"no blank before a value", BYTES(HELLO "Host:localhost\r\n" AUTH "\r\n"), 200, false, OURS},
    {"no Host", BYTES(HELLO AUTH "\r\n"), 400, true, OURS},
    {"no Host in HTTP/1.0", BYTES("GET /hello HTTP/1.0\r\n" AUTH "\r\n"), 400, true, OURS},
    {"two Hosts", BYTES(HELLO HOST HOST AUTH "\r\n"), 400, true, OURS},
    {"absolute-form", BYTES("GET http://evil/hello HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true,
     OURS},
    {"CL and TE", BYTES(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     400, true, OURS},
    {"TE gzip", BYTES(POST "Transfer-Encoding: gzip\r\n\r\nabc"), 400, true, OURS},
    {"TE gzip, chunked", BYTES(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 400, true,
     OURS},
    {"TE xchunked", BYTES(POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), 400, true, OURS},
    {"TE identity and chunked",
     BYTES(POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400,
     true, OURS},
    {"TE in HTTP/1.0",
     BYTES("POST /json HTTP/1.0\r\n" HOST AUTH "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400,
     true, OURS},
    {"two lengths", BYTES(POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), 400, true,
     OURS},
    {"the same length twice", BYTES(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), 400,
     true, OURS},
    {"length +3", BYTES(POST "Content-Length: +3\r\n\r\nabc"), 400, true, LIBRARY},
    {"length 0x3", BYTES(POST "Content-Length: 0x3\r\n\r\nabc"), 400, true, LIBRARY},
    {"length 3, 3", BYTES(POST "Content-Length: 3, 3\r\n\r\nabc"), 400, true, LIBRARY},
    {"length -1", BYTES(POST "Content-Length: -1\r\n\r\nabc"), 400, true, LIBRARY},
    {"length with a trailing blank", BYTES(POST "Content-Length: 3 \r\n\r\nabc"), 400, true,
     LIBRARY},
    {"an overflowing length", BYTES(POST "Content-Length: 99999999999999999999\r\n\r\nabc"), 413,
     true, LIBRARY},
    {"a blank before the colon", BYTES(POST "Content-Length : 3\r\n\r\nabc"), 400, true, OURS},
    {"a fold directly after the colon",
     BYTES(POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"), 400, true, OURS},
    {"a folded value", BYTES(HELLO HOST "X-A: b\r\n c\r\n" AUTH "\r\n"), 400, true, OURS},
    {"a fold of blanks alone", BYTES(HELLO HOST "X-A: b\r\n \r\n" AUTH "\r\n"), 400, true, OURS},
    {"a leading blank in the first header", BYTES(HELLO " " HOST AUTH "\r\n"), 400, true, OURS},
    {"an empty header name", BYTES(HELLO HOST ": x\r\n" AUTH "\r\n"), 400, true, OURS},
    {"a header without a colon", BYTES(HELLO HOST "nonsense\r\n" AUTH "\r\n"), 400, true, LIBRARY},
    {"high bytes in a name", BYTES(HELLO HOST "X\x80\xff: x\r\n" AUTH "\r\n"), 400, true, OURS},
    {"brackets in a name", BYTES(HELLO HOST "X[1]: x\r\n" AUTH "\r\n"), 400, true, OURS},
    {"high bytes in a value", BYTES(HELLO HOST "X-A: \xc3\xa9\r\n" AUTH "\r\n"), 200, false, OURS},
    {"a CR in a value", BYTES(HELLO HOST "X-A: a\rb\r\n" AUTH "\r\n"), 400, true, OURS},
    {"a NUL in a value", BYTES(HELLO HOST "X-A: a\0b\r\n" AUTH "\r\n"), 400, true, OURS},
    {"a NUL at a value's end", BYTES(HELLO HOST "X-A: a\0\r\n" AUTH "\r\n"), 400, true, OURS},
    {"a NUL in a name", BYTES(HELLO HOST "X\0A: a\r\n" AUTH "\r\n"), 400, true, LIBRARY},
    {"a NUL in the target", BYTES("GET /hello\0x HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"chunk extension", BYTES(POST "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n"),
     200, false, OURS},
    {"LF-only chunks", BYTES(POST "Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n"), 200, false,
     OURS},
    {"chunk 0x3", BYTES(POST "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"), 400,
     true, LIBRARY},
    {"chunk +3", BYTES(POST "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"), 400, true,
     LIBRARY},
    {"chunk with a blank", BYTES(POST "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n"),
     400, true, LIBRARY},
    {"negative chunk", BYTES(POST "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n"), 400,
     true, LIBRARY},
    {"overflowing chunk",
     BYTES(POST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n"), 413,
     true, LIBRARY},
    {"chunk without its end",
     BYTES(POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n"), 400, true, LIBRARY},
    {"trailers are ignored",
     BYTES("POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n" AUTH HOST
           "\r\n"),
     401, true, OURS},
    {"HTTP/1.2", BYTES("GET /hello HTTP/1.2\r\n" HOST AUTH "\r\n"), 505, true, OURS},
    {"HTTP/0.9", BYTES("GET /hello\r\n\r\n"), 400, true, LIBRARY},
    {"HTTP/2.0", BYTES("GET /hello HTTP/2.0\r\n" HOST AUTH "\r\n"), 505, true, LIBRARY},
    {"a lower-case version", BYTES("GET /hello http/1.1\r\n" HOST AUTH "\r\n"), 400, true, LIBRARY},
    {"a blank in the target", BYTES("GET /he llo HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"two blanks before the target", BYTES("GET  /hello HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true,
     OURS},
    {"a control byte in the target", BYTES("GET /he\x01llo HTTP/1.1\r\n" HOST AUTH "\r\n"), 400,
     true, OURS},
    {"a high byte in the target", BYTES("GET /echo/\xc3\xa9 HTTP/1.1\r\n" HOST AUTH "\r\n"), 400,
     true, OURS},
    {"%00", BYTES("GET /echo/a%00b HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"%2e%2e%2f", BYTES("GET /echo/%2e%2e%2fx HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"%2e%2e", BYTES("GET /echo/%2e%2e/x HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"..", BYTES("GET /echo/../hello HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"//", BYTES("GET /echo//x HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"%2f", BYTES("GET /echo/a%2fb HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"%zz", BYTES("GET /echo/%zz HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"an escape cut short", BYTES("GET /echo/%4 HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"an overlong escape", BYTES("GET /echo/%c0%af HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true,
     OURS},
    {"%3f is no query", BYTES("GET /echo/a%3fb HTTP/1.1\r\n" HOST AUTH "\r\n"), 200, false, OURS},
    {"a NUL in the query", BYTES("GET /echo/x?a=%00 HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true,
     OURS},
    {"a query key without =", BYTES("GET /echo/x?a HTTP/1.1\r\n" HOST AUTH "\r\n"), 200, false,
     OURS},
    {"a fragment", BYTES("GET /hello#x HTTP/1.1\r\n" HOST AUTH "\r\n"), 400, true, OURS},
    {"an unknown method", BYTES("FETCH /hello HTTP/1.1\r\n" HOST AUTH "\r\n"), 405, false, OURS},
    {"a lower-case method", BYTES("get /hello HTTP/1.1\r\n" HOST AUTH "\r\n"), 405, false, OURS},
    {"CONNECT", BYTES("CONNECT evil:443 HTTP/1.1\r\n" HOST AUTH "\r\n"), 405, true, OURS},
    {"OPTIONS *", BYTES("OPTIONS * HTTP/1.1\r\n" HOST AUTH "\r\n"), 405, true, OURS},
    {"TRACE", BYTES("TRACE /hello HTTP/1.1\r\n" HOST AUTH "\r\n"), 405, false, OURS},
    {"GET with a body", BYTES(HELLO HOST AUTH "Content-Length: 3\r\n\r\nabc"), 400, false, OURS},
    {"GET with chunks", BYTES(HELLO HOST AUTH "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400,
     true, OURS},
    {"an unknown expectation", BYTES(POST "Expect: wonders\r\nContent-Length: 3\r\n\r\nabc"), 400,
     true, OURS},
    {"a length over the limit", BYTES(POST "Content-Length: 100000000\r\n\r\n"), 413, true, OURS},
    {"no token", BYTES(HELLO HOST "\r\n"), 401, false, OURS},
    {"a wrong token", BYTES(HELLO HOST "Authorization: Bearer nonsense\r\n\r\n"), 401, false, OURS},
    {"another scheme", BYTES(HELLO HOST "Authorization: Basic Zm9vOmJhcg==\r\n\r\n"), 401, false,
     OURS},
    {"two tokens", BYTES(HELLO HOST AUTH AUTH "\r\n"), 400, true, OURS},
    {"a foreign Host", BYTES(HELLO "Host: evil.example\r\n" AUTH "\r\n"), 403, false, OURS},
    {"a foreign port in Host", BYTES(HELLO "Host: localhost:1\r\n" AUTH "\r\n"), 403, false, OURS},
    {"a Host that is none", BYTES(HELLO "Host: local@host\r\n" AUTH "\r\n"), 403, false, OURS},
    {"a listed Host", BYTES(HELLO "Host: box.example:99\r\n" AUTH "\r\n"), 200, false, OURS},
    {"the IPv6 loopback", BYTES(HELLO "Host: [::1]\r\n" AUTH "\r\n"), 200, false, OURS},
    {"a foreign Origin", BYTES(HELLO HOST "Origin: http://evil.example\r\n" AUTH "\r\n"), 403,
     false, OURS},
    {"Origin null", BYTES(HELLO HOST "Origin: null\r\n" AUTH "\r\n"), 403, false, OURS},
    {"another port's Origin", BYTES(HELLO HOST "Origin: http://localhost:3000\r\n" AUTH "\r\n"),
     403, false, OURS},
    {"our own Origin", BYTES(HELLO HOST "Origin: http://localhost\r\n" AUTH "\r\n"), 200, false,
     OURS},
    {"a listed Origin",
     BYTES(HELLO HOST "Origin: https://ui.example\r\nSec-Fetch-Site: cross-site\r\n" AUTH "\r\n"),
     200, false, OURS},
    {"cross-site", BYTES(HELLO HOST "Sec-Fetch-Site: cross-site\r\n" AUTH "\r\n"), 403, false,
     OURS},
    {"same-site", BYTES(HELLO HOST "Sec-Fetch-Site: same-site\r\n" AUTH "\r\n"), 403, false, OURS},
    {"cross-site on an open route",
     BYTES("GET /open HTTP/1.1\r\n" HOST "Sec-Fetch-Site: cross-site\r\n\r\n"), 403, false, OURS},
    {"nothing there", BYTES("GET /nothing HTTP/1.1\r\n" HOST AUTH "\r\n"), 404, false, OURS},
};

static struct reply reply;

static void start(void)
{
    fixture_start((struct http_config){.allowed_hosts = "other, box.example",
                                       .allowed_origins = "https://ui.example"});
}

static void stop(void)
{
    buf_free(&reply.body);
    fixture_stop();
}

START_TEST(each_row_is_answered_as_the_table_says)
{
    const struct row *row = &rows[_i];
    bool closed;
    int status = status_of(row->bytes, row->length, &reply, &closed);
    ck_assert_msg(status == row->status, "%s: %d, not %d", row->name, status, row->status);
    ck_assert_msg(closed == row->closed, "%s: %s", row->name, closed ? "closed" : "not closed");
    if (row->status < 400)
        return;
    bool problem = reply_has(&reply, "Content-Type: application/problem+json");
    ck_assert_msg(problem == (row->maker == OURS), "%s: %s", row->name, reply.head);
    if (row->maker == OURS)
        ck_assert_msg(strcasestr(reply.head, "\r\nX-Request-Id: ") != NULL, "%s", row->name);
    if (status == 401)
        ck_assert(reply_has(&reply, "WWW-Authenticate: Bearer"));
    if (status == 405)
        ck_assert(strcasestr(reply.head, "\r\nAllow: ") != NULL);
    ck_assert_uint_eq(seen.requests, 0);
}
END_TEST

/* Sends a head with count headers, or one of length bytes. */
static int status_of_large(size_t target, size_t headers, size_t value)
{
    auto_buf struct buf text = {0};
    bool closed;
    buf_text(&text, "GET /echo/");
    for (size_t i = 0; i < target; i++)
        buf_char(&text, 'x');
    buf_text(&text, " HTTP/1.1\r\n" HOST AUTH);
    for (size_t i = 0; i < headers; i++) {
        buf_printf(&text, "X-%zu: ", i);
        for (size_t j = 0; j < value; j++)
            buf_char(&text, 'v');
        buf_text(&text, "\r\n");
    }
    buf_text(&text, "\r\n");
    return status_of(text.data, text.length, &reply, &closed);
}

START_TEST(heads_are_bounded_and_large_ones_within_the_bounds_are_read)
{
    ck_assert_int_eq(status_of_large(0, 1000, 1), 431);
    ck_assert_int_eq(status_of_large(0, 1, 40000), 431);
    ck_assert_int_eq(status_of_large(40000, 0, 0), 414);
    ck_assert_int_eq(status_of_large(0, 40, 100), 200);
    ck_assert_int_eq(status_of_large(0, 1, 12000), 200);
    ck_assert_int_eq(status_of_large(6000, 0, 0), 200);
}
END_TEST

START_TEST(paths_and_queries_are_decoded_once)
{
    static const char text[] = "GET /echo/a%20b%3F%2541?k%3d=v+w%2B&empty=&none&&z=%C3%A9%0A "
                               "HTTP/1.1\r\n" HOST AUTH "\r\n";
    bool closed;
    ck_assert_int_eq(status_of(text, sizeof text - 1, &reply, &closed), 200);
    ck_assert_str_eq(reply.body.data, "a b?%41|k==v w+|empty=|none=|z=\xc3\xa9\n");
}
END_TEST

START_TEST(a_query_has_a_bounded_number_of_arguments)
{
    char text[1024] = "/x?";
    struct guard_target target;
    for (int i = 0; i < GUARD_QUERY_MAX; i++)
        sprintf(text + strlen(text), "k%d=%d&", i, i);
    char more[1024];
    snprintf(more, sizeof more, "%sone=more", text);
    ck_assert_int_eq(guard_target_parse(text, &target, NULL), 0);
    ck_assert_uint_eq(target.query_count, GUARD_QUERY_MAX);
    ck_assert_str_eq(target.query[31].value, "31");
    ck_assert_int_eq(guard_target_parse(more, &target, NULL), HEARTH_EMALFORMED);
}
END_TEST

START_TEST(request_ids_are_taken_where_they_are_sane)
{
    ck_assert(guard_request_id_valid("a.B_9-"));
    ck_assert(!guard_request_id_valid(""));
    ck_assert(!guard_request_id_valid("a b"));
    ck_assert(!guard_request_id_valid("a\r\nX: y"));
    char text[GUARD_REQUEST_ID_MAX + 2] = "";
    memset(text, 'x', GUARD_REQUEST_ID_MAX);
    ck_assert(guard_request_id_valid(text));
    text[GUARD_REQUEST_ID_MAX] = 'x';
    ck_assert(!guard_request_id_valid(text));
}
END_TEST

START_TEST(a_bearer_token_is_one_word)
{
    ck_assert_str_eq(guard_bearer("Bearer abc"), "abc");
    ck_assert_str_eq(guard_bearer("bEARER   abc"), "abc");
    ck_assert_ptr_null(guard_bearer("Bearer "));
    ck_assert_ptr_null(guard_bearer("Bearer a b"));
    ck_assert_ptr_null(guard_bearer("Bearer a, Basic b"));
    ck_assert_ptr_null(guard_bearer("Basic abc"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_guard");
    TCase *table = tcase_create("table");
    tcase_set_timeout(table, 60);
    tcase_add_checked_fixture(table, start, stop);
    tcase_add_loop_test(table, each_row_is_answered_as_the_table_says, 0,
                        sizeof rows / sizeof rows[0]);
    tcase_add_test(table, heads_are_bounded_and_large_ones_within_the_bounds_are_read);
    tcase_add_test(table, paths_and_queries_are_decoded_once);
    suite_add_tcase(suite, table);
    TCase *pure = tcase_create("pure");
    tcase_add_test(pure, a_query_has_a_bounded_number_of_arguments);
    tcase_add_test(pure, request_ids_are_taken_where_they_are_sane);
    tcase_add_test(pure, a_bearer_token_is_one_word);
    suite_add_tcase(suite, pure);
    return run_and_free(suite);
}
