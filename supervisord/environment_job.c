#include "supervisord/environment_job.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

struct listener {
    struct list link; /* environment_job::listeners */
    environment_on_progress on_progress;
    environment_done done;
    void *arg;
};

static const environment_step clean_up[] = {environment_step_sweep, NULL};

static void job_free(struct environment_job *job)
{
    list_remove(&job->link);
    list_for_each(cursor, following, &job->listeners)
        free(container_of(cursor, struct listener, link));
    for (size_t i = 0; i < job->keep_count; i++)
        free(job->keep[i]);
    free(job->keep);
    free(job->path);
    cleanup_close(&job->manifest_fd);
    cleanup_close(&job->dir_fd);
    cleanup_close(&job->lock_fd); /* the lock goes with the last copy of the descriptor */
    free(job);
}

static const struct environment *find_made(const struct environment_job *job)
{
    return job->by_version ? environment_find_version(job->environments, job->record.version)
                           : environment_find(job->environments, job->record.name);
}

static void tell(struct environment_job *job)
{
    while (!list_empty(&job->listeners)) {
        struct listener *listener = container_of(job->listeners.next, struct listener, link);
        list_remove(&listener->link);
        /* Found again for each: what the last one did may have moved it. */
        const struct environment *environment = job->failed ? NULL : find_made(job);
        if (!job->failed && !(environment && environment->version))
            job->failed = hearth_fail(&job->failure, HEARTH_EIO, "environment_lost",
                                      "the environment is gone again") < 0;
        listener->done(listener->arg, job->failed ? (int)job->failure.error : 0,
                       job->failed ? &job->failure : NULL, job->failed ? NULL : environment);
        free(listener);
    }
    if (job->pruned)
        job->pruned(job->pruned_arg, job->failed ? (int)job->failure.error : 0,
                    job->failed ? &job->failure : NULL, job->removed, job->bytes_freed);
    if (job->ended)
        job->ended(job->ended_arg, job->failed ? (int)job->failure.error : 0,
                   job->failed ? &job->failure : NULL);
}

static void end(struct environment_job *job)
{
    list_remove(&job->link); /* first: nobody joins what has ended */
    cleanup_close(&job->lock_fd);
    job->lock_fd = -1;
    if (!job->failed)
        environment_job_progress(job, "done", job->record.version);
    tell(job);
    job_free(job);
}

void environment_job_next(struct environment_job *job, int error)
{
    job->child = NULL;
    if (!job->environments) {
        job_free(job);
        return;
    }
    bool abandoned = !job->internal && list_empty(&job->listeners);
    if (!job->failed && (error || abandoned)) {
        job->failed = true;
        job->steps = clean_up + (job->lock_fd < 0);
    }
    environment_step step = *job->steps;
    if (!step) {
        end(job);
        return;
    }
    job->steps++;
    step(job);
}

static void on_worked(void *arg)
{
    struct environment_job *job = arg;
    int error = 0;
    if (job->step_errno && job->environments && !job->failed)
        error = hearth_fail_errno(&job->failure, job->step_errno, "image_dir_failed",
                                  "cannot store the environment in %.200s",
                                  job->environments->image_dir);
    environment_job_next(job, error);
}

void environment_job_work(struct environment_job *job, void (*run)(void *job))
{
    job->step_errno = 0;
    worker_submit(job->environments->workers, run, on_worked, job);
}

static void start(void *arg)
{
    environment_job_next(arg, 0);
}

struct environment_job *environment_job_new(struct environments *environments, const char *name,
                                            const environment_step *steps)
{
    struct environment_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->environments = environments;
    job->steps = steps;
    job->lock_fd = job->manifest_fd = -1;
    job->dir_fd = fcntl(environments->dir_fd, F_DUPFD_CLOEXEC, 3);
    if (job->dir_fd < 0) {
        free(job);
        return NULL;
    }
    list_init(&job->listeners);
    list_append(&environments->jobs, &job->link);
    snprintf(job->record.name, sizeof job->record.name, "%s", name);
    loop_defer(environments->loop, start, job);
    return job;
}

