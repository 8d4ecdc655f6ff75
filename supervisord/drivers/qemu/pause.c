/* Machines that wait for creates with their state loaded: their processors are stopped, and while
 * they came up they were to have little of the host's. */
#include "supervisord/drivers/qemu/qemu.h"
#include "supervisord/drivers/qemu/template.h"

#include "base/cleanup.h"

#include <string.h>

#define MONITOR_US (5 * US_PER_S) /* it has nothing else to do */

/* Its end is told to who watches those that run. */
static void on_ended(void *arg)
{
    struct qemu_guest *guest = arg;
    if (guest->qmp)
        qmp_cancel(steal_pointer(guest->qmp));
    hearth_fail(&guest->phase.failure, HEARTH_EUNAVAILABLE, "guest_died",
                "the machine's QEMU has ended");
    qemu_runs_on(guest);
}

static void on_answered(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    if (error)
        guest->phase.failure = *failure;
    qemu_runs_on(guest);
}

static void order(struct driver *driver, struct guest *guest, const struct qmp_command *command,
                  guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(driver, guest);
    if (!phase_begin(&data->phase, PHASE_CHANGING, done, arg))
        return;
    struct hearth_failure *failure = &data->phase.failure;
    qemu_unwatch(data);
    if (qemu_watch_end(data, on_ended))
        hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    else
        data->qmp =
            qemu_monitor_run(data, command, 1, false, MONITOR_US, on_answered, data, failure);
    if (data->qmp)
        return;
    qemu_unwatch(data);
    loop_defer(qemu_loop(data), qemu_runs_on, data);
}

void qemu_pause(struct driver *driver, struct guest *guest, guest_done done, void *arg)
{
    static const struct qmp_command command = QMP_STOP;
    order(driver, guest, &command, done, arg);
}

void qemu_unpause(struct driver *driver, struct guest *guest, guest_done done, void *arg)
{
    static const struct qmp_command command = QMP_CONTINUE;
    struct qemu_guest *data = qemu_guest_data(driver, guest);
    qemu_in_foreground(data);
    order(driver, guest, &command, done, arg);
}

void qemu_in_foreground(struct qemu_guest *guest)
{
    if (guest->background)
        cgroup_prioritise(&guest->driver->cgroups, guest->guest_id, false);
    guest->background = false;
    qemu_let_template_go(guest);
}

void qemu_let_template_go(struct qemu_guest *guest)
{
    struct template *template = steal_pointer(guest->template);
    if (template)
        template_release(template);
    guest->waiting = false;
}

bool qemu_outdated(struct driver *driver, struct guest *guest)
{
    const struct qemu_guest *data = qemu_guest_data(driver, guest);
    struct qemu_kernel kernel;
    struct hearth_failure failure;
    if (!data->background || !data->template)
        return false;
    return !template_current(data->template) || qemu_kernel_find(data->driver, &kernel, &failure) ||
           strcmp(kernel.version, data->kernel.version) != 0 ||
           !qemu_initramfs_same(data->driver, &kernel, data->initrd);
}
