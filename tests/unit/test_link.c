#include "link_pair.h"

#include "agent.pb-c.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct link_pair pair;
/* What a relay between the two ends passes at a time; 0: no relay. */
static const size_t chops[] = {0, 1, 137, 143, 65536};
#define CHOPS (int)(sizeof chops / sizeof *chops)
#define MIB ((size_t)1 << 20)

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
    ck_assert_str_eq(caller.last, "\x12\x03"
                                  "0.1");
}
END_TEST

START_TEST(no_callback_comes_from_within_a_call_into_the_link)
{
    link_pair_open(&pair, 0);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Fail", "x", true, 0);
    link_free(pair.server);
    pair.server = NULL;
    struct hearth_failure failure;
    struct caller second = {.pair = &pair};
    Hearth__Agent__V1__Empty empty = HEARTH__AGENT__V1__EMPTY__INIT;
    /* It is written at once, into a closed stream. */
    ck_assert_int_eq(link_call_unary(&second.call, pair.client, ECHO_PATH "Unary", 0, &empty.base,
                                     &caller_events, &second, &failure),
                     0);
    ck_assert_int_eq(caller.ended + second.ended + pair.client_downs, 0);
    RUN_UNTIL(&pair, pair.client_downs);
    ck_assert_int_eq(caller.ended + second.ended, 2);
}
END_TEST

START_TEST(a_client_streams_and_gets_one_answer)
{
    link_pair_open(&pair, chops[_i]);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Collect", NULL, false, 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(link_call_send_bytes(caller.call, "0123456789", (size_t)i % 11), 0);
    link_call_finish(caller.call);
    ck_assert_int_eq(link_call_send_bytes(caller.call, "late", 4), HEARTH_ECANCELLED);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_OK);
    ck_assert_str_eq(caller.last, "495");
}
END_TEST

START_TEST(a_server_streams_messages_of_every_size)
{
    static const char *const wanted[] = {"1000 0", "500 7", "20 4096", "3 70000"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        link_pair_open(&pair, chops[_i]);
        struct caller caller = {0};
        caller_start(&caller, &pair, "Repeat", wanted[i], true, 0);
        unsigned long count, size;
        ck_assert_int_eq(sscanf(wanted[i], "%lu %lu", &count, &size), 2);
        RUN_UNTIL(&pair, caller.ended);
        ck_assert_int_eq(caller.status, LINK_STATUS_OK);
        ck_assert_uint_eq(caller.messages, count);
        ck_assert_uint_eq(caller.bytes, count * size);
        if (i + 1 < sizeof wanted / sizeof *wanted)
            link_pair_close(&pair);
    }
}
END_TEST

static void answer_until_ten(struct caller *caller)
{
    if (caller->messages < 10)
        ck_assert_int_eq(link_call_send_bytes(caller->call, caller->last, strlen(caller->last)), 0);
    else
        link_call_finish(caller->call);
}

START_TEST(both_sides_talk_in_turn)
{
    link_pair_open(&pair, chops[_i]);
    struct caller caller = {.at_message = answer_until_ten};
    caller_start(&caller, &pair, "Chat", "ping", false, 0);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_OK);
    ck_assert_int_eq(caller.messages, 10);
}
END_TEST

START_TEST(two_hundred_calls_go_side_by_side)
{
    link_pair_open(&pair, chops[_i]);
    struct caller callers[200] = {0};
    unsigned ended = 0;
    for (int i = 0; i < 200; i++) {
        char text[16];
        snprintf(text, sizeof text, "call %d", i);
        caller_start(&callers[i], &pair, "Unary", text, true, 60000);
    }
    while (ended < 200) {
        link_pair_turn(&pair);
        ended = 0;
        for (int i = 0; i < 200; i++)
            ended += callers[i].ended;
    }
    for (int i = 0; i < 200; i++) {
        char text[16];
        snprintf(text, sizeof text, "call %d", i);
        ck_assert_int_eq(callers[i].status, LINK_STATUS_OK);
        ck_assert_str_eq(callers[i].last, text);
    }
}
END_TEST

