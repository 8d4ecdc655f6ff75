/* How calls and links end: cancelled from either side, past their deadline, with their link, and
 * from within each callback. */
#include "link_pair.h"

#include "guestagent/link_internal.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct link_pair pair;

static void teardown(void)
{
    link_pair_close(&pair);
}

START_TEST(a_call_cancelled_before_it_left_is_never_seen)
{
    link_pair_open(&pair, 0);
    struct caller caller = {0}, next = {0};
    caller_start(&caller, &pair, "Unary", "x", true, 0);
    link_call_cancel(caller.call);
    ck_assert_int_eq(caller.ended, 1);
    ck_assert_int_eq(caller.status, LINK_STATUS_CANCELLED);
    caller_start(&next, &pair, "Unary", "y", true, 0);
    RUN_UNTIL(&pair, next.ended);
    ck_assert_int_eq(next.status, LINK_STATUS_OK);
    ck_assert_int_eq(pair.echo.started, 1);
}
END_TEST

START_TEST(a_call_cancelled_while_it_waits_ends_on_both_sides)
{
    link_pair_open(&pair, _i);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Never", "x", _i % 2, 600000);
    RUN_UNTIL(&pair, pair.echo.received);
    link_call_cancel(caller.call);
    ck_assert_int_eq(caller.ended, 1);
    RUN_UNTIL(&pair, pair.echo.ended);
    ck_assert_int_eq(pair.echo.last_status, LINK_STATUS_CANCELLED);
}
END_TEST

/* What the kernel has not taken of it yet is still to follow. */
START_TEST(a_call_cancelled_in_the_middle_of_its_message_breaks_no_other)
{
    link_pair_open(&pair, _i ? 65536 : 0);
    struct caller large = {0}, next = {0};
    uint8_t *message = link_message_new(LINK_MESSAGE_MAX);
    ck_assert_ptr_nonnull(message);
    memset(message, 0xee, LINK_MESSAGE_MAX);
    caller_start(&large, &pair, "Collect", NULL, false, 0);
    RUN_UNTIL(&pair, pair.echo.started);
    ck_assert_int_eq(link_call_send_message(large.call, message, LINK_MESSAGE_MAX), 0);
    while (link_call_queued(large.call) > LINK_MESSAGE_MAX)
        link_pair_turn(&pair);
    ck_assert_uint_gt(link_call_queued(large.call), 0);
    link_call_cancel(large.call);
    caller_start(&next, &pair, "Unary", "after it", true, 0);
    RUN_UNTIL(&pair, next.ended && pair.echo.cancelled);
    ck_assert_int_eq(next.status, LINK_STATUS_OK);
    ck_assert_str_eq(next.last, "after it");
    ck_assert_uint_eq(pair.client_downs + pair.server_downs, 0);
}
END_TEST

static void cancel_at_tenth(struct caller *caller)
{
    if (caller->messages == 10)
        link_call_cancel(caller->call);
}

START_TEST(a_stream_cancelled_from_its_own_message_stops)
{
    link_pair_open(&pair, _i);
    struct caller caller = {.at_message = cancel_at_tenth}, next = {0};
    caller_start(&caller, &pair, "Repeat", "100000 1000", true, 0);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.messages, 10);
    ck_assert_int_eq(caller.status, LINK_STATUS_CANCELLED);
    RUN_UNTIL(&pair, pair.echo.cancelled);
    caller_start(&next, &pair, "Repeat", "100 100000", true, 0);
    RUN_UNTIL(&pair, next.ended);
    ck_assert_int_eq(next.status, LINK_STATUS_OK);
}
END_TEST

START_TEST(paused_calls_that_are_cancelled_give_their_window_back)
{
    link_pair_open(&pair, 0);
    for (int i = 0; i < 12; i++) {
        struct caller caller = {0};
        caller_start(&caller, &pair, "Repeat", "64 131072", true, 0);
        link_call_pause(caller.call, true);
        size_t before = pair.echo.sent;
        RUN_UNTIL(&pair, pair.echo.sent >= before + ((size_t)3 << 20));
        link_call_cancel(caller.call);
    }
    ck_assert_uint_eq(pair.client->held, 0);
    ck_assert_uint_eq(pair.client->buffered, 0);
    struct caller last = {0};
    caller_start(&last, &pair, "Repeat", "64 131072", true, 0);
    RUN_UNTIL(&pair, last.ended);
    ck_assert_uint_eq(last.bytes, 64 * 131072);
}
END_TEST

START_TEST(a_server_that_gives_up_is_seen_as_a_cancel)
{
    link_pair_open(&pair, 0);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Drop", "x", false, 0);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_CANCELLED);
    ck_assert_int_eq(pair.echo.ended, 1);
}
END_TEST

