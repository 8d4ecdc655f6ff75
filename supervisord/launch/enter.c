#include "supervisord/launch/enter.h"

#include "supervisord/launch/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define OOM_SCORE "500"

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t put = write(fd, text, strlen(text));
    close(fd);
    return put == (ssize_t)strlen(text) ? 0 : -1;
}

void launch_join_cgroup(const char *file)
{
    if (write_file(file, "0") < 0)
        launch_die(errno, "cannot join the cgroup %s", file);
}

void launch_raise_oom_score(void)
{
    /* Raising it is always allowed, but not where it is higher already. */
    (void)write_file("/proc/self/oom_score_adj", OOM_SCORE);
}