struct environment_job *environment_job_find(struct environments *environments, const char *name)
{
    list_for_each(cursor, following, &environments->jobs)
    {
        struct environment_job *job = container_of(cursor, struct environment_job, link);
        if (strcmp(job->record.name, name) == 0 && !job->failed)
            return job;
    }
    return NULL;
}

bool environment_job_running(const struct environments *environments, const char *name)
{
    return environment_job_find((struct environments *)(uintptr_t)environments, name) != NULL;
}

int environment_job_listen(struct environment_job *job, environment_on_progress on_progress,
                           environment_done done, void *arg)
{
    struct listener *listener = malloc(sizeof *listener);
    if (!listener)
        return HEARTH_ENOMEMORY;
    *listener = (struct listener){.on_progress = on_progress, .done = done, .arg = arg};
    list_append(&job->listeners, &listener->link);
    return 0;
}

void environment_job_leave(struct environment_job *job, void *arg)
{
    list_for_each(cursor, following, &job->listeners)
    {
        struct listener *listener = container_of(cursor, struct listener, link);
        if (listener->arg != arg)
            continue;
        list_remove(&listener->link);
        free(listener);
    }
    if (list_empty(&job->listeners) && !job->internal && job->child)
        child_kill(job->child);
}

void environment_job_progress(struct environment_job *job, const char *stage, const char *detail)
{
    struct environment_progress progress = {.stage = stage, .detail = detail ? detail : ""};
    list_for_each(cursor, following, &job->listeners)
    {
        struct listener *listener = container_of(cursor, struct listener, link);
        if (listener->on_progress)
            listener->on_progress(listener->arg, &progress);
    }
}

void environment_jobs_free(struct environments *environments)
{
    list_for_each(cursor, following, &environments->jobs)
    {
        struct environment_job *job = container_of(cursor, struct environment_job, link);
        list_remove(&job->link);
        job->environments = NULL;
        if (job->child)
            child_kill(job->child);
    }
}

int environment_check_writable(struct environments *environments, struct hearth_failure *failure)
{
    auto_close int fd =
        openat(environments->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        return 0;
    if (errno != EROFS && errno != EACCES && errno != EPERM)
        return hearth_fail_errno(failure, errno, "image_dir_failed",
                                 "cannot open the lock of the image directory");
    int error =
        hearth_fail(failure, HEARTH_EUNSUPPORTED, "image_dir_read_only",
                    "the image directory %.200s cannot be written to", environments->image_dir);
    hearth_failure_hint(failure, "Build the environment with a daemon that owns the directory, or "
                                 "give this one an --image-dir of its own.");
    return error;
}

static void on_lock_child(void *arg, const struct child_result *result)
{
    struct environment_job *job = arg;
    int error = 0;
    if (result->exit_code != 0)
        error = hearth_fail(&job->failure, HEARTH_EIO, "image_dir_failed",
                            "cannot lock the image directory");
    environment_job_next(job, error);
}

/* flock(2) belongs to the open file, so that a child that is given it can wait for it in our place,
 * and a build that outlives the daemon keeps it. */
static int wait_for_lock(struct environment_job *job)
{
    const char *const argv[] = {"flock", "--exclusive", "3", NULL};
    struct spawn_spec spec = {.argv = argv,
                              .stdin_fd = -1,
                              .stdout_fd = -1,
                              .stderr_fd = -1,
                              .pass_fds = &job->lock_fd,
                              .pass_count = 1};
    environment_job_progress(job, "waiting", "another build is under way");
    return spawn(&job->child, job->environments->loop, &spec, on_lock_child, job, &job->failure);
}

void environment_step_lock(struct environment_job *job)
{
    int error = environment_check_writable(job->environments, &job->failure);
    if (!error) {
        job->lock_fd = openat(job->dir_fd, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (job->lock_fd < 0)
            error = hearth_fail_errno(&job->failure, errno, "image_dir_failed",
                                      "cannot open the lock of the image directory");
    }
    if (!error && flock(job->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        error = wait_for_lock(job);
        if (!error)
            return;
    }
    environment_job_next(job, error);
}
