#include "supervisord/environment_job.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define IMAGE_TIMEOUT_MS (15 * 60 * 1000)

void environments_want_images(struct environments *environments, bool want)
{
    environments->want_images = want;
}

static bool is_there(const struct environment_job *job)
{
    char path[128];
    snprintf(path, sizeof path, "versions/%s/" ENVIRONMENT_IMAGE, job->record.version);
    return faccessat(job->dir_fd, path, F_OK, 0) == 0;
}

/* One rename, of what hearth-disk has synced: there is never a part of an image under its name.
 * Nobody may write to it, for it is below every guest's disk. */
static int publish(const struct environment_job *job)
{
    char made[96], version[96], path[128];
    snprintf(made, sizeof made, "%s/" ENVIRONMENT_IMAGE, job->building);
    snprintf(version, sizeof version, "versions/%s", job->record.version);
    snprintf(path, sizeof path, "%s/" ENVIRONMENT_IMAGE, version);
    auto_close int directory = openat(job->dir_fd, version, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || fchmodat(job->dir_fd, made, 0444, 0) < 0 ||
        renameat(job->dir_fd, made, job->dir_fd, path) < 0 || fsync(directory) < 0)
        return -errno;
    return 0;
}

static void run_publish(void *arg)
{
    struct environment_job *job = arg;
    job->step_errno = *job->building && !is_there(job) ? -publish(job) : 0;
}

static void publish_image(struct environment_job *job)
{
    environment_job_work(job, run_publish);
}

/* "good BYTES" */
static void on_made(void *arg, const struct child_result *result)
{
    struct environment_job *job = arg;
    char said[300];
    int error = 0;
    if (result->exit_code != 0) {
        const char *text = *result->output ? result->output : result->errors;
        snprintf(said, sizeof said, "%.*s", (int)strcspn(text, "\n"), text);
        for (char *at = said; *at; at++)
            if (*at < ' ' || *at > '~')
                *at = '?';
        error = hearth_fail(&job->failure, HEARTH_EIO, "environment_image_failed",
                            "the environment's disk image cannot be made: %s",
                            result->timed_out ? "it took too long"
                            : *said           ? said
                                              : "no reason is known");
        hearth_failure_hint(&job->failure, "Is e2fsprogs installed, and is there room in the "
                                           "image directory for a second copy of the tree?");
    }
    environment_job_next(job, error);
}

/* Whatever made it first while we waited for the lock has made the same. */
static void begin(struct environment_job *job)
{
    *job->building = '\0';
    if (is_there(job))
        environment_job_next(job, 0);
    else
        environment_step_begin(job);
}

static void make(struct environment_job *job)
{
    auto_free char *program = NULL, *tree = NULL, *image = NULL;
    int error = 0;
    if (!*job->building) {
        environment_job_next(job, 0);
        return;
    }
    program = spawn_sibling("hearth-disk");
    if (!program ||
        asprintf(&tree, "%s/versions/%s/tree", job->environments->image_dir, job->record.version) <
            0 ||
        asprintf(&image, "%s/%s/" ENVIRONMENT_IMAGE, job->environments->image_dir, job->building) <
            0)
        error = hearth_fail(&job->failure, HEARTH_EUNSUPPORTED, "environment_image_failed",
                            "hearth-disk is not installed");
    if (!error) {
        const char *const argv[] = {program, "image", "--seed", job->record.version,
                                    tree,    image,   NULL};
        struct spawn_spec spec = {.argv = argv,
                                  .stdin_fd = -1,
                                  .stdout_fd = -1,
                                  .stderr_fd = -1,
                                  .pass_fds = &job->lock_fd,
                                  .pass_count = 1,
                                  .timeout_ms = IMAGE_TIMEOUT_MS};
        environment_job_progress(job, "imaging", "");
        error = spawn(&job->child, job->environments->loop, &spec, on_made, job, &job->failure);
    }
    if (error)
        environment_job_next(job, error);
}

/* The sweep takes the empty building-… away. */
static const environment_step image_steps[] = {
    environment_step_lock, environment_step_sweep, begin, make,
    publish_image,         environment_step_sweep, NULL};
static const environment_step no_steps[] = {NULL};

void environment_step_image_if_wanted(struct environment_job *job)
{
    if (job->environments->want_images)
        job->steps = image_steps + 2; /* the lock is held, and nothing is left over */
    environment_job_next(job, 0);
}

static struct environment_job *find_job(struct environments *environments, const char *version)
{
    list_for_each(cursor, following, &environments->jobs)
    {
        struct environment_job *job = container_of(cursor, struct environment_job, link);
        if (job->by_version && !job->failed && strcmp(job->record.version, version) == 0)
            return job;
    }
    return NULL;
}

int environment_ensure_image(struct environment_job **ret_job, struct environments *environments,
                             const char *version, environment_on_progress on_progress,
                             environment_done done, void *arg, struct hearth_failure *failure)
{
    char wanted[ENVIRONMENT_VERSION_SIZE]; /* the caller's may be what looking it up frees */
    snprintf(wanted, sizeof wanted, "%s", version);
    const struct environment *there = environment_find_version(environments, wanted);
    if (!there)
        return hearth_fail(failure, HEARTH_ENOTFOUND, "unknown_environment",
                           "there is no such version of an environment");
    struct environment_job *job = find_job(environments, wanted);
    if (!job && !there->image_path) {
        int error = environment_check_writable(environments, failure);
        if (error)
            return error;
    }
    if (!job) {
        job = environment_job_new(environments, "", there->image_path ? no_steps : image_steps);
        if (job) {
            job->by_version = true;
            snprintf(job->record.version, sizeof job->record.version, "%s", wanted);
        }
    }
    if (!job || environment_job_listen(job, on_progress, done, arg))
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    *ret_job = job;
    return 0;
}
