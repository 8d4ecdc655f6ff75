#include "supervisord/environment_job.h"

#include "base/id.h"
#include "base/log.h"
#include "base/path_at.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BUILDING "building-"
#define DIGEST_TIMEOUT_MS (15 * 60 * 1000)

/* Sweeping */

static int is_building(const struct dirent *file)
{
    return text_starts_with(file->d_name, BUILDING);
}

/* Packages that were downloaded whole (apt gives them their name then) are kept for the next try.
 */
static void keep_packages(int dir_fd, const char *building)
{
    char path[320], to[320];
    snprintf(path, sizeof path, "%s/tree/var/cache/apt/archives", building);
    int fd = path_open_beneath(dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
    auto_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *file; directory && (file = readdir(directory));) {
        size_t length = strlen(file->d_name);
        if (length < 5 || strcmp(file->d_name + length - 4, ".deb") != 0)
            continue;
        snprintf(to, sizeof to, "cache/%s", file->d_name);
        (void)renameat(dirfd(directory), file->d_name, dir_fd, to);
    }
}

static void run_sweep(void *arg)
{
    struct environment_job *job = arg;
    struct dirent **files = NULL;
    int dir_fd = job->dir_fd;
    int count = scandirat(dir_fd, ".", &files, is_building, NULL);
    for (int i = 0; i < count; i++) {
        keep_packages(dir_fd, files[i]->d_name);
        int error = path_remove_tree(dir_fd, files[i]->d_name);
        if (error) /* in nobody's way: it is tried again before the next build */
            log_warning("environment_left_over", "name=%s error=\"%s\"", files[i]->d_name,
                        strerror(-error));
        free(files[i]);
    }
    free(files);
}

void environment_step_sweep(struct environment_job *job)
{
    environment_job_work(job, run_sweep);
}

/* Making */

void environment_step_begin(struct environment_job *job)
{
    char suffix[9], path[96];
    int dir_fd = job->dir_fd, error = 0;
    id_random_text(suffix, sizeof suffix - 1);
    snprintf(job->building, sizeof job->building, BUILDING "%s", suffix);
    snprintf(path, sizeof path, "%s/tree", job->building);
    if (mkdirat(dir_fd, job->building, 0755) < 0 || mkdirat(dir_fd, path, 0755) < 0)
        error =
            hearth_fail_errno(&job->failure, errno, "image_dir_failed",
                              "cannot make a directory in %.200s", job->environments->image_dir);
    environment_job_next(job, error);
}

/* "good ENTRIES BYTES DIGEST" */
static void on_digest(void *arg, const struct child_result *result)
{
    struct environment_job *job = arg;
    uint64_t entries;
    int error = 0;
    if (result->exit_code != 0 ||
        sscanf(result->errors, "good %" SCNu64 " %" SCNu64 " %64s", &entries,
               &job->record.size_bytes, job->record.version) != 3 ||
        !environment_version_valid(job->record.version))
        error = hearth_fail(&job->failure, HEARTH_EIO, "environment_build_failed",
                            "the tree that was built cannot be read: %.200s",
                            *result->errors ? result->errors : "no reason is known");
    environment_job_next(job, error);
}

void environment_step_digest(struct environment_job *job)
{
    char path[96];
    auto_free char *program = spawn_sibling("hearth-archive"), *tree = NULL;
    snprintf(path, sizeof path, "%s/manifest", job->building);
    job->manifest_fd = openat(job->dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int error = 0;
    if (job->manifest_fd < 0 || !program ||
        asprintf(&tree, "%s/%s/tree", job->environments->image_dir, job->building) < 0)
        error = hearth_fail(&job->failure, HEARTH_EUNSUPPORTED, "environment_build_failed",
                            "hearth-archive is not installed, or the manifest cannot be made");
    if (!error) {
        const char *const argv[] = {program, "digest", tree, NULL};
        struct spawn_spec spec = {.argv = argv,
                                  .stdin_fd = -1,
                                  .stdout_fd = job->manifest_fd,
                                  .stderr_fd = -1,
                                  .pass_fds = &job->lock_fd,
                                  .pass_count = 1,
                                  .timeout_ms = DIGEST_TIMEOUT_MS};
        environment_job_progress(job, "hashing", "");
        error = spawn(&job->child, job->environments->loop, &spec, on_digest, job, &job->failure);
    }
    if (error)
        environment_job_next(job, error);
}

/* Publishing */

static int write_record(struct environment_job *job, const char *path)
{
    auto_buf struct buf text = {0};
    if (environment_record_print(&job->record, &text))
        return -ENOMEM;
    return path_write_durable(job->dir_fd, path, text.data, text.length, 0644);
}

/* The version first, durably and with one rename; the name after, so that it never stands for
 * something half there. Where the very same tree is there already, that one stays. */
static int publish(struct environment_job *job)
{
    char about[128], version[128], reference[ENVIRONMENT_NAME_SIZE + 32];
    int dir_fd = job->dir_fd;
    snprintf(about, sizeof about, "%s/about", job->building);
    snprintf(version, sizeof version, "versions/%s", job->record.version);
    snprintf(reference, sizeof reference, "environments/%s" REFERENCE_SUFFIX, job->record.name);
    int error = write_record(job, about);
    if (error)
        return error;
    if (syncfs(dir_fd) < 0)
        return -errno;
    if (renameat(dir_fd, job->building, dir_fd, version) < 0) {
        if (errno != ENOTEMPTY && errno != EEXIST)
            return -errno;
        run_sweep(job);
    }
    auto_close int versions = openat(dir_fd, "versions", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (versions < 0 || fsync(versions) < 0)
        return -errno;
    return write_record(job, reference);
}

static void run_publish(void *arg)
{
    struct environment_job *job = arg;
    job->step_errno = -publish(job);
}

void environment_step_publish(struct environment_job *job)
{
    job->record.built_at = clock_wall_us();
    environment_job_work(job, run_publish);
}

void environments_sweep(struct environments *environments)
{
    static const environment_step steps[] = {environment_step_lock, environment_step_sweep, NULL};
    struct dirent **files = NULL;
    int count = scandirat(environments->dir_fd, ".", &files, is_building, NULL);
    for (int i = 0; i < count; i++)
        free(files[i]);
    free(files);
    struct environment_job *job = count > 0 ? environment_job_new(environments, "", steps) : NULL;
    if (job)
        job->internal = true;
}
