#include "supervisord/archive_child.h"
#include "supervisord/environment_job.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Of an image altogether. The operator chose the file, so these only stop what is absurd. */
#define ENTRIES_MAX 4000000
#define BYTES_MAX ((uint64_t)64 << 30)

static const struct {
    const char *word, *source;
} formats[] = {
    [ENVIRONMENT_ROOTFS_TAR] = {"rootfs", "root file system tar"},
    [ENVIRONMENT_OCI_LAYOUT] = {"oci", "oci layout"},
    [ENVIRONMENT_DOCKER_ARCHIVE] = {"docker", "docker archive"},
};

static void on_unpacked(void *arg, int error, const struct hearth_failure *failure,
                        const struct archive_verdict *verdict)
{
    struct environment_job *job = arg;
    (void)verdict;
    if (error)
        job->failure = *failure;
    environment_job_next(job, error);
}

/* Opened when the job comes to it, not before: it may wait long for its turn. */
static int open_image(struct environment_job *job, int *ret_fd)
{
    struct stat status;
    auto_close int fd = open(job->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return hearth_fail(&job->failure, HEARTH_EINVALID, "image_unreadable",
                           "cannot open %.300s: %s", job->path, strerror(errno));
    if (fstat(fd, &status) < 0 ||
        !(S_ISREG(status.st_mode) ||
          (S_ISDIR(status.st_mode) && job->format == ENVIRONMENT_OCI_LAYOUT)))
        return hearth_fail(&job->failure, HEARTH_EINVALID, "image_unreadable",
                           "%.300s is no file of that format", job->path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static void unpack(struct environment_job *job)
{
    static const struct archive_limits limits = {.max_entries = ENTRIES_MAX,
                                                 .max_bytes = BYTES_MAX};
    char directory[PATH_MAX];
    auto_close int fd = -1;
    int error = open_image(job, &fd);
    snprintf(directory, sizeof directory, "%s/%s/tree", job->environments->image_dir,
             job->building);
    environment_job_progress(job, "unpacking", job->path);
    if (!error)
        error = archive_child_unpack(&job->child, job->environments->loop, fd, job->lock_fd,
                                     formats[job->format].word, directory, &limits, on_unpacked,
                                     job, &job->failure);
    if (error)
        environment_job_next(job, error);
}

static const environment_step import_steps[] = {
    environment_step_lock,   environment_step_sweep,   environment_step_begin,           unpack,
    environment_step_digest, environment_step_publish, environment_step_image_if_wanted, NULL};

int environment_import(struct environment_job **ret_job, struct environments *environments,
                       const char *name, enum environment_format format, const char *path,
                       environment_on_progress on_progress, environment_done done, void *arg,
                       struct hearth_failure *failure)
{
    int error = environment_check_writable(environments, failure);
    if (error)
        return error;
    if (environment_job_find(environments, name))
        return hearth_fail(failure, HEARTH_ECONFLICT, "environment_busy",
                           "an environment of this name is being made just now");
    struct environment_job *job = environment_job_new(environments, name, import_steps);
    if (!job || !(job->path = text_copy(path)) ||
        environment_job_listen(job, on_progress, done, arg))
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    job->format = format;
    snprintf(job->record.source, sizeof job->record.source, "%s", formats[format].source);
    snprintf(job->record.description, sizeof job->record.description, "Imported from a%s %s",
             format == ENVIRONMENT_OCI_LAYOUT ? "n" : "", formats[format].source);
    *ret_job = job;
    return 0;
}