START_TEST(a_call_too_many_is_refused_and_the_others_go_on)
{
    link_pair_open(&pair, 0);
    static struct caller callers[LINK_CALLS_MAX]; /* some end with the link, after this function */
    for (int i = 0; i < LINK_CALLS_MAX; i++)
        caller_start(&callers[i], &pair, "Never", "x", true, 0);
    struct hearth_failure failure;
    struct link_call *call;
    ck_assert_int_eq(
        link_call_start(&call, pair.client, ECHO_PATH "Unary", 0, &caller_events, NULL, &failure),
        HEARTH_EQUOTA);
    RUN_UNTIL(&pair, pair.echo.started == LINK_CALLS_MAX);
    link_call_cancel(callers[7].call);
    ck_assert_int_eq(callers[7].ended, 1);
    struct caller next = {0};
    caller_start(&next, &pair, "Unary", "x", true, 0);
    RUN_UNTIL(&pair, next.ended);
    ck_assert_int_eq(next.status, LINK_STATUS_OK);
    ck_assert_int_eq(pair.echo.ended, 2);
    ck_assert_int_eq(pair.client_downs + pair.server_downs, 0);
}
END_TEST

START_TEST(a_status_and_its_text_arrive_as_they_were_sent)
{
    link_pair_open(&pair, 0);
    struct caller failing = {0}, unknown = {0};
    caller_start(&failing, &pair, "Fail", NULL, true, 0);
    caller_start(&unknown, &pair, "Nothing", NULL, false, 0);
    RUN_UNTIL(&pair, failing.ended && unknown.ended);
    ck_assert_int_eq(failing.status, LINK_STATUS_INVALID_ARGUMENT);
    ck_assert_str_eq(failing.text, ECHO_FAILURE);
    ck_assert_int_eq(unknown.status, LINK_STATUS_UNIMPLEMENTED);

    struct hearth_failure failure;
    ck_assert_int_eq(link_status_failure(failing.status, failing.text, &failure), HEARTH_EINVALID);
    ck_assert_str_eq(failure.detail, ECHO_FAILURE);
    ck_assert_int_eq(link_status_failure(99, NULL, &failure), HEARTH_EIO);
}
END_TEST

static void pause_once(struct caller *caller)
{
    if (caller->messages == 1)
        link_call_pause(caller->call, true);
}

/* Turns until the sender has found that it cannot go on. */
static void run_until_stuck(size_t *progress)
{
    size_t before;
    do {
        before = *progress;
        for (int i = 0; i < 2000; i++)
            link_pair_poll(&pair);
    } while (*progress != before);
}

START_TEST(a_paused_reader_stops_the_sender_and_no_other_call)
{
    link_pair_open(&pair, chops[_i]);
    struct caller caller = {.at_message = pause_once}, other = {0};
    caller_start(&caller, &pair, "Repeat", "128 262144", true, 0);
    RUN_UNTIL(&pair, caller.messages);
    run_until_stuck(&pair.echo.sent);
    ck_assert_int_eq(caller.messages, 1);
    ck_assert_uint_lt(pair.echo.sent, LINK_WINDOW + 3 * MIB);
    ck_assert_uint_lt(pair.echo.queued_most, LINK_SEND_LOW_WATER + MIB);

    caller_start(&other, &pair, "Unary", "I go on", true, 0);
    RUN_UNTIL(&pair, other.ended);
    ck_assert_int_eq(other.status, LINK_STATUS_OK);

    link_call_pause(caller.call, false);
    ck_assert_int_eq(caller.messages, 1);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_uint_eq(caller.bytes, 32 * MIB);
    ck_assert_int_eq(caller.status, LINK_STATUS_OK);
}
END_TEST

static void pause_for_one(struct caller *caller)
{
    link_call_pause(caller->call, true);
}

