#include "supervisord/drivers/oci/oci.h"

#include "base/cleanup.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define KILL_ROUNDS 500
#define KILL_PAUSE_NS (10 * 1000 * 1000)

/* One line. boot: PIDs and start times mean nothing after another boot. The runtime's name is the
 * last, for it holds blanks. */
#define STATE_FORMAT "oci1 boot=%s pid=%d start=%llu limits=%d%d%d runtime=%s"

int guest_state_save(struct oci_driver *driver, struct guest *guest)
{
    char *text;
    if (asprintf(&text, STATE_FORMAT, driver->boot_id, (int)guest->process.pid,
                 (unsigned long long)guest->process.start_time, guest->facts.memory_limited,
                 guest->facts.pids_limited, guest->facts.cpu_limited, guest->facts.runtime) < 0)
        return HEARTH_ENOMEMORY;
    free(guest->driver_state);
    guest->driver_state = text;
    return 0;
}

int guest_state_load(struct oci_driver *driver, struct guest *guest, struct hearth_failure *failure)
{
    char boot[sizeof driver->boot_id], version[OCI_VERSION_SIZE];
    int pid, memory, pids, cpu;
    unsigned long long start_time;
    if (!guest->driver_state ||
        sscanf(guest->driver_state,
               "oci1 boot=%39s pid=%d start=%llu limits=%1d%1d%1d runtime=%63[^\n]", boot, &pid,
               &start_time, &memory, &pids, &cpu, version) != 7)
        return hearth_fail(failure, HEARTH_ENOTFOUND, "guest_gone", "the guest was never started");
    if (strcmp(boot, driver->boot_id) != 0)
        return hearth_fail(failure, HEARTH_ENOTFOUND, "guest_gone",
                           "the host has been started again since");
    struct pidref process;
    if (pid <= 1 || pidref_reopen(&process, pid, start_time) < 0)
        return hearth_fail(failure, HEARTH_ENOTFOUND, "guest_gone",
                           "the guest's process has ended");
    if (!pidref_alive(&process)) { /* a zombie */
        pidref_close(&process);
        return hearth_fail(failure, HEARTH_ENOTFOUND, "guest_gone",
                           "the guest's process has ended");
    }
    guest->process = process;
    oci_fill_facts(driver, guest);
    guest->facts.memory_limited = memory;
    guest->facts.pids_limited = pids;
    guest->facts.cpu_limited = cpu;
    guest->facts.runtime = oci_version(driver, version);
    return 0;
}

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

bool guest_state_kill(const char *guest_id)
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
