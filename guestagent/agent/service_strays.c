/* What a service has started and has left its process group since (setsid, a daemon's two forks):
 * it is known by a variable of its environment, as it was when the program began. */
#include "guestagent/agent/service.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENVIRONMENT_MAX ((size_t)256 << 10) /* past it nothing is looked for */

static bool has_entry(int proc_fd, const char *pid, const char *entry, size_t length)
{
    static char environment[1 + ENVIRONMENT_MAX]; /* from 1 on, so that a NUL is before each */
    char path[32];
    snprintf(path, sizeof path, "%.16s/environ", pid);
    auto_close int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    size_t got = 0;
    ssize_t more = fd < 0 ? 0 : 1;
    while (more > 0 && got < ENVIRONMENT_MAX) {
        more = read(fd, environment + 1 + got, ENVIRONMENT_MAX - got);
        got += more > 0 ? (size_t)more : 0;
    }
    bool found = memmem(environment, 1 + got, entry, length) != NULL;
    explicit_bzero(environment, 1 + got); /* secrets may be among it */
    return found;
}

size_t service_signal_strays(const struct service *service, int number)
{
    char entry[128] = ""; /* begins with a NUL, and ends with one */
    size_t length = 2 + (size_t)snprintf(entry + 1, sizeof entry - 1, SERVICE_VARIABLE "=%s",
                                         service->instance);
    auto_closedir DIR *processes = opendir("/proc");
    size_t count = 0;
    for (const struct dirent *process; processes && (process = readdir(processes));) {
        pid_t pid = isdigit((unsigned char)process->d_name[0]) ? atoi(process->d_name) : 0;
        if (pid <= 1 || pid == getpid() || pid == service->pid ||
            !has_entry(dirfd(processes), process->d_name, entry, length))
            continue;
        count++;
        if (number)
            kill(pid, number);
    }
    return count;
}
