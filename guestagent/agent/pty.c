#include "guestagent/agent/pty.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* Backspace takes whole characters. */
static void expect_utf8(int master)
{
    struct termios settings;
    if (tcgetattr(master, &settings) < 0)
        return;
    settings.c_iflag |= IUTF8;
    tcsetattr(master, TCSANOW, &settings);
}

int pty_open(struct pty *pty, unsigned cols, unsigned rows)
{
    auto_close int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    int error = master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ? -errno : 0;
    if (!error)
        error = -ptsname_r(master, pty->path, sizeof pty->path);
    if (!error)
        error = pty_resize(master, cols, rows);
    if (error)
        return error;
    expect_utf8(master);
    pty->master = steal_fd(&master);
    return 0;
}

int pty_resize(int master, unsigned cols, unsigned rows)
{
    struct winsize size = {.ws_col = (unsigned short)cols, .ws_row = (unsigned short)rows};
    return ioctl(master, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

pid_t pty_foreground(int master)
{
    pid_t group = 0;
    return ioctl(master, TIOCGPGRP, &group) == 0 && group > 1 ? group : 0;
}

uint64_t pty_ticks(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    uint64_t each = (uint64_t)sysconf(_SC_CLK_TCK);
    return (uint64_t)now.tv_sec * each + (uint64_t)now.tv_nsec * each / 1000000000;
}

/* A process's session and start, the sixth and the twenty-second field of its stat; the second may
 * hold anything. */
static bool look_at(int proc, const char *pid, int *ret_session, uint64_t *ret_start)
{
    char path[64], text[1024];
    unsigned long long start = 0;
    snprintf(path, sizeof path, "%.20s/stat", pid);
    auto_close int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length <= 0)
        return false;
    text[length] = '\0';
    const char *rest = strrchr(text, ')');
    bool read_all =
        rest && sscanf(rest + 1,
                       " %*c %*d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                       "%*d %*d %*d %llu",
                       ret_session, &start) == 2;
    *ret_start = start;
    return read_all;
}

void pty_kill_session(pid_t session, uint64_t began)
{
    char leader[24];
    int its_session;
    uint64_t start;
    auto_closedir DIR *dir = opendir("/proc");
    if (!dir || session <= 1)
        return;
    snprintf(leader, sizeof leader, "%d", (int)session);
    if (look_at(dirfd(dir), leader, &its_session, &start) && start > began)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 1 && look_at(dirfd(dir), entry->d_name, &its_session, &start) &&
            its_session == session)
            kill(pid, SIGKILL);
    }
}
