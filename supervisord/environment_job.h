/* Long work on the image directory: a list of steps, done one after the other under the directory's
 * lock, each on the loop, in a child or on a worker. A step that fails, or the last listener
 * leaving, ends the job; what was half made is swept away then. Loop thread. */
#pragma once

#include "supervisord/environment_internal.h"
#include "supervisord/spawn.h"

/* A step ends by calling environment_job_next, at once or later. */
typedef void (*environment_step)(struct environment_job *job);

struct environment_job {
    struct list link;                  /* environments::jobs */
    struct environments *environments; /* NULL: they are gone; the step under way is the last */
    struct list listeners;
    const environment_step *steps; /* the next; NULL ends */
    bool internal;                 /* goes on without listeners */
    bool by_version;               /* what it makes is told by its version: the name may move */
    bool failed;
    int lock_fd; /* -1: not held */
    int dir_fd;  /* the image directory; a copy, for workers */
    struct child *child;
    struct hearth_failure failure;
    struct environment_record record; /* of what is made */
    char building[64];                /* building-…, "" before it is made */
    int manifest_fd;

    const struct builtin *builtin; /* pull */
    enum environment_format format;
    char *path; /* import */

    /* prune */
    char **keep;
    size_t keep_count;
    uint64_t removed, bytes_freed;
    void (*pruned)(void *arg, int error, const struct hearth_failure *failure, uint64_t removed,
                   uint64_t bytes_freed);
    void *pruned_arg;

    /* What is made is no environment: told instead of the listeners. */
    void (*ended)(void *arg, int error, const struct hearth_failure *failure);
    void *ended_arg;

    int step_errno; /* what a worker's part of a step came to */
};

/* A job that starts on the loop's next turn. name may be "". NULL without memory. */
struct environment_job *environment_job_new(struct environments *environments, const char *name,
                                            const environment_step *steps);
struct environment_job *environment_job_find(struct environments *environments, const char *name);
int environment_job_listen(struct environment_job *job, environment_on_progress on_progress,
                           environment_done done, void *arg);

/* error 0, or the negative value of job->failure. */
void environment_job_next(struct environment_job *job, int error);
/* run on a worker (with step_errno 0), then the next step, or failure with this code and text. */
void environment_job_work(struct environment_job *job, void (*run)(void *job));
void environment_job_progress(struct environment_job *job, const char *stage, const char *detail);

/* Steps. */
void environment_step_lock(struct environment_job *job);
void environment_step_sweep(struct environment_job *job); /* what others left half made */
void environment_step_begin(struct environment_job *job); /* makes building-… */
void environment_step_build(struct environment_job *job);
void environment_step_digest(struct environment_job *job);
void environment_step_publish(struct environment_job *job);
/* Takes from the package cache what a newer version has superseded, and the oldest past a bound. */
void environment_step_trim(struct environment_job *job);
void environment_step_kernel_if_wanted(struct environment_job *job); /* the same; before the lock */
void environment_step_image_if_wanted(struct environment_job *job);  /* environments_want_images */
