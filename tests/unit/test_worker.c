/* The pool: work is done beside the loop, its end is told on the loop. */
#include "suite.h"
#include "supervisord/worker.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#define JOBS 2000

static struct loop *loop;
static struct worker_pool *pool;
static pthread_t loop_thread;
static int told;

struct job {
    int number, square;
    bool elsewhere; /* was run on another thread than the loop's */
};

static void run_job(void *arg)
{
    struct job *job = arg;
    job->square = job->number * job->number;
    job->elsewhere = !pthread_equal(pthread_self(), loop_thread);
}

static void job_done(void *arg)
{
    struct job *job = arg;
    ck_assert(pthread_equal(pthread_self(), loop_thread));
    ck_assert(job->elsewhere);
    ck_assert_int_eq(job->square, job->number * job->number);
    if (++told == JOBS)
        loop_stop(loop);
}

static void setup(void)
{
    struct hearth_failure failure;
    loop_thread = pthread_self();
    told = 0;
    ck_assert_int_eq(loop_new(&loop, &failure), 0);
    ck_assert_int_eq(worker_pool_new(&pool, loop, 2, &failure), 0);
}

static void teardown(void)
{
    loop_free(loop);
}

START_TEST(every_job_is_run_elsewhere_and_told_here)
{
    static struct job jobs[JOBS];
    for (int i = 0; i < JOBS; i++) {
        jobs[i].number = i;
        worker_submit(pool, run_job, job_done, &jobs[i]);
    }
    loop_run(loop);
    worker_pool_free(pool);
    ck_assert_int_eq(told, JOBS);
}
END_TEST

START_TEST(what_is_queued_is_finished_at_the_end)
{
    static struct job jobs[JOBS];
    for (int i = 0; i < JOBS; i++) {
        jobs[i].number = i + 1;
        worker_submit(pool, run_job, job_done, &jobs[i]);
    }
    worker_pool_free(pool);
    for (int i = 0; i < JOBS; i++)
        ck_assert_int_eq(jobs[i].square, (i + 1) * (i + 1));
}
END_TEST

/* Each end submits the next job, as phases of a guest do; the last is only a deferred word. */
static void last_word(void *arg)
{
    int *left = arg;
    ck_assert_int_eq(*left, 0);
    *left = -1;
}

static void nothing(void *arg)
{
    (void)arg;
}

static void next_job(void *arg)
{
    int *left = arg;
    if (--*left > 0)
        worker_submit(pool, nothing, next_job, left);
    else
        loop_defer(loop, last_word, left);
}

START_TEST(what_is_owed_at_the_end_is_told_before_anything_is_freed)
{
    int left = 100;
    worker_submit(pool, nothing, next_job, &left);
    loop_settle(loop);
    ck_assert_int_eq(left, -1);
    worker_pool_free(pool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("worker");
    TCase *test_case = tcase_create("worker");
    tcase_set_timeout(test_case, 60);
    tcase_add_checked_fixture(test_case, setup, teardown);
    tcase_add_test(test_case, every_job_is_run_elsewhere_and_told_here);
    tcase_add_test(test_case, what_is_queued_is_finished_at_the_end);
    tcase_add_test(test_case, what_is_owed_at_the_end_is_told_before_anything_is_freed);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
