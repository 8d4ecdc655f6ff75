#include "supervisord/environment_job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What debian:12-build takes several times over. */
#define CACHE_MAX ((off_t)1 << 30)

struct cached {
    struct dirent *file;
    off_t size;
    struct timespec changed;
};

static int is_package(const struct dirent *file)
{
    size_t length = strlen(file->d_name);
    return length > 4 && strcmp(file->d_name + length - 4, ".deb") == 0;
}

/* Newest first. apt gives a package the time that its mirror tells. */
static int newest_first(const void *a, const void *b)
{
    const struct cached *left = a, *right = b;
    if (left->changed.tv_sec != right->changed.tv_sec)
        return left->changed.tv_sec > right->changed.tv_sec ? -1 : 1;
    return strcmp(left->file->d_name, right->file->d_name);
}

/* Files are NAME_VERSION_ARCHITECTURE.deb: is it the same package for the same machine? */
static bool same_package(const char *left, const char *right)
{
    size_t name = strcspn(left, "_");
    const char *left_end = strrchr(left, '_'), *right_end = strrchr(right, '_');
    return strcspn(right, "_") == name && strncmp(left, right, name) == 0 && left_end &&
           right_end && strcmp(left_end, right_end) == 0;
}

static void trim(int cache_fd, struct cached *cached, size_t count)
{
    off_t kept = 0;
    qsort(cached, count, sizeof *cached, newest_first);
    for (size_t i = 0; i < count; i++) {
        bool superseded = false;
        for (size_t j = 0; j < i && !superseded; j++)
            superseded = same_package(cached[j].file->d_name, cached[i].file->d_name);
        if (superseded || kept + cached[i].size > CACHE_MAX)
            (void)unlinkat(cache_fd, cached[i].file->d_name, 0);
        else
            kept += cached[i].size;
    }
}

static void run_trim(void *arg)
{
    const struct environment_job *job = arg;
    struct dirent **files = NULL;
    auto_close int cache_fd = openat(job->dir_fd, "cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int found = cache_fd < 0 ? 0 : scandirat(cache_fd, ".", &files, is_package, NULL);
    struct cached *cached = found > 0 ? calloc((size_t)found, sizeof *cached) : NULL;
    size_t count = 0;
    for (int i = 0; cached && i < found; i++) {
        struct stat stat;
        if (fstatat(cache_fd, files[i]->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0)
            cached[count++] = (struct cached){files[i], stat.st_size, stat.st_mtim};
    }
    if (cached)
        trim(cache_fd, cached, count);
    for (int i = 0; i < found; i++)
        free(files[i]);
    free(cached);
    free(files);
}

void environment_step_trim(struct environment_job *job)
{
    environment_job_work(job, run_trim);
}
