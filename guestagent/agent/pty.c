#include "guestagent/agent/pty.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
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

/* The session of a process, from the sixth field of its stat; the second may hold anything. */
static pid_t session_of(int proc, const char *pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "%.20s/stat", pid);
    auto_close int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    const char *rest = strrchr(text, ')');
    int session = 0;
    return rest && sscanf(rest + 1, " %*c %*d %*d %d", &session) == 1 ? session : 0;
}

void pty_kill_session(pid_t session)
{
    auto_closedir DIR *dir = opendir("/proc");
    if (!dir || session <= 1)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 1 && session_of(dirfd(dir), entry->d_name) == session)
            kill(pid, SIGKILL);
    }
}
