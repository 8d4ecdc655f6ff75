/* What may take long (walking a directory of any size, moving a tree) runs on a few threads beside
 * the loop, so that no other call waits for it. A job owns all it works with while it runs: no
 * link, no exec, nothing of the loop's. */
#pragma once

#include "base/list.h"

struct agent;
struct job;

#define JOB_THREADS_MAX 4

struct job {
    struct list link;              // jobs::queued or jobs::done
    void (*run)(struct job *job);  /* on a thread */
    void (*done)(struct job *job); /* on the loop, once; frees it */
};

struct jobs;
/* NULL: no memory or no descriptors. Threads begin with the first job. */
struct jobs *jobs_new(struct agent *agent);
/* Takes job. Where no thread can be had it runs here and now; done is called later all the same. */
void jobs_submit(struct jobs *jobs, struct job *job);
/* Waits for what runs, then calls every done. A job that takes longer than JOBS_END_S from now on
 * is left as it is, with all the others and jobs itself: an agent that ends does so in time for
 * what is in memory to be written out. */
#define JOBS_END_S 3
void jobs_free(struct jobs *jobs);
