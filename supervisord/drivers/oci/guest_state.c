#include "supervisord/drivers/oci/oci.h"

#include <stdio.h>
#include <string.h>

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
