#include "supervisord/spawn.h"

#include "base/pidref.h"
#include "suite.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static struct child *child;
static int ended;
static struct child_result last;
static char output[256], errors[256];
static size_t streamed;

static void setup(void)
{
    ended = 0;
    streamed = 0;
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
}

static void teardown(void)
{
    loop_free(loop);
    unsetenv("HEARTH_LIBEXEC_DIR");
}

static void note_end(void *arg, const struct child_result *result)
{
    ck_assert_ptr_eq(arg, &ended);
    ended++;
    last = *result;
    snprintf(output, sizeof output, "%s", result->output);
    snprintf(errors, sizeof errors, "%s", result->errors);
    loop_stop(loop);
}

static struct spawn_spec shell_spec(const char *const argv[4])
{
    return (struct spawn_spec){.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
}

static void run(struct spawn_spec spec)
{
    struct hearth_failure failure;
    ck_assert_msg(spawn(&child, loop, &spec, note_end, &ended, &failure) == 0, "%s",
                  failure.detail);
    ck_assert_int_eq(ended, 0);
    loop_run(loop);
    ck_assert_int_eq(ended, 1);
}

#define SHELL(script)                                                                              \
    (const char *const[4])                                                                         \
    {                                                                                              \
        "/bin/sh", "-c", script, NULL                                                              \
    }

START_TEST(both_streams_and_the_exit_code_come_back)
{
    run(shell_spec(SHELL("echo out; echo err >&2; exit 7")));
    ck_assert_str_eq(output, "out\n");
    ck_assert_str_eq(errors, "err\n");
    ck_assert_int_eq(last.exit_code, 7);
    ck_assert(!last.timed_out);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* reaped */
}
END_TEST

START_TEST(a_signal_is_128_and_its_number)
{
    run(shell_spec(SHELL("kill -TERM $$")));
    ck_assert_int_eq(last.exit_code, 128 + SIGTERM);
}
END_TEST

START_TEST(past_the_deadline_the_whole_group_is_killed)
{
    struct spawn_spec spec = shell_spec(SHELL("sleep 1000 & echo $!; wait"));
    spec.timeout_ms = 2000; /* by then it has said something, on a busy host too */
    run(spec);
    ck_assert(last.timed_out);
    ck_assert_int_eq(last.exit_code, 128 + SIGKILL);
    struct pidref grandchild;
    ck_assert_int_gt(atoi(output), 1);
    if (pidref_open(&grandchild, atoi(output)) == 0) { /* killed, but not yet gone */
        struct pollfd wait = {.fd = grandchild.fd, .events = POLLIN};
        ck_assert_int_eq(poll(&wait, 1, 60000), 1);
        pidref_close(&grandchild);
    }
}
END_TEST

START_TEST(a_grandchild_that_holds_the_pipe_does_not_hold_the_end)
{
    run(shell_spec(SHELL("sleep 1000 & echo $!")));
    ck_assert_int_eq(last.exit_code, 0);
    pid_t grandchild = atoi(output);
    ck_assert(grandchild > 1);
    ck_assert_int_eq(kill(grandchild, SIGKILL), 0);
}
END_TEST

START_TEST(the_child_has_no_descriptor_but_those_given)
{
    int leaks[2];
    ck_assert_int_eq(pipe(leaks), 0); /* without O_CLOEXEC */
    int pair[2];
    ck_assert_int_eq(pipe(pair), 0);
    struct spawn_spec spec = shell_spec(SHELL("echo passed >&4; ls /proc/$$/fd"));
    spec.pass_fds = (int[]){pair[0], pair[1]};
    spec.pass_count = 2;
    run(spec);
    ck_assert_str_eq(output, "0\n1\n2\n3\n4\n");
    char got[16] = {0};
    ck_assert_int_eq(read(pair[0], got, sizeof got - 1), 7);
    ck_assert_str_eq(got, "passed\n");
    for (int i = 0; i < 2; i++) {
        close(leaks[i]);
        close(pair[i]);
    }
}
END_TEST

START_TEST(passed_descriptors_may_come_in_any_order)
{
    int a[2], b[2];
    ck_assert_int_eq(pipe(a), 0);
    ck_assert_int_eq(pipe(b), 0);
    struct spawn_spec spec = shell_spec(SHELL("echo A >&4; echo B >&3"));
    spec.pass_fds = (int[]){b[1], a[1]}; /* 3 is b, though a's number may be 4 or lower */
    spec.pass_count = 2;
    run(spec);
    char got[4] = {0};
    ck_assert_int_eq(read(a[0], got, 3), 2);
    ck_assert_str_eq(got, "A\n");
    ck_assert_int_eq(read(b[0], got, 3), 2);
    ck_assert_str_eq(got, "B\n");
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}
END_TEST

static void count_streamed(void *arg, const char *data, size_t length)
{
    ck_assert_ptr_eq(arg, &ended);
    streamed += length;
}

START_TEST(what_is_over_the_limit_is_read_and_dropped)
{
    struct spawn_spec spec = shell_spec(SHELL("head -c 300000 /dev/zero | tr '\\0' x"));
    spec.capture_limit = 100;
    spec.on_output = count_streamed;
    run(spec);
    ck_assert_uint_eq(last.output_length, 100);
    ck_assert_uint_eq(streamed, 300000);
    ck_assert_int_eq(last.exit_code, 0);
}
END_TEST

START_TEST(secret_output_is_given_and_not_kept)
{
    struct spawn_spec spec = shell_spec(SHELL("echo hidden; echo shown >&2"));
    spec.on_output = count_streamed;
    spec.secret_output = true;
    run(spec);
    ck_assert_uint_eq(streamed, strlen("hidden\n"));
    ck_assert_str_eq(output, "");
    ck_assert_str_eq(errors, "shown\n");
}
END_TEST

START_TEST(the_child_starts_clean)
{
    setenv("HEARTH_SECRET_FOR_TEST", "x", 1);
    sigset_t blocked;
    sigfillset(&blocked);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    signal(SIGPIPE, SIG_IGN);
    /* Signals 32 and 33 are glibc's own: 28 bits are enough to look at. */
    run(shell_spec(SHELL("env | cut -d= -f1 | grep -c HEARTH;"
                         "sed -nE 's/^(SigBlk|SigIgn).*(.{7})$/\\1 \\2/p' /proc/self/status;"
                         "test -t 0 || cat; test $(ps -o sid= -p $$) = $$ && echo leader")));
    ck_assert_str_eq(output, "0\nSigBlk 0000000\nSigIgn 0000000\nleader\n");
    sigemptyset(&blocked);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    unsetenv("HEARTH_SECRET_FOR_TEST");
}
END_TEST

START_TEST(a_missing_program_is_told_at_once)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    const char *const argv[] = {"/nonexistent/program", NULL};
    struct spawn_spec spec = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    ck_assert_int_eq(spawn(&child, loop, &spec, note_end, &ended, &failure), HEARTH_EUNSUPPORTED);
    ck_assert_str_eq(failure.code, "program_missing");
    ck_assert_ptr_nonnull(strstr(failure.detail, "/nonexistent/program"));
}
END_TEST

