/* What an agent has under way on its threads, at its end. */
#include "guestagent/agent/agent.h"
#include "guestagent/agent/jobs.h"
#include "suite.h"

#include <check.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

struct waiting {
    struct job job;
    int fd; /* it runs until this says something */
    bool done;
};

static void run(struct job *job)
{
    char byte;
    ck_assert_int_eq(read(container_of(job, struct waiting, job)->fd, &byte, 1), 1);
}

static void done(struct job *job)
{
    container_of(job, struct waiting, job)->done = true;
}

static struct agent agent;
static struct waiting waiting;
static int ends[2];

static void setup(void)
{
    ck_assert_int_eq(pipe(ends), 0);
    agent.base = event_base_new();
    agent.jobs = jobs_new(&agent);
    waiting = (struct waiting){.job = {.run = run, .done = done}, .fd = ends[0]};
    jobs_submit(agent.jobs, &waiting.job);
}

START_TEST(the_end_waits_for_what_ends)
{
    setup();
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    jobs_free(agent.jobs);
    ck_assert(waiting.done);
    event_base_free(agent.base);
}
END_TEST

START_TEST(the_end_does_not_wait_for_what_does_not)
{
    setup();
    jobs_free(agent.jobs);
    ck_assert(!waiting.done);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("jobs");
    TCase *cases = tcase_create("jobs");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, the_end_waits_for_what_ends);
    tcase_add_test(cases, the_end_does_not_wait_for_what_does_not);
    suite_add_tcase(suite, cases);
    return run_and_free(suite);
}
