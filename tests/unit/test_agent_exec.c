/* guestagent/agent/exec.c: how commands begin, what is kept of their output, and how they end. */
#include "agent_fixture.h"
#include "suite.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 60000

/* A shell line as exec ID "a", to its end; further fields are the test's. The caller frees the
 * state. */
static Hearth__Agent__V1__ExecState *run(const char *line,
                                         Hearth__Agent__V1__ExecStartRequest request)
{
    struct asked asked = {0};
    char shell[] = "/bin/sh", option[] = "-c", *argv[] = {shell, option, strdup(line)};
    char name[] = "PATH", value[] = "/usr/bin:/bin", id[] = "a";
    Hearth__Agent__V1__EnvironmentVariable path = HEARTH__AGENT__V1__ENVIRONMENT_VARIABLE__INIT;
    Hearth__Agent__V1__EnvironmentVariable *environment[] = {&path};
    Hearth__Agent__V1__ExecReadRequest read = HEARTH__AGENT__V1__EXEC_READ_REQUEST__INIT;
    path.name = name;
    path.value = value;
    read.wait_ms = WAIT_MS;
    read.until_end = true;
    request.exec_id = id;
    request.argv = argv;
    request.n_argv = 3;
    request.environment = environment;
    request.n_environment = 1;
    request.read = &read;
    ck_assert_int_eq(ask(&asked, "ExecStart", &request.base), LINK_STATUS_OK);
    Hearth__Agent__V1__ExecState *state = hearth__agent__v1__exec_state__unpack(
        NULL, asked.last.length, (const uint8_t *)asked.last.data);
    ck_assert_ptr_nonnull(state);
    ck_assert(!state->running);
    free(argv[2]);
    asked_free(&asked);
    return state;
}

#define NOTHING_MORE                                                                               \
    ((Hearth__Agent__V1__ExecStartRequest)HEARTH__AGENT__V1__EXEC_START_REQUEST__INIT)

static void check_output(const Hearth__Agent__V1__ExecOutput *output, const char *text)
{
    ck_assert_uint_eq(output->n_segments, *text ? 1 : 0);
    if (*text)
        ck_assert_mem_eq(output->segments[0]->data.data, text, strlen(text));
    ck_assert_uint_eq(output->total, strlen(text));
}

static void state_free(Hearth__Agent__V1__ExecState *state)
{
    hearth__agent__v1__exec_state__free_unpacked(state, NULL);
}

START_TEST(an_end_comes_after_all_output_of_both_streams)
{
    Hearth__Agent__V1__ExecState *state = run("echo out; echo err >&2; exit 3", NOTHING_MORE);
    ck_assert(state->exit->started && state->exit->drained);
    ck_assert_int_eq(state->exit->exit_code, 3);
    ck_assert_uint_eq(state->exit->signal, 0);
    check_output(state->stdout, "out\n");
    check_output(state->stderr, "err\n");
    ck_assert(state->stdout->ended && state->stderr->ended);
    state_free(state);
}
END_TEST

START_TEST(an_end_by_a_signal_tells_which)
{
    Hearth__Agent__V1__ExecState *state = run("kill -USR1 $$", NOTHING_MORE);
    ck_assert_uint_eq(state->exit->signal, SIGUSR1);
    ck_assert_int_eq(state->exit->exit_code, 128 + SIGUSR1);
    ck_assert(!state->exit->timed_out && !state->exit->cancelled);
    state_free(state);
}
END_TEST

START_TEST(what_cannot_be_started_ends_at_once_with_a_reason)
{
    struct asked asked = {0};
    char id[] = "a", program[] = "/no/such/program", *argv[] = {program};
    Hearth__Agent__V1__ExecStartRequest request = HEARTH__AGENT__V1__EXEC_START_REQUEST__INIT;
    request.exec_id = id;
    request.argv = argv;
    request.n_argv = 1;
    ck_assert_int_eq(ask(&asked, "ExecStart", &request.base), LINK_STATUS_OK);
    Hearth__Agent__V1__ExecState *state = hearth__agent__v1__exec_state__unpack(
        NULL, asked.last.length, (const uint8_t *)asked.last.data);
    ck_assert(!state->running && !state->exit->started);
    ck_assert_int_eq(state->exit->exit_code, 127);
    ck_assert_ptr_nonnull(strstr(state->exit->problem, "No such file"));
    state_free(state);
    asked_free(&asked);
}
END_TEST

