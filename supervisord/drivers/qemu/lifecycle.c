#include "supervisord/drivers/qemu/qemu.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/drivers/remains.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define KILL_WAIT_US (10 * US_PER_S)
#define WRITES_US (2 * US_PER_S)     /* in which one that writes to its disk does so once */
#define STOP_MOST_US (60 * US_PER_S) /* for one that writes on and on */

static struct qemu_guest *begin(struct driver *driver, struct guest *guest, enum phase_kind kind,
                                guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(driver, guest);
    return phase_begin(&data->phase, kind, done, arg) ? data : NULL;
}

int qemu_take_spec(struct qemu_guest *guest, const struct guest_spec *spec)
{
    guest->vcpu_count = spec->vcpu_count;
    guest->mem_mib = spec->mem_mib;
    guest->disk_mib = spec->disk_mib;
    guest->pids_max = QEMU_PIDS_MAX;
    guest->network = network_has_device(spec->network);
    guest->copy = spec->copy;
    guest->held = spec->resume;
    snprintf(guest->transport_choice, sizeof guest->transport_choice, "%s",
             spec->transport ? spec->transport : guest->driver->config.transport);
    snprintf(guest->template_owner, sizeof guest->template_owner, "%s",
             spec->template_owner ? spec->template_owner : "");
    free(guest->image_path);
    guest->image_path = text_copy(spec->image_path);
    if (!guest->image_path)
        return hearth_fail(&guest->phase.failure, HEARTH_EINVALID, "environment_missing",
                           "the environment is not there any more");
    return 0;
}

/* --- prepare --- */

static void prepare_work(void *arg)
{
    struct qemu_guest *guest = arg;
    guest->phase.error = qemu_files_prepare(guest, &guest->phase.failure);
}

static void prepared(void *arg)
{
    struct qemu_guest *guest = arg;
    guest->fresh = !guest->phase.error && !guest->copy;
    phase_finish_now(&guest->phase);
}

void qemu_prepare(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                  guest_done done, void *arg)
{
    struct qemu_guest *data = begin(driver, guest, PHASE_PREPARING, done, arg);
    if (!data)
        return;
    int error = qemu_take_spec(data, spec);
    if (error)
        phase_finish_later(&data->phase, error);
    else
        worker_submit(data->driver->starters, prepare_work, prepared, data);
}

/* --- the end of a machine --- */

void qemu_unwatch(struct qemu_guest *guest)
{
    watch_free(&guest->exit_watch);
    timer_unset(&guest->timer);
}

void qemu_console(const struct qemu_guest *guest, char *out, size_t size)
{
    tail_text(&guest->console, out, size);
    if (guest->guest->hide)
        guest->guest->hide(guest->guest, out, strlen(out));
}

void qemu_describe_end(struct qemu_guest *guest, char *out, size_t size)
{
    char console[TAIL_SIZE], errors[160];
    tail_end(&guest->console);
    tail_end(&guest->errors);
    qemu_console(guest, console, sizeof console);
    tail_text(&guest->errors, errors, sizeof errors);
    bool memory = cgroup_was_out_of_memory(&guest->driver->cgroups, guest->guest_id);
    size_t length = strlen(console);
    const char *last = length > CONSOLE_TOLD ? console + length - CONSOLE_TOLD : console;
    const char *panic = strstr(console, "Kernel panic");
    snprintf(out, size, "%s%s%s%s%.*s",
             guest->end_reason ? guest->end_reason
             : memory          ? "QEMU was killed: its memory limit was reached"
             : panic           ? "the machine's kernel panicked"
                               : "the machine's QEMU ended",
             *errors ? "; QEMU: " : "", errors, *console ? "; console: " : "", CONSOLE_TOLD,
             panic ? panic : last);
}

static void on_process_end(void *arg)
{
    struct qemu_guest *guest = arg;
    char detail[512];
    qemu_unwatch(guest);
    qemu_disconnect(guest);
    qemu_let_template_go(guest);
    pidref_close(&guest->guest->process);
    qemu_describe_end(guest, detail, sizeof detail);
    if (guest->guest->on_died)
        guest->guest->on_died(guest->guest, detail);
}

int qemu_watch_end(struct qemu_guest *guest, void (*fn)(void *arg))
{
    watch_free(&guest->exit_watch);
    return watch_init(&guest->exit_watch, qemu_loop(guest), guest->guest->process.fd, fn, guest);
}

int qemu_watch_process(struct qemu_guest *guest, struct hearth_failure *failure)
{
    return qemu_watch_end(guest, on_process_end)
               ? hearth_fail(failure, HEARTH_ENOMEMORY, "watch_failed", "cannot watch the machine")
               : 0;
}

void qemu_runs_on(void *arg)
{
    struct qemu_guest *guest = arg;
    struct hearth_failure failure;
    qemu_unwatch(guest);
    if (qemu_watch_process(guest, &failure) && !guest->phase.failure.error)
        guest->phase.failure = failure;
    phase_finish(&guest->phase, (int)guest->phase.failure.error, &guest->phase.failure);
}

void qemu_kill(struct qemu_guest *guest)
{
    (void)pidref_signal(&guest->guest->process, SIGKILL);
    cgroup_kill(&guest->driver->cgroups, guest->guest_id);
}

