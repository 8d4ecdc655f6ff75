#include "supervisord/environment_job.h"

#include "base/id.h"
#include "base/path_at.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_kept(const struct environment_job *job, const char *version)
{
    for (size_t i = 0; i < job->keep_count; i++)
        if (strcmp(job->keep[i], version) == 0)
            return true;
    return false;
}

static int keep(struct environment_job *job, const char *version)
{
    char **bigger = realloc(job->keep, (job->keep_count + 1) * sizeof *bigger);
    if (!bigger)
        return -ENOMEM;
    job->keep = bigger;
    if (!(job->keep[job->keep_count] = text_copy(version)))
        return -ENOMEM;
    job->keep_count++;
    return 0;
}

static int is_reference(const struct dirent *file)
{
    size_t length = strlen(file->d_name), suffix = strlen(REFERENCE_SUFFIX);
    return length > suffix && strcmp(file->d_name + length - suffix, REFERENCE_SUFFIX) == 0;
}

static int is_version(const struct dirent *file)
{
    return environment_version_valid(file->d_name);
}

/* What cannot be read may refer to anything: then nothing is removed. */
static int keep_named(struct environment_job *job)
{
    char path[320], text[ENVIRONMENT_RECORD_MAX];
    struct environment_record record;
    struct dirent **files;
    int error = 0, count = scandirat(job->dir_fd, "environments", &files, is_reference, NULL);
    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "environments/%s", files[i]->d_name);
        free(files[i]);
        ssize_t length = error ? 0 : path_read_small(job->dir_fd, path, text, sizeof text);
        if (!error && length < 0)
            error = (int)length;
        else if (!error)
            error = environment_record_parse(&record, text) ? keep(job, record.version) : -EBADMSG;
    }
    free(files);
    return error;
}

/* A version leaves by one rename, so that none is ever seen half removed; the sweep that follows
 * takes away what is called building-…. A daemon leases first and then looks whether the version is
 * there, so that one of the two sees the other: what was leased meanwhile is put back. */
static int take_away(struct environment_job *job, const char *version)
{
    char path[128], text[ENVIRONMENT_RECORD_MAX], suffix[9], building[64];
    struct environment_record record;
    uint64_t size = 0;
    snprintf(path, sizeof path, "versions/%s/about", version);
    if (path_read_small(job->dir_fd, path, text, sizeof text) > 0 &&
        environment_record_parse(&record, text))
        size = record.size_bytes;
    id_random_text(suffix, sizeof suffix - 1);
    snprintf(building, sizeof building, "building-%s", suffix);
    snprintf(path, sizeof path, "versions/%s", version);
    int leased = environment_leased(job->dir_fd, version);
    if (leased)
        return leased < 0 ? leased : 0;
    if (renameat(job->dir_fd, path, job->dir_fd, building) < 0)
        return -errno;
    leased = environment_leased(job->dir_fd, version);
    if (leased)
        return renameat(job->dir_fd, building, job->dir_fd, path) < 0 ? -errno : 0;
    job->bytes_freed += size;
    job->removed++;
    return 0;
}

static void run_prune(void *arg)
{
    struct environment_job *job = arg;
    struct dirent **files = NULL;
    environment_leases_sweep(job->dir_fd);
    int error = keep_named(job);
    int count = error ? 0 : scandirat(job->dir_fd, "versions", &files, is_version, NULL);
    if (count < 0)
        error = -errno;
    for (int i = 0; i < count; i++) {
        if (!error && !is_kept(job, files[i]->d_name))
            error = take_away(job, files[i]->d_name);
        free(files[i]);
    }
    free(files);
    job->step_errno = -error;
}

static void prune(struct environment_job *job)
{
    environment_job_work(job, run_prune);
}

void environment_prune(struct environments *environments, const char *const *versions_in_use,
                       size_t count,
                       void (*done)(void *arg, int error, const struct hearth_failure *failure,
                                    uint64_t removed, uint64_t bytes_freed),
                       void *arg)
{
    static const environment_step steps[] = {environment_step_lock, prune, environment_step_sweep,
                                             environment_step_trim, NULL};
    static const environment_step no_steps[] = {NULL};
    struct environment_job *job = environment_job_new(environments, "", steps);
    struct hearth_failure failure;
    if (!job) {
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        done(arg, (int)failure.error, &failure, 0, 0);
        return;
    }
    environment_lease_only(environments, versions_in_use, count);
    job->internal = true;
    job->pruned = done;
    job->pruned_arg = arg;
    bool kept = true;
    for (size_t i = 0; i < count; i++)
        kept = kept && keep(job, versions_in_use[i]) == 0;
    if (!kept) {
        job->failed = true;
        job->steps = no_steps;
        hearth_fail(&job->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    }
}
