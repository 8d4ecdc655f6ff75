#include "cli/body.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int body_open(struct body *ret_body, const char *path, const struct tar_pack_choice *choice,
              struct hearth_failure *failure)
{
    struct body body = {.fd = -1};
    struct stat stat;
    int fd = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) < 0) {
        int error = hearth_fail_errno(failure, errno, "cannot_read", "%s cannot be opened", path);
        if (fd >= 0)
            close(fd);
        return error;
    }
    if (S_ISDIR(stat.st_mode)) {
        close(fd);
        int error = tar_pack_open(&body.pack, path, choice, failure);
        if (error)
            return error;
    } else {
        body.fd = fd;
        body.total = S_ISREG(stat.st_mode) ? (uint64_t)stat.st_size : 0;
    }
    progress_begin(&body.progress, path);
    *ret_body = body;
    return 0;
}

static ssize_t read_file(struct body *body, void *out, size_t size)
{
    ssize_t got;
    do {
        got = read(body->fd, out, size);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return hearth_fail_errno(&body->failure, errno, "cannot_read", "%s cannot be read",
                                 body->progress.label);
    return got;
}

ssize_t body_read(void *arg, void *out, size_t size)
{
    struct body *body = arg;
    ssize_t got = body->pack ? tar_pack_read(body->pack, out, size, &body->failure)
                             : read_file(body, out, size);
    if (got > 0)
        body->done += (uint64_t)got;
    if (body->progress.terminal)
        progress_update(&body->progress, "uploading", body->done, body->total, true);
    return got;
}

void body_close(struct body *body)
{
    progress_end(&body->progress);
    if (body->pack) {
        struct tar_pack_stats stats;
        tar_pack_stats(body->pack, &stats);
        if (stats.skipped)
            fprintf(stderr, "hearth: left out %llu sockets, pipes or devices\n",
                    (unsigned long long)stats.skipped);
    }
    tar_pack_close(body->pack);
    if (body->fd >= 0)
        close(body->fd);
}
