/* A boot: sockets, QEMU in its jail, then the agent's first answer, all within a deadline. One that
 * misses it is tried again once. */
#include "supervisord/drivers/qemu/boot.h"

#include "base/cleanup.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/drivers/qemu/fork.h"
#include "supervisord/drivers/qemu/load.h"
#include "supervisord/drivers/qemu/template.h"
#include "supervisord/drivers/remains.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define LAUNCH_TIMEOUT_MS 15000
#define TRIAL_DEADLINE_US (10 * US_PER_S)
#define CLONE_DEADLINE_US (20 * US_PER_S)
#define QEMU_MIB 192   /* what QEMU needs besides the machine's memory: translations, buffers */
#define NETWORK_MIB 48 /* what carries its connections */

/* --- the agent's first answer --- */

static void on_ended_early(void *arg)
{
    boot_fail(arg, "the machine ended before its agent answered", false);
}

static int64_t deadline_of(const struct qemu_guest *guest)
{
    int64_t boot = guest->driver->config.boot_timeout_us;
    int64_t most = guest->trial                            ? TRIAL_DEADLINE_US
                   : guest->template && !guest->background ? CLONE_DEADLINE_US
                                                           : boot;
    return most < boot ? most : boot;
}

static void on_deadline(void *arg)
{
    struct qemu_guest *guest = arg;
    char console[TAIL_SIZE];
    qemu_console(guest, console, sizeof console);
    size_t length = strlen(console), told = length < CONSOLE_TOLD ? length : CONSOLE_TOLD;
    hearth_fail(&guest->phase.failure, HEARTH_EUNAVAILABLE, "boot_timed_out",
                "the machine's agent did not answer within %d s%s%s",
                (int)(deadline_of(guest) / US_PER_S), *console ? "; console: " : "",
                console + length - told);
    boot_give_up(guest, true);
}

/* A clone is one more; a first boot is what the next ones may be cloned from. */
static void settle_template(struct qemu_guest *guest)
{
    if (guest->template) {
        template_worked(guest->template);
        if (!guest->background)
            qemu_let_template_go(guest);
    } else if (guest->fresh) {
        template_want(guest);
    }
    guest->fresh = false;
}