START_TEST(a_server_that_answers_early_ends_the_senders_stream)
{
    link_pair_open(&pair, 0);
    struct caller caller = {0};
    char *message = calloc(1, LINK_MESSAGE_MAX);
    caller_start(&caller, &pair, "Fail", NULL, false, 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(link_call_send_bytes(caller.call, message, LINK_MESSAGE_MAX), 0);
    free(message);
    RUN_UNTIL(&pair, caller.ended && pair.echo.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_INVALID_ARGUMENT);
    ck_assert_int_eq(pair.echo.last_status, LINK_STATUS_INVALID_ARGUMENT);
}
END_TEST

START_TEST(past_its_deadline_a_call_ends_on_both_sides)
{
    link_pair_open(&pair, 0);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Never", "x", true, 30);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_DEADLINE_EXCEEDED);
    RUN_UNTIL(&pair, pair.echo.ended);
    ck_assert_int_eq(pair.client_downs + pair.server_downs, 0);
}
END_TEST

START_TEST(a_server_keeps_the_deadline_too)
{
    link_pair_open(&pair, 0);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Never", "x", true, 30);
    event_del(caller.call->deadline);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.status, LINK_STATUS_DEADLINE_EXCEEDED);
    ck_assert_int_eq(pair.echo.last_status, LINK_STATUS_DEADLINE_EXCEEDED);
}
END_TEST

START_TEST(a_link_that_dies_ends_its_calls_first)
{
    link_pair_open(&pair, 0);
    struct caller callers[3] = {0};
    caller_start(&callers[0], &pair, "Never", "x", true, 600000);
    caller_start(&callers[1], &pair, "Repeat", "1000000 1000", true, 0);
    caller_start(&callers[2], &pair, "Collect", "x", false, 0);
    RUN_UNTIL(&pair, callers[1].messages && pair.echo.started == 3);
    link_free(pair.server);
    pair.server = NULL;
    ck_assert_int_eq(pair.echo.cancelled, 3);
    ck_assert_int_eq(pair.server_downs, 0);
    RUN_UNTIL(&pair, pair.client_downs);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(callers[i].ended, 1);
        ck_assert_int_eq(callers[i].status, LINK_STATUS_UNAVAILABLE);
    }
    ck_assert_int_eq(pair.client_why.error, HEARTH_EUNAVAILABLE);
    struct hearth_failure failure;
    struct link_call *call;
    ck_assert_int_eq(
        link_call_start(&call, pair.client, ECHO_PATH "Unary", 0, &caller_events, NULL, &failure),
        HEARTH_EUNAVAILABLE);
    for (int i = 0; i < 10; i++)
        link_pair_poll(&pair);
    ck_assert_int_eq(pair.client_downs, 1);
}
END_TEST

START_TEST(an_answer_just_before_the_end_of_the_stream_counts)
{
    link_pair_open(&pair, 65536);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Unary", "x", true, 0);
    RUN_UNTIL(&pair, pair.echo.ended);
    link_free(pair.server);
    pair.server = NULL;
    RUN_UNTIL(&pair, pair.client_downs);
    ck_assert_int_eq(caller.status, LINK_STATUS_OK);
    ck_assert_str_eq(caller.last, "x");
}
END_TEST

static void free_client(struct caller *caller)
{
    struct link *link = caller->pair->client;
    caller->pair->client = NULL;
    link_free(link);
    if (caller->call)
        ck_abort_msg("link_free ends the calls");
}

START_TEST(a_link_may_be_freed_in_a_message)
{
    link_pair_open(&pair, _i);
    struct caller caller = {.at_message = free_client}, other = {0};
    caller_start(&other, &pair, "Repeat", "100 10000", true, 0);
    caller_start(&caller, &pair, "Repeat", "100 10000", true, 0);
    RUN_UNTIL(&pair, caller.ended);
    ck_assert_int_eq(caller.messages, 1);
    ck_assert_int_eq(caller.status, LINK_STATUS_CANCELLED);
    ck_assert_int_eq(other.ended, 1);
    RUN_UNTIL(&pair, pair.server_downs);
    ck_assert_int_eq(pair.echo.ended, pair.echo.started);
    ck_assert_int_eq(pair.client_downs, 0);
}
END_TEST

static void free_client_once(struct caller *caller)
{
    if (caller->pair->client)
        free_client(caller);
}

START_TEST(a_link_may_be_freed_at_the_end_of_a_call)
{
    link_pair_open(&pair, 0);
    struct caller callers[3] = {0};
    for (int i = 0; i < 3; i++) {
        callers[i].at_end = free_client_once;
        caller_start(&callers[i], &pair, "Unary", "x", true, 0);
    }
    RUN_UNTIL(&pair, callers[0].ended);
    ck_assert_int_eq(callers[1].ended + callers[2].ended, 2);
    ck_assert_int_eq(pair.client_downs, 0);
}
END_TEST

