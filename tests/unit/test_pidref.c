/* Real processes: a child that waits until it is told, or killed. */
#include "base/pidref.h"
#include "suite.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* name NULL: as it is. Returns when the child has its name. */
static pid_t start_child(const char *name)
{
    int ends[2];
    char byte;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (name)
            prctl(PR_SET_NAME, name);
        if (write(ends[1], "x", 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    close(ends[1]);
    return child;
}

static void wait_until_dead(const struct pidref *pidref)
{
    struct pollfd wait = {.fd = pidref->fd, .events = POLLIN};
    while (poll(&wait, 1, -1) != 1)
        ;
}

START_TEST(a_process_is_held_signalled_and_seen_to_die)
{
    struct pidref pidref;
    pid_t child = start_child(NULL);
    ck_assert_int_eq(pidref_open(&pidref, child), 0);
    ck_assert_int_eq(pidref.pid, child);
    ck_assert_uint_gt(pidref.start_time, 0);
    ck_assert(pidref_alive(&pidref));
    ck_assert_int_eq(pidref_signal(&pidref, 0), 0);
    ck_assert_int_eq(pidref_signal(&pidref, SIGKILL), 0);
    wait_until_dead(&pidref);
    ck_assert(!pidref_alive(&pidref)); /* a zombie is dead */
    waitpid(child, NULL, 0);
    ck_assert_int_eq(pidref_signal(&pidref, SIGTERM), -ESRCH);
    ck_assert(!pidref_alive(&pidref));
    pidref_close(&pidref);
    pidref_close(&pidref);
    ck_assert_int_eq(pidref.fd, -1);
    ck_assert_int_eq(pidref.pid, 0);
}
END_TEST

START_TEST(another_process_with_the_same_pid_is_not_taken_for_it)
{
    struct pidref pidref = PIDREF_NONE;
    pid_t child = start_child(NULL);
    uint64_t start_time = pidref_start_time(child);
    ck_assert_int_eq(pidref_reopen(&pidref, child, start_time + 1), -ESRCH);
    ck_assert_int_eq(pidref.fd, -1); /* untouched */
    ck_assert_int_eq(pidref_reopen(&pidref, child, start_time), 0);
    ck_assert(pidref_alive(&pidref));
    pidref_signal(&pidref, SIGKILL);
    waitpid(child, NULL, 0);
    pidref_close(&pidref);
    ck_assert_int_eq(pidref_open(&pidref, child), -ESRCH);
    ck_assert_int_eq(pidref_reopen(&pidref, child, start_time), -ESRCH);
    ck_assert_uint_eq(pidref_start_time(child), 0);
}
END_TEST

/* What a process calls itself stands in /proc/PID/stat, before the start time. */
START_TEST(a_name_does_not_move_the_start_time)
{
    static const char *const names[] = {"a b c", ") R 1 1 (", "))))", "(", "\n) 9 9"};
    pid_t plain = start_child(NULL);
    uint64_t before = pidref_start_time(plain);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        pid_t child = start_child(names[i]);
        uint64_t start_time = pidref_start_time(child);
        ck_assert_uint_ge(start_time, before);
        ck_assert_uint_le(start_time, before + 100 * 60); /* ticks: within a minute */
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    kill(plain, SIGKILL);
    waitpid(plain, NULL, 0);
}
END_TEST

START_TEST(no_process_is_no_process)
{
    struct pidref none = PIDREF_NONE;
    ck_assert(!pidref_alive(&none));
    ck_assert_int_eq(pidref_signal(&none, SIGKILL), -ESRCH);
    ck_assert_int_lt(pidref_open(&none, 0), 0);
    ck_assert_int_lt(pidref_open(&none, -1), 0);
    ck_assert_int_eq(none.fd, -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pidref");
    TCase *test_case = tcase_create("pidref");
    tcase_set_timeout(test_case, 60);
    tcase_add_test(test_case, a_process_is_held_signalled_and_seen_to_die);
    tcase_add_test(test_case, another_process_with_the_same_pid_is_not_taken_for_it);
    tcase_add_test(test_case, a_name_does_not_move_the_start_time);
    tcase_add_test(test_case, no_process_is_no_process);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
