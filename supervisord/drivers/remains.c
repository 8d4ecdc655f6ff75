#include "supervisord/drivers/remains.h"

#include "base/cleanup.h"
#include "base/path_at.h"
#include "base/pidref.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define KILL_ROUNDS 500
#define KILL_PAUSE_NS (10 * 1000 * 1000)

/* hearth-launch, the runtime and the guest's init all start with it. */
static bool is_of_guest(const char *pid, const char *variable)
{
    char path[300], environment[4096];
    snprintf(path, sizeof path, "/proc/%s/environ", pid);
    ssize_t length = path_read_small(AT_FDCWD, path, environment, sizeof environment);
    for (char *at = environment; at < environment + length; at += strlen(at) + 1)
        if (strcmp(at, variable) == 0)
            return true;
    return false;
}

static bool kill_once(const char *variable)
{
    auto_closedir DIR *processes = opendir("/proc");
    bool found = false;
    for (struct dirent *entry; processes && (entry = readdir(processes));) {
        struct pidref process;
        pid_t pid = atoi(entry->d_name);
        if (pid <= 1 || pidref_open(&process, pid) < 0)
            continue;
        /* Looked at once it is held: what is killed is what was looked at. */
        if (is_of_guest(entry->d_name, variable)) {
            (void)pidref_signal(&process, SIGKILL);
            found = true;
        }
        pidref_close(&process);
    }
    return found;
}

bool remains_kill(const char *guest_id)
{
    char variable[64];
    snprintf(variable, sizeof variable, GUEST_ID_VARIABLE "=%s", guest_id);
    for (int round = 0; round < KILL_ROUNDS; round++) {
        if (!kill_once(variable))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = KILL_PAUSE_NS}, NULL);
    }
    return false;
}