void qemu_clear_runtime(void *arg)
{
    struct qemu_guest *guest = arg;
    struct hearth_failure failure;
    int error = 0;
    if (guest->driver->cgroups.kind == CGROUP_NONE && !remains_kill(guest->guest_id))
        error = hearth_fail(&failure, HEARTH_EIO, "guest_unkillable",
                            "a process of the machine does not end after SIGKILL");
    if (!error)
        error = cgroup_destroy(&guest->driver->cgroups, guest->guest_id, &failure);
    if (!error)
        error = qemu_files_stop(guest, &failure);
    if (error && !guest->phase.error) {
        guest->phase.error = error;
        guest->phase.failure = failure;
    }
}

void qemu_end_now(struct qemu_guest *guest)
{
    struct hearth_failure failure;
    qemu_kill(guest);
    qemu_clear_runtime(guest);
    if (guest->phase.error || qemu_files_remove(guest, &failure))
        log_warning("machine_left", "guest=%s", guest->guest_id);
}

static void finish(void *arg)
{
    phase_finish_now(&((struct qemu_guest *)arg)->phase);
}

static void clear_runtime(struct qemu_guest *guest)
{
    worker_submit(guest->driver->config.workers, qemu_clear_runtime, finish, guest);
}

/* --- stop --- */

static void on_stopped(void *arg)
{
    struct qemu_guest *guest = arg;
    qemu_unwatch(guest);
    qemu_disconnect(guest);
    tail_end(&guest->console);
    tail_end(&guest->errors);
    pidref_close(&guest->guest->process);
    guest->linked = false;
    clear_runtime(guest);
}

static void on_kill_failed(void *arg)
{
    struct qemu_guest *guest = arg;
    qemu_unwatch(guest);
    phase_finish(&guest->phase,
                 hearth_fail(&guest->phase.failure, HEARTH_EIO, "guest_unkillable",
                             "the machine's QEMU does not end after SIGKILL"),
                 &guest->phase.failure);
}

static void kill_and_wait(void *arg)
{
    struct qemu_guest *guest = arg;
    qemu_kill(guest);
    guest->timer.fn = on_kill_failed;
    timer_set(&guest->timer, clock_monotonic_us() + KILL_WAIT_US);
}

/* What it had not written out by then is lost: one that still writes has more time. */
static void on_not_powered_off(void *arg)
{
    struct qemu_guest *guest = arg;
    char console[CONSOLE_TOLD];
    int64_t now = clock_monotonic_us();
    if (now < guest->stop_until_us &&
        qemu_files_written_since(guest, clock_wall_us() - WRITES_US)) {
        timer_set(&guest->timer, now + WRITES_US);
        return;
    }
    qemu_console(guest, console, sizeof console);
    log_warning("machine_not_powered_off", "guest=%s console=\"%s\"", guest->guest_id, console);
    kill_and_wait(guest);
}

void qemu_stop(struct driver *driver, struct guest *guest, unsigned timeout_ms, guest_done done,
               void *arg)
{
    struct qemu_guest *data = begin(driver, guest, PHASE_STOPPING, done, arg);
    if (!data)
        return;
    qemu_unwatch(data);
    if (!pidref_alive(&guest->process) || qemu_watch_end(data, on_stopped)) {
        qemu_kill(data);
        on_stopped(data);
        return;
    }
    data->timer.fn = on_not_powered_off;
    data->stop_until_us = clock_monotonic_us() + STOP_MOST_US;
    timer_set(&data->timer, clock_monotonic_us() + timeout_ms * US_PER_MS);
}

void qemu_end_for_good(struct qemu_guest *guest)
{
    qemu_unwatch(guest);
    if (pidref_alive(&guest->guest->process) && !qemu_watch_end(guest, on_stopped)) {
        kill_and_wait(guest);
        return;
    }
    qemu_kill(guest);
    on_stopped(guest);
}

/* --- destroy --- */

static void remove_work(void *arg)
{
    struct qemu_guest *guest = arg;
    struct hearth_failure failure;
    qemu_clear_runtime(guest);
    int error = qemu_files_remove(guest, &failure);
    if (error && !guest->phase.error) {
        guest->phase.error = error;
        guest->phase.failure = failure;
    }
}

static void on_destroyed(void *arg)
{
    struct qemu_guest *guest = arg;
    qemu_unwatch(guest);
    pidref_close(&guest->guest->process);
    worker_submit(guest->driver->config.workers, remove_work, finish, guest);
}

void qemu_destroy_begin(void *arg)
{
    struct qemu_guest *guest = arg;
    qemu_unwatch(guest);
    qemu_disconnect(guest);
    qemu_let_template_go(guest);
    /* After a restart the process is not held yet. */
    if (guest->guest->process.fd < 0)
        (void)qemu_state_load(guest, NULL);
    if (!pidref_alive(&guest->guest->process) || qemu_watch_end(guest, on_destroyed))
        on_destroyed(guest);
    else
        kill_and_wait(guest);
}

void qemu_destroy(struct driver *driver, struct guest *guest, guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(driver, guest);
    phase_begin_destroy(&data->phase, done, arg);
    if (data->phase.kind == PHASE_DESTROYING)
        return;
    if (data->child)
        child_kill(data->child);
    if (data->phase.kind == PHASE_STOPPING || data->phase.kind == PHASE_STARTING)
        qemu_kill(data);
}