START_TEST(a_reader_may_take_one_message_at_a_time)
{
    link_pair_open(&pair, 65536);
    struct caller caller = {.at_message = pause_for_one};
    caller_start(&caller, &pair, "Repeat", "300 60000", true, 0);
    while (!caller.ended) {
        unsigned before = caller.messages;
        link_call_pause(caller.call, false);
        while (!caller.ended && caller.messages == before)
            link_pair_turn(&pair);
        ck_assert_uint_le(caller.messages, before + 1);
        ck_assert_uint_le(pair.echo.sent, caller.bytes + LINK_WINDOW + 3 * MIB);
    }
    ck_assert_uint_eq(caller.messages, 300);
    ck_assert_int_eq(caller.status, LINK_STATUS_OK);
}
END_TEST

START_TEST(the_largest_message_passes_and_a_larger_one_is_refused)
{
    link_pair_open(&pair, chops[_i]);
    struct caller callers[3] = {0};
    char *message = calloc(1, LINK_MESSAGE_MAX + 1);
    ck_assert_ptr_nonnull(message);
    for (int i = 0; i < 3; i++) {
        caller_start(&callers[i], &pair, "Unary", NULL, false, 0);
        ck_assert_int_eq(link_call_send_bytes(callers[i].call, message, LINK_MESSAGE_MAX + 1),
                         HEARTH_ETOOLARGE);
        ck_assert_int_eq(link_call_send_bytes(callers[i].call, message, LINK_MESSAGE_MAX), 0);
        link_call_finish(callers[i].call);
    }
    free(message);
    RUN_UNTIL(&pair, callers[0].ended && callers[1].ended && callers[2].ended);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(callers[i].status, LINK_STATUS_OK);
        ck_assert_uint_eq(callers[i].bytes, LINK_MESSAGE_MAX);
    }
}
END_TEST

START_TEST(a_sender_is_told_when_its_queue_is_short_again)
{
    link_pair_open(&pair, 65536);
    struct caller caller = {0};
    char *message = calloc(1, LINK_SEND_LOW_WATER);
    caller_start(&caller, &pair, "Collect", NULL, false, 0);
    ck_assert_int_eq(link_call_send_bytes(caller.call, message, LINK_SEND_LOW_WATER), 0);
    ck_assert_uint_gt(link_call_queued(caller.call), LINK_SEND_LOW_WATER);
    RUN_UNTIL(&pair, caller.writable);
    ck_assert_uint_lt(link_call_queued(caller.call), LINK_SEND_LOW_WATER);
    ck_assert_int_eq(link_call_send_bytes(caller.call, message, 10), 0);
    link_call_finish(caller.call);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.writable, 1);
    ck_assert_str_eq(caller.last, "524298");
    free(message);
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
    tcase_add_test(calls, no_callback_comes_from_within_a_call_into_the_link);
    tcase_add_loop_test(calls, a_client_streams_and_gets_one_answer, 0, CHOPS);
    tcase_add_loop_test(calls, a_server_streams_messages_of_every_size, 0, CHOPS);
    tcase_add_loop_test(calls, both_sides_talk_in_turn, 0, CHOPS);
    tcase_add_loop_test(calls, two_hundred_calls_go_side_by_side, 0, CHOPS);
    tcase_add_test(calls, a_call_too_many_is_refused_and_the_others_go_on);
    tcase_add_test(calls, a_status_and_its_text_arrive_as_they_were_sent);
    suite_add_tcase(suite, calls);

    TCase *flow = tcase_create("flow");
    tcase_set_timeout(flow, 60);
    tcase_add_checked_fixture(flow, NULL, teardown);
    /* Byte by byte 32 MiB would take too long. */
    tcase_add_test(flow, a_sender_is_told_when_its_queue_is_short_again);
    tcase_add_loop_test(flow, a_paused_reader_stops_the_sender_and_no_other_call, 4, CHOPS);
    tcase_add_loop_test(flow, a_paused_reader_stops_the_sender_and_no_other_call, 0, 1);
    tcase_add_test(flow, a_reader_may_take_one_message_at_a_time);
    tcase_add_loop_test(flow, the_largest_message_passes_and_a_larger_one_is_refused, 4, CHOPS);
    tcase_add_loop_test(flow, the_largest_message_passes_and_a_larger_one_is_refused, 0, 1);
    suite_add_tcase(suite, flow);
    return suite;
}

int main(void)
{
    return run_and_free(suite());
}
