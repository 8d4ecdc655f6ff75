/* The second half of a clone's start: QEMU is there, the template's memory is mapped, and its state
 * is loaded now or when somebody wants the machine. */
#include "supervisord/drivers/qemu/qemu.h"
#include "supervisord/drivers/qemu/template.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define MONITOR_US (20 * US_PER_S)

/* The memory is mapped: what is loaded is the devices alone. */
#define LEAVE_MEMORY_OUT QMP_CAPABILITIES(false, true)

static void on_answer(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    if (error)
        guest->phase.failure = *failure;
    guest->monitor_answered(guest, error);
}

static void ask(struct qemu_guest *guest, const struct qmp_command *command,
                void (*done)(struct qemu_guest *guest, int error))
{
    if (guest->qmp)
        qmp_cancel(steal_pointer(guest->qmp));
    guest->monitor_answered = done;
    guest->qmp = qemu_monitor_run(guest, command, 1, false, MONITOR_US, on_answer, guest,
                                  &guest->phase.failure);
    if (!guest->qmp)
        done(guest, (int)guest->phase.failure.error);
}

void qemu_await_monitor(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest, int error))
{
    static const struct qmp_command command = LEAVE_MEMORY_OUT;
    ask(guest, &command, done);
}

void qemu_grow_disk(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest, int error))
{
    snprintf(guest->grow_text, sizeof guest->grow_text,
             "{\"execute\": \"block_resize\", \"arguments\": {\"node-name\": \"root\", "
             "\"size\": %" PRIu64 "}}",
             (uint64_t)guest->disk_mib << 20);
    guest->grow = (struct qmp_command){guest->grow_text, -1};
    ask(guest, &guest->grow, done);
}

static void on_loading(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    if (error) /* QEMU's end, or the deadline, is what is told */
        log_debug("state_not_loaded", "guest=%s detail=\"%s\"", guest->guest_id, failure->detail);
}

void qemu_load_state(struct qemu_guest *guest)
{
    static const struct qmp_command commands[] = {
        LEAVE_MEMORY_OUT,
        QMP_LOAD,
    };
    struct hearth_failure failure;
    guest->qmp = qemu_monitor_run(guest, commands, sizeof commands / sizeof *commands, false,
                                  MONITOR_US, on_loading, guest, &failure);
    if (!guest->qmp)
        on_loading(guest, (int)failure.error, &failure);
}

bool qemu_may_standby(struct driver *base, const struct guest_spec *spec)
{
    return template_likely(container_of(base, struct qemu_driver, driver), spec);
}