static void kill_it(void *arg)
{
    child_kill(child);
}

START_TEST(a_killed_child_still_ends)
{
    const char *const argv[] = {"sleep", "1000", NULL}; /* by PATH */
    struct spawn_spec spec = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    ck_assert_int_eq(spawn(&child, loop, &spec, note_end, &ended, NULL), 0);
    ck_assert(child_pid(child) > 1);
    loop_post(loop, kill_it, NULL);
    loop_run(loop);
    ck_assert_int_eq(ended, 1);
    ck_assert_int_eq(last.exit_code, 128 + SIGKILL);
    ck_assert(!last.timed_out);
}
END_TEST

START_TEST(a_sibling_is_found_where_the_environment_says)
{
    setenv("HEARTH_LIBEXEC_DIR", "/bin", 1);
    char *path = spawn_sibling("sh");
    ck_assert_str_eq(path, "/bin/sh");
    free(path);
    ck_assert_ptr_null(spawn_sibling("no-such-program"));
    unsetenv("HEARTH_LIBEXEC_DIR");
    path = spawn_sibling("test_spawn");
    ck_assert_ptr_nonnull(path);
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spawn");
    TCase *test_case = tcase_create("spawn");
    tcase_set_timeout(test_case, 30);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, both_streams_and_the_exit_code_come_back);
    tcase_add_test(test_case, a_signal_is_128_and_its_number);
    tcase_add_test(test_case, past_the_deadline_the_whole_group_is_killed);
    tcase_add_test(test_case, a_grandchild_that_holds_the_pipe_does_not_hold_the_end);
    tcase_add_test(test_case, the_child_has_no_descriptor_but_those_given);
    tcase_add_test(test_case, passed_descriptors_may_come_in_any_order);
    tcase_add_test(test_case, what_is_over_the_limit_is_read_and_dropped);
    tcase_add_test(test_case, secret_output_is_given_and_not_kept);
    tcase_add_test(test_case, the_child_starts_clean);
    tcase_add_test(test_case, a_missing_program_is_told_at_once);
    tcase_add_test(test_case, a_killed_child_still_ends);
    tcase_add_test(test_case, a_sibling_is_found_where_the_environment_says);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
