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
#define LEAVE_MEMORY_OUT                                                                           \
    {                                                                                              \
        "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\": ["          \
        "{\"capability\": \"x-ignore-shared\", \"state\": true}]}}",                               \
            -1                                                                                     \
    }

static struct qmp *run(struct qemu_guest *guest, const struct qmp_command *commands, size_t count,
                       qmp_done done)
{
    int fd = qemu_files_connect(guest, "qmp");
    return fd < 0 ? NULL
                  : qmp_run(qemu_loop(guest), fd, commands, count, false,
                            clock_monotonic_us() + MONITOR_US, done, guest);
}

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
    guest->qmp = run(guest, command, 1, on_answer);
    if (!guest->qmp)
        done(guest, hearth_fail(&guest->phase.failure, HEARTH_EUNAVAILABLE, "monitor_failed",
                                "QEMU's monitor cannot be reached"));
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
        {"{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"fd:7\"}}", -1},
    };
    _Static_assert(QEMU_FD_STATE == 7, "the descriptor that is named above");
    /* What a machine was suspended to has its memory in it. */
    guest->qmp = run(guest, commands + guest->resuming, 2 - guest->resuming, on_loading);
}

bool qemu_may_standby(struct driver *base, const struct guest_spec *spec)
{
    return template_likely(container_of(base, struct qemu_driver, driver), spec);
}

void qemu_standby_over(struct qemu_guest *guest)
{
    if (guest->waiting)
        template_release(steal_pointer(guest->template));
    guest->waiting = false;
}
