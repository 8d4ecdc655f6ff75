#include "suite.h"
#include "supervisord/loop.h"
#include "supervisord/worker.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

static struct loop *loop;
static int order[8], steps;

static void note(void *arg)
{
    order[steps++] = (int)(intptr_t)arg;
}

static void note_and_stop(void *arg)
{
    note(arg);
    loop_stop(loop);
}

static void defer_then_post(void *arg)
{
    (void)arg;
    loop_defer(loop, note, (void *)2);
    note((void *)1);
    loop_post(loop, note_and_stop, (void *)3);
}

static void setup(void)
{
    steps = 0;
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
}

static void teardown(void)
{
    loop_free(loop);
}

START_TEST(deferred_work_runs_before_the_next_turn)
{
    loop_post(loop, defer_then_post, NULL);
    loop_run(loop);
    ck_assert_int_eq(steps, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(order[i], i + 1);
}
END_TEST

START_TEST(a_timer_is_never_early)
{
    struct timer timer;
    timer_init(&timer, loop, note_and_stop, NULL);
    int64_t deadline = clock_monotonic_us() + 3 * US_PER_MS;
    timer_set(&timer, deadline);
    loop_run(loop);
    ck_assert(clock_monotonic_us() >= deadline);
    timer_free(&timer);
}
END_TEST

static pthread_t ran_on;

static void run_on_worker(void *arg)
{
    (void)arg;
    ran_on = pthread_self();
}

START_TEST(a_worker_runs_elsewhere_and_ends_on_the_loop)
{
    struct worker_pool *pool;
    ck_assert_int_eq(worker_pool_new(&pool, loop, 2, NULL), 0);
    worker_submit(pool, run_on_worker, note_and_stop, (void *)7);
    loop_run(loop);
    ck_assert(!pthread_equal(ran_on, pthread_self()));
    ck_assert_int_eq(order[0], 7);
    worker_pool_free(pool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop");
    TCase *test_case = tcase_create("loop");
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, deferred_work_runs_before_the_next_turn);
    tcase_add_test(test_case, a_timer_is_never_early);
    tcase_add_test(test_case, a_worker_runs_elsewhere_and_ends_on_the_loop);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
