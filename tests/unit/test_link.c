#include "link_pair.h"

#include "agent.pb-c.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct link_pair pair;
/* What a relay between the two ends passes at a time; 0: no relay. */
static const size_t chops[] = {0, 1, 137, 143, 65536};
#define CHOPS (int)(sizeof chops / sizeof *chops)

static void teardown(void)
{
    link_pair_close(&pair);
}

START_TEST(a_unary_call_gives_one_message_and_ok)
{
    link_pair_open(&pair, chops[_i]);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Unary", "hello", true, 0);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_OK);
    ck_assert_int_eq(caller.messages, 1);
    ck_assert_int_eq(caller.half_closed, 1);
    ck_assert_str_eq(caller.last, "hello");
    RUN_UNTIL(&pair, pair.echo.ended);
    ck_assert_int_eq(pair.echo.last_status, LINK_STATUS_OK);
}
END_TEST

START_TEST(a_protobuf_message_goes_both_ways)
{
    link_pair_open(&pair, 0);
    struct hearth_failure failure;
    struct caller caller = {.pair = &pair};
    Hearth__Agent__V1__HelloRequest request = HEARTH__AGENT__V1__HELLO_REQUEST__INIT;
    request.daemon_version = (char *)(uintptr_t) "0.1";
    ck_assert_int_eq(link_call_unary(&caller.call, pair.client, ECHO_PATH "Unary", 0, &request.base,
                                     &caller_events, &caller, &failure),
                     0);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_OK);
    ck_assert_int_eq(caller.bytes, 5);
    ck_assert_str_eq(caller.last, "\x12\x03"
                                  "0.1");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("link");
    TCase *calls = tcase_create("calls");
    tcase_set_timeout(calls, 60);
    tcase_add_checked_fixture(calls, NULL, teardown);
    tcase_add_loop_test(calls, a_unary_call_gives_one_message_and_ok, 0, CHOPS);
    tcase_add_test(calls, a_protobuf_message_goes_both_ways);
    suite_add_tcase(suite, calls);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