static void finish_boot(struct qemu_guest *guest)
{
    qemu_unwatch(guest);
    qemu_fill_facts(guest);
    if (qemu_state_save(guest) || qemu_watch_process(guest, &guest->phase.failure)) {
        hearth_fail(&guest->phase.failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        boot_give_up(guest, false);
        return;
    }
    settle_template(guest);
    boot_end(guest, 0);
}

static void on_grown(struct qemu_guest *guest, int error)
{
    if (error)
        boot_give_up(guest, true);
    else
        finish_boot(guest);
}

static void on_linked(void *arg, int fd, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->connecting = NULL;
    if (fd < 0) { /* the connection was closed: QEMU is about to end, or the time is over */
        log_debug("boot_disconnected", "guest=%s detail=\"%s\"", guest->guest_id, failure->detail);
        return; /* the exit's watch or the timer tells more */
    }
    guest->linked = true;
    if (guest->making) /* nobody is to be linked to what is saved */
        close(fd);
    else
        guest->ready_fd = fd;
    if (guest->template && guest->disk_mib > template_disk_mib(guest))
        qemu_grow_disk(guest, on_grown);
    else
        finish_boot(guest);
}

/* It waits from now on; its end is watched as that of one that runs. */
static void on_monitor(struct qemu_guest *guest, int error)
{
    qemu_unwatch(guest);
    if (!error && !qemu_state_save(guest) && !qemu_watch_process(guest, &guest->phase.failure)) {
        guest->waiting = true;
        boot_end(guest, 0);
        return;
    }
    if (!error)
        hearth_fail(&guest->phase.failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    boot_give_up(guest, false);
}

static int take_process(struct qemu_guest *guest, const struct child_result *result)
{
    int pid = atoi(result->output);
    if (result->exit_code || pid <= 1 || pidref_open(&guest->guest->process, pid) < 0)
        return HEARTH_EIO;
    return qemu_watch_end(guest, on_ended_early);
}

static void on_launched(void *arg, const struct child_result *result)
{
    struct qemu_guest *guest = arg;
    guest->child = NULL;
    if (take_process(guest, result)) {
        boot_fail(guest,
                  result->timed_out ? "hearth-launch took too long" : "QEMU cannot be started",
                  false);
        return;
    }
    /* A crash from here on finds the process by what is stored after this; one that is held is
     * stored before it runs. */
    if (guest->held)
        crash_point("resume:launched");
    guest->timer.fn = on_deadline;
    timer_set(&guest->timer, clock_monotonic_us() + deadline_of(guest));
    qemu_unseal(guest);
    if (guest->standby)
        qemu_await_monitor(guest, on_monitor);
}

/* --- the beginning --- */

/* What QEMU says goes into a pipe that never holds it up. */
static int follow_errors(struct qemu_guest *guest, int *ret_write_fd)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    *ret_write_fd = ends[1];
    return tail_follow(&guest->errors, ends[0]) ? -ENOMEM : 0;
}

static int launch(struct qemu_guest *guest)
{
    auto_arguments struct arguments arguments = {0};
    auto_close int errors_fd = -1;
    char variable[64];
    struct hearth_failure *failure = &guest->phase.failure;
    int error = follow_errors(guest, &errors_fd);
    if (error)
        return hearth_fail_errno(failure, -error, "guest_start_failed", "cannot make a pipe");
    qemu_command(guest, &arguments);
    if (arguments.failed)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    snprintf(variable, sizeof variable, GUEST_ID_VARIABLE "=%s", guest->guest_id);
    const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", variable, NULL};
    int pass_fds[] = {guest->qmp_fd,
                      guest->console_fd,
                      guest->agent_fd,
                      guest->resuming ? guest->template_state_fd : guest->template_ram_fd,
                      guest->template_state_fd,
                      -1,
                      -1};
    size_t pass_count = (size_t)(qemu_network_fd(guest) - QEMU_FD_QMP);
    for (int i = 0; i < qemu_network_fd_count(guest); i++)
        pass_fds[pass_count++] = guest->network_fds[i];
    const struct spawn_spec spec = {
        .argv = (const char *const *)arguments.items,
        .environment = environment,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = errors_fd,
        .pass_fds = pass_fds,
        .pass_count = pass_count,
        .capture_limit = 64,
        .timeout_ms = LAUNCH_TIMEOUT_MS,
    };
    error = spawn(&guest->child, qemu_loop(guest), &spec, on_launched, guest, failure);
    guest->launched = !error;
    return error;
}

/* What an earlier daemon was about to resume may still be there: it has never run, or it would have
 * been noted. */
static int open_saved(struct qemu_guest *guest, struct hearth_failure *failure)
{
    guest->phase.error = 0;
    qemu_clear_runtime(guest);
    if (guest->phase.error)
        return guest->phase.error;
    return qemu_unseal_open(guest, failure);
}

/* It begins anew: what it was saved to is of another history of its disk from now on. */
static int forget_saved(const struct qemu_guest *guest, struct hearth_failure *failure)
{
    int error = qemu_saved_remove(guest);
    return error ? hearth_fail_errno(failure, -error, "guest_start_failed",
                                     "what the machine was saved to cannot be removed")
                 : 0;
}

static void boot_work(void *arg)
{
    struct qemu_guest *guest = arg;
    const struct cgroup_limits limits = {
        .mem_mib = guest->mem_mib + QEMU_MIB + (guest->network ? NETWORK_MIB : 0),
        .vcpu_count = guest->vcpu_count,
        .pids_max = guest->pids_max,
    };
    struct hearth_failure *failure = &guest->phase.failure;
    guest->timestamp_khz = timestamp_khz(&guest->driver->made);
    int error = 0;
    /* A template has its first disk; a guest whose start from one failed has another. */
    if (guest->making || (guest->fresh && guest->disk_used))
        error = qemu_files_prepare(guest, failure);
    if (!error)
        error = qemu_kernel_find(guest->driver, &guest->kernel, failure);
    if (!error)
        error = qemu_initramfs(guest->driver, &guest->kernel, guest->initrd, failure);
    if (!error)
        error = qemu_stub(guest->driver, &guest->kernel, guest->stub, failure);
    if (!error && guest->held)
        error = open_saved(guest, failure);
    else if (!error && !guest->trial && !guest->making)
        error = forget_saved(guest, failure);
    if (!error)
        error = cgroup_make(&guest->driver->cgroups, guest->guest_id, &limits, failure);
    if (!error && guest->background)
        cgroup_prioritise(&guest->driver->cgroups, guest->guest_id, true);
    if (!error)
        error = qemu_files_start(guest, failure);
    if (!error && guest->copy)
        error = qemu_copy_open_state(guest->copy, &guest->template_state_fd, failure);
    guest->resuming = guest->template_state_fd >= 0;
    guest->phase.error = error;
}

static void connect_agent(struct qemu_guest *guest)
{
    guest->connecting =
        guest->transport->connect(guest,
                                  clock_monotonic_us() + LAUNCH_TIMEOUT_MS * US_PER_MS +
                                      guest->driver->config.boot_timeout_us,
                                  on_linked, guest);
}

static void reach_agent(struct qemu_guest *guest)
{
    if (guest->copy) {
        qemu_copy_load(guest, connect_agent);
        return;
    }
    if (guest->held) {
        qemu_load_whole(guest, finish_boot);
        return;
    }
    if (guest->template)
        qemu_load_state(guest);
    connect_agent(guest);
}

/* The streams are there before QEMU is: nothing it says first is missed. */
static void go_connected(struct qemu_guest *guest)
{
    struct hearth_failure *failure = &guest->phase.failure;
    if (!failure->error && phase_unwanted(&guest->phase))
        (void)boot_cancel(guest);
    int console = failure->error ? -1 : qemu_files_connect(guest, "console");
    if (console >= 0)
        (void)tail_follow(&guest->console, console);
    if (!failure->error)
        (void)launch(guest);
    boot_close_listening(guest); /* QEMU alone listens: its end is an end for callers */
    if (failure->error) {
        boot_give_up(guest, false);
        return;
    }
    if (!guest->standby)
        reach_agent(guest);
}

static void go(void *arg)
{
    qemu_network_connect(arg, go_connected);
}

static void template_work(void *arg)
{
    struct qemu_guest *guest = arg;
    guest->phase.error = template_use(guest, &guest->phase.failure);
}

static void use_template(void *arg)
{
    struct qemu_guest *guest = arg;
    worker_submit(guest->driver->starters, template_work, go, guest);
}

static void on_boot_work(void *arg)
{
    struct qemu_guest *guest = arg;
    guest->linked = guest->resuming; /* what its last link left half said may lie in the port */
    bool may = !guest->phase.error && guest->fresh && !guest->disk_used && !guest->trial;
    guest->template = may && guest->transport->restorable ? template_find(guest) : NULL;
    if (!guest->template) {
        if (guest->background && !guest->phase.error)
            hearth_fail(&guest->phase.failure, HEARTH_ENOTFOUND, "no_template",
                        "there is no template of such a machine");
        go(guest);
        return;
    }
    guest->disk_used = true;
    template_hold(guest->template);
    template_when_loaded(guest->template, use_template, guest);
}

void boot_once(struct qemu_guest *guest)
{
    guest->boots++;
    guest->linked = guest->launched = false;
    guest->phase.failure = HEARTH_FAILURE_NONE;
    tail_free(&guest->console);
    tail_init(&guest->console, qemu_loop(guest));
    tail_free(&guest->errors);
    tail_init(&guest->errors, qemu_loop(guest));
    worker_submit(guest->driver->starters, boot_work, on_boot_work, guest);
}

/* One that has waited; for nothing, where its template has been given up meanwhile. */
static void go_on(struct qemu_guest *guest)
{
    struct template *template = guest->template;
    bool usable = template_usable(template);
    guest->waiting = false;
    qemu_unwatch(guest);
    if (usable && !qemu_watch_end(guest, on_ended_early)) {
        guest->timer.fn = on_deadline;
        timer_set(&guest->timer, clock_monotonic_us() + deadline_of(guest));
        reach_agent(guest);
        return;
    }
    guest->template = NULL;
    template_release(template);
    qemu_kill(guest);
    pidref_close(&guest->guest->process);
    worker_submit(guest->driver->config.workers, qemu_clear_runtime, boot_cleared_for_retry, guest);
}

static void on_turn(void *arg)
{
    struct qemu_guest *guest = arg;
    if (phase_unwanted(&guest->phase))
        boot_end(guest, boot_cancel(guest));
    else if (guest->waiting)
        go_on(guest);
    else
        boot_once(guest);
}

static void on_accelerator(void *arg)
{
    struct qemu_guest *guest = arg;
    guest->accelerator = guest->driver->accelerator;
    gate_enter(guest, guest->background, on_turn);
}

static bool begin(struct qemu_guest *data, guest_done done, void *arg)
{
    if (!phase_begin(&data->phase, PHASE_STARTING, done, arg))
        return false;
    data->boots = 0;
    data->end_reason = NULL;
    snprintf(data->version, sizeof data->version, "%s", data->driver->version);
    return true;
}

static void start(struct driver *base, struct guest *guest, const struct guest_spec *spec,
                  bool standby, guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(base, guest);
    struct qemu_driver *driver = data->driver;
    if (!begin(data, done, arg))
        return;
    data->standby = standby;
    if (standby || spec->background)
        data->background = true;
    else if (data->background)
        cgroup_prioritise(&driver->cgroups, guest->guest_id, data->background = false);
    struct hearth_failure *failure = &data->phase.failure;
    int error = qemu_take_spec(data, spec);
    if (!error && !*driver->program) {
        error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "no_qemu", "QEMU is not installed");
        hearth_failure_hint(failure, "apt-get install qemu-system-x86");
    }
    if (!error && !data->waiting && pidref_alive(&guest->process))
        error = hearth_fail(failure, HEARTH_ECONFLICT, "guest_running",
                            "the machine is running already");
    if (!error && data->copy)
        data->transport = qemu_copy_transport(data->copy);
    else if (!error && data->held)
        data->transport = &transport_serial; /* which alone can be saved, whatever is set now */
    else if (!error)
        error = transport_choose(&data->transport, driver, data->transport_choice, failure);
    if (!error && data->held)
        error = qemu_unseal_begin(data, spec->state_key);
    if (error)
        phase_finish_later(&data->phase, error);
    else
        qemu_accelerator_when_known(driver, on_accelerator, data);
}

