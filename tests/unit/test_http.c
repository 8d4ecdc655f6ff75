/* The edge from outside: raw bytes in, replies out. test_http_guard.c has the table of refusals. */
#include "http_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct reply reply;

static void start(void)
{
    fixture_start((struct http_config){0});
}

static void stop(void)
{
    buf_free(&reply.body);
    fixture_stop();
}

static void get(struct client *client, const char *path)
{
    char text[512];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n" AUTH "\r\n", path);
    client_send(client, text);
}

START_TEST(a_request_is_answered_over_tcp_with_a_token)
{
    struct client *client = client_tcp();
    get(client, "/hello");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    ck_assert_str_eq(reply.body.data, "{\"ok\":true}");
    ck_assert(reply_has(&reply, "Content-Type: application/json"));
    client_free(client);
}
END_TEST

START_TEST(the_sockets_own_user_needs_no_token)
{
    struct stat status;
    ck_assert_int_eq(stat(fixture_socket(), &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0660);
    struct client *client = client_local();
    client_send(client, "GET /hello HTTP/1.1\r\nHost: anything\r\n\r\n");
    client_reply(client, &reply);
    ck_assert_int_eq(reply.status, 200);
    client_free(client);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *test_case = tcase_create("http");
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, start, stop);
    tcase_add_test(test_case, a_request_is_answered_over_tcp_with_a_token);
    tcase_add_test(test_case, the_sockets_own_user_needs_no_token);
    suite_add_tcase(suite, test_case);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