START_TEST(a_link_may_be_freed_at_the_end_of_a_call_that_is_cancelled)
{
    link_pair_open(&pair, 0);
    struct caller caller = {.at_end = free_client_once};
    caller_start(&caller, &pair, "Never", "x", true, 0);
    RUN_UNTIL(&pair, pair.echo.received);
    link_call_cancel(caller.call);
    ck_assert_ptr_null(pair.client);
    RUN_UNTIL(&pair, pair.server_downs);
}
END_TEST

START_TEST(a_link_may_be_freed_as_it_goes_down)
{
    link_pair_open(&pair, 0);
    struct caller callers[2] = {{.at_end = free_client_once}, {.at_end = free_client_once}};
    caller_start(&callers[0], &pair, "Never", "x", true, 0);
    caller_start(&callers[1], &pair, "Never", "x", true, 0);
    RUN_UNTIL(&pair, pair.echo.started == 2);
    link_free(pair.server);
    pair.server = NULL;
    RUN_UNTIL(&pair, callers[0].ended && callers[1].ended);
    ck_assert_int_eq(pair.client_downs, 0);
}
END_TEST

static struct caller follower;

static void call_again(struct caller *caller)
{
    caller_start(&follower, caller->pair, "Unary", caller->last, true, 0);
}

START_TEST(a_call_may_be_opened_at_the_end_of_another)
{
    link_pair_open(&pair, 0);
    struct caller caller = {.at_end = call_again};
    caller_start(&caller, &pair, "Unary", "again", true, 0);
    RUN_UNTIL(&pair, follower.ended);
    ck_assert_str_eq(follower.last, "again");
}
END_TEST

START_TEST(a_silent_peer_is_given_up)
{
    link_pair_open(&pair, 0);
    /* The server reads nothing any more. */
    event_del(pair.server->read_event);
    link_set_keepalive(pair.client, 20, 20);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Unary", "x", true, 0);
    RUN_UNTIL(&pair, pair.client_downs);
    ck_assert_int_eq(caller.status, LINK_STATUS_UNAVAILABLE);
}
END_TEST

START_TEST(a_peer_that_answers_pings_is_kept)
{
    link_pair_open(&pair, 0);
    struct caller caller = {0};
    caller_start(&caller, &pair, "Unary", "x", true, 0);
    RUN_UNTIL(&pair, caller.ended);
    link_set_keepalive(pair.client, 5, 3600000);
    for (int pings = 0; pings < 3; pings++) {
        int64_t heard = pair.server->received_us;
        RUN_UNTIL(&pair, pair.server->received_us != heard);
    }
    ck_assert_int_eq(pair.client_downs, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("link_end");
    TCase *ends = tcase_create("ends");
    tcase_set_timeout(ends, 60);
    tcase_add_checked_fixture(ends, NULL, teardown);
    tcase_add_test(ends, a_call_cancelled_before_it_left_is_never_seen);
    tcase_add_loop_test(ends, a_call_cancelled_while_it_waits_ends_on_both_sides, 0, 2);
    tcase_add_loop_test(ends, a_call_cancelled_in_the_middle_of_its_message_breaks_no_other, 0, 2);
    tcase_add_loop_test(ends, a_stream_cancelled_from_its_own_message_stops, 0, 1);
    tcase_add_loop_test(ends, a_stream_cancelled_from_its_own_message_stops, 1000, 1001);
    tcase_add_test(ends, paused_calls_that_are_cancelled_give_their_window_back);
    tcase_add_test(ends, a_server_that_gives_up_is_seen_as_a_cancel);
    tcase_add_test(ends, a_server_that_answers_early_ends_the_senders_stream);
    tcase_add_test(ends, past_its_deadline_a_call_ends_on_both_sides);
    tcase_add_test(ends, a_server_keeps_the_deadline_too);
    tcase_add_test(ends, a_link_that_dies_ends_its_calls_first);
    tcase_add_test(ends, an_answer_just_before_the_end_of_the_stream_counts);
    tcase_add_loop_test(ends, a_link_may_be_freed_in_a_message, 0, 1);
    tcase_add_loop_test(ends, a_link_may_be_freed_in_a_message, 300, 301);
    tcase_add_test(ends, a_link_may_be_freed_at_the_end_of_a_call);
    tcase_add_test(ends, a_link_may_be_freed_at_the_end_of_a_call_that_is_cancelled);
    tcase_add_test(ends, a_link_may_be_freed_as_it_goes_down);
    tcase_add_test(ends, a_call_may_be_opened_at_the_end_of_another);
    tcase_add_test(ends, a_silent_peer_is_given_up);
    tcase_add_test(ends, a_peer_that_answers_pings_is_kept);
    suite_add_tcase(suite, ends);
    return suite;
}

int main(void)
{
    return run_and_free(suite());
}