void qemu_start(struct driver *base, struct guest *guest, const struct guest_spec *spec,
                guest_done done, void *arg)
{
    start(base, guest, spec, false, done, arg);
}

void qemu_standby(struct driver *base, struct guest *guest, const struct guest_spec *spec,
                  guest_done done, void *arg)
{
    start(base, guest, spec, true, done, arg);
}

void qemu_boot_trial(struct driver *base, struct guest *guest, uint32_t mem_mib, guest_done done,
                     void *arg)
{
    struct qemu_guest *data = qemu_guest_data(base, guest);
    if (!begin(data, done, arg))
        return;
    data->trial = true;
    data->vcpu_count = 1;
    data->mem_mib = mem_mib;
    data->pids_max = QEMU_PIDS_MAX;
    data->transport = &transport_serial;
    data->accelerator = "kvm";
    boot_once(data);
}

void qemu_boot_template(struct driver *base, struct guest *guest, const struct qemu_guest *like,
                        int ram_fd, guest_done done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(base, guest);
    if (!begin(data, done, arg))
        return;
    data->making = true;
    data->vcpu_count = like->vcpu_count;
    data->mem_mib = like->mem_mib;
    data->disk_mib = template_disk_mib(like);
    data->pids_max = like->pids_max;
    data->network = like->network;
    data->transport = like->transport;
    data->accelerator = like->accelerator;
    data->image_path = text_copy(like->image_path);
    data->template_ram_fd = fcntl(ram_fd, F_DUPFD_CLOEXEC, 3);
    if (!data->image_path || data->template_ram_fd < 0)
        phase_finish_later(&data->phase, hearth_fail(&data->phase.failure, HEARTH_ENOMEMORY, NULL,
                                                     "out of memory"));
    else
        gate_enter(data, true, on_turn);
}
