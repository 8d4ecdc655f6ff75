#include "supervisord/drivers/qemu/qemu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One line. boot: PIDs and start times mean nothing after another boot. QEMU's version is the last,
 * for it holds blanks. */
#define STATE_FORMAT "qemu1 boot=%s pid=%d start=%llu transport=%s accel=%s version=%s"

int qemu_state_save(struct qemu_guest *guest)
{
    char *text;
    if (asprintf(&text, STATE_FORMAT, guest->driver->boot_id, (int)guest->guest->process.pid,
                 (unsigned long long)guest->guest->process.start_time, guest->transport->name,
                 guest->accelerator, guest->version) < 0)
        return HEARTH_ENOMEMORY;
    free(guest->guest->driver_state);
    guest->guest->driver_state = text;
    return 0;
}

static int gone(struct hearth_failure *failure, const char *why)
{
    return hearth_fail(failure, HEARTH_ENOTFOUND, "guest_gone", "%s", why);
}

int qemu_state_load(struct qemu_guest *guest, struct hearth_failure *failure)
{
    char boot[sizeof guest->driver->boot_id], transport[16], accelerator[8];
    int pid;
    unsigned long long start_time;
    const char *state = guest->guest->driver_state;
    if (!state || sscanf(state,
                         "qemu1 boot=%39s pid=%d start=%llu transport=%15s accel=%7s "
                         "version=%63[^\n]",
                         boot, &pid, &start_time, transport, accelerator, guest->version) != 6)
        return gone(failure, "the machine was never started");
    guest->transport = transport_by_name(transport);
    guest->accelerator = strcmp(accelerator, "kvm") == 0 ? "kvm" : "tcg";
    if (strcmp(boot, guest->driver->boot_id) != 0)
        return gone(failure, "the host has been started again since");
    struct pidref process;
    if (!guest->transport || pid <= 1 || pidref_reopen(&process, pid, start_time) < 0)
        return gone(failure, "the machine's QEMU has ended");
    if (!pidref_alive(&process)) { /* a zombie */
        pidref_close(&process);
        return gone(failure, "the machine's QEMU has ended");
    }
    guest->guest->process = process;
    guest->linked = true; /* what the last daemon left half said may still lie in the port */
    qemu_fill_facts(guest);
    return 0;
}

struct adopting {
    guest_done done;
    void *arg;
    int error;
    struct hearth_failure failure;
};

static void tell(void *arg)
{
    struct adopting *adopting = arg;
    adopting->done(adopting->arg, adopting->error, adopting->error ? &adopting->failure : NULL);
    free(adopting);
}

void qemu_adopt(struct driver *base, struct guest *guest, guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(base, guest);
    struct adopting *adopting = malloc(sizeof *adopting);
    if (!adopting)
        abort();
    *adopting = (struct adopting){.done = done, .arg = arg};
    adopting->error = qemu_state_load(data, &adopting->failure);
    if (!adopting->error)
        adopting->error = qemu_watch_process(data, &adopting->failure);
    int console = adopting->error ? -1 : qemu_files_connect(data, "console");
    if (console >= 0)
        (void)tail_follow(&data->console, console);
    loop_defer(qemu_loop(data), tell, adopting);
}
