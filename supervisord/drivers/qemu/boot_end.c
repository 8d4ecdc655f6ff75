/* The end of a boot, above all of one that failed: whether it is tried again, and what is cleared
 * away. */
#include "supervisord/drivers/qemu/boot.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "supervisord/drivers/qemu/load.h"
#include "supervisord/drivers/qemu/template.h"

#define BOOTS_MAX 2

void boot_close_listening(struct qemu_guest *guest)
{
    int *const fds[] = {&guest->qmp_fd,          &guest->console_fd,        &guest->agent_fd,
                        &guest->template_ram_fd, &guest->template_state_fd, &guest->network_fds[0],
                        &guest->network_fds[1]};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        cleanup_close(fds[i]);
        *fds[i] = -1;
    }
}

void boot_end(struct qemu_guest *guest, int error)
{
    gate_leave(guest);
    guest->copy = NULL;
    qemu_unseal_drop(guest);
    phase_finish(&guest->phase, error, &guest->phase.failure);
}

int boot_cancel(struct qemu_guest *guest)
{
    return hearth_fail(&guest->phase.failure, HEARTH_ECANCELLED, "guest_destroyed",
                       "the guest is being destroyed");
}

static void on_cleared(void *arg)
{
    struct qemu_guest *guest = arg;
    boot_end(guest, guest->phase.error);
}

/* What could not be gone on from is of no use to anybody; its disk is. Where nothing has tried to,
 * for the host was short of something, it waits as it was. */
static void clear_work(void *arg)
{
    const struct qemu_guest *guest = arg;
    qemu_clear_runtime(arg);
    if (guest->held && guest->launched && qemu_saved_remove(guest))
        log_warning("saved_machine_left", "guest=%s", guest->guest_id);
}

void boot_cleared_for_retry(void *arg)
{
    struct qemu_guest *guest = arg;
    if (phase_unwanted(&guest->phase))
        boot_end(guest, boot_cancel(guest));
    else
        boot_once(guest);
}

void boot_give_up(struct qemu_guest *guest, bool again)
{
    qemu_unwatch(guest);
    qemu_disconnect(guest);
    boot_close_listening(guest);
    qemu_kill(guest);
    qemu_unseal_drop(guest);
    tail_end(&guest->console);
    tail_end(&guest->errors);
    pidref_close(&guest->guest->process);
    guest->phase.error = (int)guest->phase.failure.error;
    struct template *template = steal_pointer(guest->template);
    again = (template || (again && !guest->trial && guest->boots < BOOTS_MAX)) &&
            !guest->background && !guest->resuming && !phase_unwanted(&guest->phase);
    if (template) { /* what was no boot is not counted as one */
        if (!phase_unwanted(&guest->phase))
            template_did_not_work(template, guest->phase.failure.detail);
        template_release(template);
        guest->boots--;
        guest->phase.error = again ? 0 : guest->phase.error;
    } else if (again) {
        guest->driver->config.counters->boots_retried++;
        log_warning("boot_retried", "guest=%s detail=\"%s\"", guest->guest_id,
                    guest->phase.failure.detail);
        guest->phase.error = 0;
    }
    worker_submit(guest->driver->config.workers, clear_work,
                  again ? boot_cleared_for_retry : on_cleared, guest);
}

void boot_fail(struct qemu_guest *guest, const char *what, bool again)
{
    char detail[448];
    qemu_describe_end(guest, detail, sizeof detail);
    hearth_fail(&guest->phase.failure, HEARTH_EIO, "guest_start_failed", "%s: %s", what, detail);
    boot_give_up(guest, again);
}