START_TEST(of_much_output_its_start_and_end_are_kept_and_all_is_counted)
{
    Hearth__Agent__V1__ExecStartRequest request = NOTHING_MORE;
    request.head_bytes = 10;
    request.tail_bytes = 10;
    Hearth__Agent__V1__ExecState *state =
        run("printf %s first; head -c 3000000 /dev/zero | tr '\\0' x; printf %s last!", request);
    const Hearth__Agent__V1__ExecOutput *output = state->stdout;
    ck_assert_uint_eq(output->total, 3000010);
    char kept[21] = "";
    for (size_t i = 0; i < output->n_segments; i++) {
        const Hearth__Agent__V1__ExecSegment *segment = output->segments[i];
        uint64_t at = segment->offset < 10 ? segment->offset : segment->offset - 2999990;
        ck_assert_uint_le(at + segment->data.len, 20);
        memcpy(kept + at, segment->data.data, segment->data.len);
    }
    ck_assert_str_eq(kept, "firstxxxxxxxxxxlast!");
    ck_assert_uint_eq(output->next_offset, 3000010);
    state_free(state);
}
END_TEST

START_TEST(a_time_out_ends_the_whole_group_also_what_ignores_term)
{
    Hearth__Agent__V1__ExecStartRequest request = NOTHING_MORE;
    request.timeout_ms = 2000; /* by then it has said something, on a busy host too */
    request.kill_grace_ms = 100;
    Hearth__Agent__V1__ExecState *state =
        run("trap '' TERM; echo kept; (while :; do sleep 600; done) & while :; do sleep 600; done",
            request);
    ck_assert(state->exit->timed_out && state->exit->drained);
    ck_assert_int_eq(state->exit->exit_code, 124);
    check_output(state->stdout, "kept\n");
    state_free(state);
}
END_TEST

START_TEST(a_child_that_holds_a_stream_does_not_hold_the_end)
{
    char file[96];
    Hearth__Agent__V1__ExecStartRequest request = NOTHING_MORE;
    request.drain_ms = 50;
    snprintf(file, sizeof file, "%s/pid", workspace);
    char line[192];
    snprintf(line, sizeof line, "setsid sleep 600 & echo $! >%s; echo said", file);
    Hearth__Agent__V1__ExecState *state = run(line, request);
    ck_assert(!state->exit->drained);
    ck_assert_int_eq(state->exit->exit_code, 0);
    check_output(state->stdout, "said\n");
    ck_assert(!state->stdout->ended);
    state_free(state);
    FILE *pid = fopen(file, "r");
    int number = 0;
    ck_assert_int_eq(fscanf(pid, "%d", &number), 1);
    fclose(pid);
    ck_assert_int_eq(kill(number, SIGKILL), 0);
}
END_TEST

START_TEST(an_id_is_one_commands_until_it_is_forgotten)
{
    char id[] = "a", *argv[] = {id};
    state_free(run("true", NOTHING_MORE));
    Hearth__Agent__V1__ExecStartRequest again = NOTHING_MORE;
    again.exec_id = id;
    again.argv = argv;
    again.n_argv = 1;
    struct asked first = {0}, forgotten = {0}, gone = {0};
    ck_assert_int_eq(ask(&first, "ExecStart", &again.base), LINK_STATUS_ALREADY_EXISTS);
    Hearth__Agent__V1__ExecForgetRequest forget = HEARTH__AGENT__V1__EXEC_FORGET_REQUEST__INIT;
    forget.exec_id = id;
    ck_assert_int_eq(ask(&forgotten, "ExecForget", &forget.base), LINK_STATUS_OK);
    Hearth__Agent__V1__ExecReadRequest read = HEARTH__AGENT__V1__EXEC_READ_REQUEST__INIT;
    read.exec_id = id;
    ck_assert_int_eq(ask(&gone, "ExecRead", &read.base), LINK_STATUS_NOT_FOUND);
    asked_free(&first);
    asked_free(&forgotten);
    asked_free(&gone);
    state_free(run("true", NOTHING_MORE));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("agent_exec");
    TCase *test_case = tcase_create("agent_exec");
    tcase_set_timeout(test_case, 120);
    tcase_add_checked_fixture(test_case, agent_setup, agent_teardown);
    tcase_add_test(test_case, an_end_comes_after_all_output_of_both_streams);
    tcase_add_test(test_case, an_end_by_a_signal_tells_which);
    tcase_add_test(test_case, what_cannot_be_started_ends_at_once_with_a_reason);
    tcase_add_test(test_case, of_much_output_its_start_and_end_are_kept_and_all_is_counted);
    tcase_add_test(test_case, a_time_out_ends_the_whole_group_also_what_ignores_term);
    tcase_add_test(test_case, a_child_that_holds_a_stream_does_not_hold_the_end);
    tcase_add_test(test_case, an_id_is_one_commands_until_it_is_forgotten);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
