#include "supervisord/drivers/qemu/load.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "supervisord/drivers/qemu/boot.h"
#include "supervisord/drivers/qemu/sealed_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define LOAD_US (120 * US_PER_S)

/* What was saved, on its way into QEMU. A worker has it from the moment QEMU reads; a start that
 * ends meanwhile leaves it to that worker's end. */
struct unsealing {
    struct qemu_guest *guest; /* NULL: nobody waits for it */
    struct sealed_state *state;
    int file_fd, pipe_fd; /* the end that is written */
    bool submitted;
    int64_t deadline_us;
    atomic_bool abandoned;
    struct hearth_failure failure;
};

static void unsealing_free(struct unsealing *unsealing)
{
    cleanup_close(&unsealing->file_fd);
    cleanup_close(&unsealing->pipe_fd);
    sealed_state_free(unsealing->state);
    free(unsealing);
}

int qemu_unseal_begin(struct qemu_guest *guest, const unsigned char *key)
{
    struct unsealing *unsealing = calloc(1, sizeof *unsealing);
    struct sealed_state *state = unsealing ? sealed_state_new(key, guest->guest_id) : NULL;
    if (!state) {
        free(unsealing);
        return hearth_fail(&guest->phase.failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    }
    *unsealing = (struct unsealing){.guest = guest, .state = state, .file_fd = -1, .pipe_fd = -1};
    guest->unsealing = unsealing;
    return 0;
}

int qemu_unseal_open(struct qemu_guest *guest, struct hearth_failure *failure)
{
    struct unsealing *unsealing = guest->unsealing;
    int ends[2];
    if ((unsealing->file_fd = qemu_saved_open(guest)) < 0)
        return hearth_fail(failure, HEARTH_EIO, "suspend_lost",
                           "what the machine was saved to cannot be read");
    if (pipe2(ends, O_CLOEXEC) < 0)
        return hearth_fail_errno(failure, errno, "guest_start_failed", "cannot make a pipe");
    guest->template_state_fd = ends[0];
    unsealing->pipe_fd = ends[1];
    if (fcntl(ends[1], F_SETFL, O_WRONLY | O_NONBLOCK) < 0)
        return hearth_fail_errno(failure, errno, "guest_start_failed", "cannot make a pipe");
    (void)fcntl(ends[1], F_SETPIPE_SZ, QEMU_PIPE_BYTES); /* else it is slower */
    return 0;
}

void qemu_unseal_drop(struct qemu_guest *guest)
{
    struct unsealing *unsealing = steal_pointer(guest->unsealing);
    if (!unsealing)
        return;
    unsealing->guest = NULL;
    atomic_store(&unsealing->abandoned, true);
    if (!unsealing->submitted)
        unsealing_free(unsealing);
}

/* --- what is loaded --- */

static void done_when_whole(struct qemu_guest *guest)
{
    if (guest->all_loaded && !guest->unsealing)
        guest->loaded(guest);
}

static void on_loaded(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->qmp = NULL;
    guest->all_loaded = !error;
    if (error) /* QEMU's end, or the deadline, is what is told */
        log_debug("state_not_loaded", "guest=%s detail=\"%s\"", guest->guest_id, failure->detail);
    else
        done_when_whole(guest);
}

/* --- what is opened meanwhile --- */

static void unseal_work(void *arg)
{
    struct unsealing *unsealing = arg;
    const struct sealed_move move = {
        .from_fd = unsealing->file_fd,
        .to_fd = unsealing->pipe_fd,
        .deadline_us = unsealing->deadline_us,
        .abandoned = &unsealing->abandoned,
    };
    (void)sealed_state_open(unsealing->state, &move, &unsealing->failure);
}

/* One that is refused leaves the pipe open until QEMU is ended for that reason, not for its own. */
static void on_unsealed(void *arg)
{
    struct unsealing *unsealing = arg;
    struct qemu_guest *guest = unsealing->guest;
    if (guest && unsealing->failure.error == HEARTH_EIO) {
        guest->phase.failure = unsealing->failure;
        boot_give_up(guest, false);
    } else if (guest && !unsealing->failure.error) {
        guest->unsealing = NULL;
        done_when_whole(guest);
    } else if (guest) { /* QEMU's end, or the deadline, is what is told */
        unsealing->submitted = false;
        return;
    }
    unsealing_free(unsealing);
}

void qemu_unseal(struct qemu_guest *guest)
{
    struct unsealing *unsealing = guest->unsealing;
    if (!unsealing)
        return;
    unsealing->submitted = true;
    unsealing->deadline_us = clock_monotonic_us() + LOAD_US;
    worker_submit(guest->driver->openers, unseal_work, on_unsealed, unsealing);
}

void qemu_load_whole(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest))
{
    static const struct qmp_command commands[] = {QMP_CAPABILITIES(true, false), QMP_LOAD};
    _Static_assert(QEMU_FD_STATE == 7, "the descriptor that QMP_LOAD names");
    struct hearth_failure failure;
    guest->loaded = done;
    guest->all_loaded = false;
    guest->qmp = qemu_monitor_run(guest, commands, sizeof commands / sizeof *commands, true,
                                  LOAD_US, on_loaded, guest, &failure);
    if (!guest->qmp)
        on_loaded(guest, (int)failure.error, &failure);
}
