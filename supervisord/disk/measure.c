#include "supervisord/disk/measure.h"

#include "base/cleanup.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK ((uint64_t)4096)
#define DEPTH_MAX 512 /* a descriptor each */
#define ENTRY_BYTES 8 /* of a directory, before the name */

struct walk {
    struct tree_measure *measure;
    dev_t device;
};

static uint64_t whole_blocks(uint64_t bytes)
{
    return (bytes + BLOCK - 1) / BLOCK * BLOCK;
}

/* What is stored of a file with holes. Where the host's file system stores less than there is
 * (compressed), the data counts. */
static uint64_t data_bytes(int dir_fd, const char *name, const struct stat *status)
{
    uint64_t size = whole_blocks((uint64_t)status->st_size), sum = 0;
    if ((uint64_t)status->st_blocks * 512 >= (uint64_t)status->st_size)
        return size;
    auto_close int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return size;
    for (off_t at = 0, end; (at = lseek(fd, at, SEEK_DATA)) >= 0; at = end) {
        end = lseek(fd, at, SEEK_HOLE);
        if (end <= at)
            return size;
        sum += whole_blocks((uint64_t)(end - at)) + BLOCK; /* it need not begin at a block */
    }
    return sum < size ? sum : size;
}

static int walk(struct walk *state, int fd, unsigned depth);

static int visit(struct walk *state, int dir_fd, const char *name, unsigned depth)
{
    struct stat status;
    if (fstatat(dir_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    state->measure->file_count++;
    if (S_ISREG(status.st_mode))
        /* Each name of a file with several has its part. */
        state->measure->block_bytes +=
            data_bytes(dir_fd, name, &status) / (uint64_t)status.st_nlink;
    else if (S_ISLNK(status.st_mode))
        state->measure->block_bytes += BLOCK;
    if (!S_ISDIR(status.st_mode) || status.st_dev != state->device)
        return 0;
    if (depth == DEPTH_MAX)
        return -ENAMETOOLONG;
    int fd = path_open_directory(dir_fd, name);
    return fd < 0 ? fd : walk(state, fd, depth + 1);
}

/* Takes fd. */
static int walk(struct walk *state, int fd, unsigned depth)
{
    auto_closedir DIR *directory = fdopendir(fd);
    if (!directory) {
        close(fd);
        return -ENOMEM;
    }
    uint64_t bytes = 0;
    int error = 0;
    for (struct dirent *file; !error && (file = readdir(directory));) {
        bytes += ENTRY_BYTES + strlen(file->d_name) + 3;
        if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0)
            error = visit(state, fd, file->d_name, depth);
    }
    /* Half as much again and a block: a directory that is indexed has blocks that are not full. */
    state->measure->block_bytes += whole_blocks(bytes + bytes / 2) + BLOCK;
    return error;
}

int tree_measure(const char *directory, struct tree_measure *ret_measure)
{
    struct stat status;
    *ret_measure = (struct tree_measure){0};
    if (stat(directory, &status) < 0)
        return -errno;
    struct walk state = {.measure = ret_measure, .device = status.st_dev};
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : walk(&state, fd, 0);
}
