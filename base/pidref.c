#include "base/pidref.h"

#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

uint64_t pidref_start_time(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (path_read_small(AT_FDCWD, path, text, sizeof text) <= 0)
        return 0;
    /* The command's name may hold blanks and parentheses: count fields from its last ')'. */
    char *cursor = strrchr(text, ')');
    for (int field = 2; cursor && field < 22; field++)
        cursor = strchr(cursor + 1, ' ');
    return cursor ? strtoull(cursor + 1, NULL, 10) : 0;
}

int pidref_open(struct pidref *ret_pidref, pid_t pid)
{
    long fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return -errno;
    uint64_t start_time = pidref_start_time(pid);
    if (!start_time) {
        close((int)fd);
        return -ESRCH;
    }
    *ret_pidref = (struct pidref){.pid = pid, .start_time = start_time, .fd = (int)fd};
    return 0;
}

int pidref_reopen(struct pidref *ret_pidref, pid_t pid, uint64_t start_time)
{
    struct pidref found;
    int error = pidref_open(&found, pid);
    if (error)
        return error;
    if (found.start_time != start_time) {
        pidref_close(&found);
        return -ESRCH;
    }
    *ret_pidref = found;
    return 0;
}

int pidref_signal(const struct pidref *pidref, int signal)
{
    if (pidref->fd < 0)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, pidref->fd, signal, NULL, 0) < 0 ? -errno : 0;
}

bool pidref_alive(const struct pidref *pidref)
{
    if (pidref->fd < 0)
        return false;
    struct pollfd wait = {.fd = pidref->fd, .events = POLLIN};
    return poll(&wait, 1, 0) == 0;
}

void pidref_close(struct pidref *pidref)
{
    if (pidref->fd >= 0)
        close(pidref->fd);
    *pidref = PIDREF_NONE;
}
