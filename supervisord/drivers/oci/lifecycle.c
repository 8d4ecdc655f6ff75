#include "supervisord/drivers/oci/oci.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "supervisord/drivers/network.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PIDS_DEFAULT 4096
#define KILL_WAIT_US (10 * US_PER_S)

static void destroy_begin(void *arg);

/* --- a phase: at most one at a time for a guest, with one completion --- */

static struct loop *loop_of(const struct oci_guest *guest)
{
    return guest->driver->config.loop;
}

void oci_guest_free(void *arg)
{
    struct oci_guest *guest = arg;
    watch_free(&guest->exit_watch);
    timer_free(&guest->timer);
    free(guest->tree_path);
    free(guest);
}

static void unwatch(struct oci_guest *guest)
{
    watch_free(&guest->exit_watch);
    timer_unset(&guest->timer);
}

/* Ends the phase. A destroy that came in the meantime begins after this turn. */
static void finish(struct oci_guest *guest, int error, const struct hearth_failure *failure)
{
    guest_done done = guest->done;
    void *arg = guest->arg;
    struct hearth_failure cancelled;
    bool forgotten = guest->forgotten;
    guest->phase = OCI_IDLE;
    guest->done = NULL;
    if (guest->destroy_done) {
        guest->phase = OCI_DESTROYING;
        guest->done = guest->destroy_done;
        guest->arg = guest->destroy_arg;
        guest->destroy_done = NULL;
        loop_defer(loop_of(guest), destroy_begin, guest);
        if (!error) {
            error = hearth_fail(&cancelled, HEARTH_ECANCELLED, "guest_destroyed",
                                "the guest is being destroyed");
            failure = &cancelled;
        }
    } else if (forgotten) {
        loop_defer(loop_of(guest), oci_guest_free, guest);
    }
    if (!forgotten)
        done(arg, error, error ? failure : NULL);
}

static void finish_now(void *arg)
{
    struct oci_guest *guest = arg;
    finish(guest, guest->error, &guest->failure);
}

/* For an operation that ends before it has returned. */
static void finish_later(struct oci_guest *guest, int error)
{
    guest->error = error;
    loop_defer(loop_of(guest), finish_now, guest);
}

struct refusal {
    guest_done done;
    void *arg;
    struct hearth_failure failure;
};

static void tell_refusal(void *arg)
{
    struct refusal *refusal = arg;
    refusal->done(refusal->arg, refusal->failure.error, &refusal->failure);
    free(refusal);
}

static void refuse(struct loop *loop, guest_done done, void *arg, const char *why)
{
    struct refusal *refusal = malloc(sizeof *refusal);
    if (!refusal)
        abort();
    *refusal = (struct refusal){.done = done, .arg = arg};
    hearth_fail(&refusal->failure, HEARTH_EINTERNAL, "guest_busy", "%s", why);
    loop_defer(loop, tell_refusal, refusal);
}

/* NULL where the guest is in another phase; done is told. */
static struct oci_guest *begin(struct driver *driver, struct guest *guest, enum oci_phase phase,
                               guest_done done, void *arg)
{
    struct oci_guest *data = oci_guest_data(driver, guest);
    struct loop *loop = container_of(driver, struct oci_driver, driver)->config.loop;
    if (!data || data->phase != OCI_IDLE) {
        refuse(loop, done, arg, "another operation on the guest is under way");
        return NULL;
    }
    data->phase = phase;
    data->done = done;
    data->arg = arg;
    data->error = 0;
    data->failure = HEARTH_FAILURE_NONE;
    return data;
}

static void take_limits(struct oci_guest *guest, const struct guest_spec *spec)
{
    guest->limits = (struct cgroup_limits){
        .mem_mib = spec->mem_mib,
        .vcpu_count = spec->vcpu_count,
        .pids_max = spec->pids_max ? spec->pids_max : PIDS_DEFAULT,
    };
}

static bool is_hostname(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return length && length < 64 && !text[length] && *text != '-';
}

/* Copies what outlives the call. */
static int take_spec(struct oci_guest *guest, const struct guest_spec *spec)
{
    take_limits(guest, spec);
    guest->network = spec->network;
    snprintf(guest->hostname, sizeof guest->hostname, "%s",
             spec->hostname && is_hostname(spec->hostname) ? spec->hostname : "hearth");
    free(guest->tree_path);
    guest->tree_path = text_copy(spec->tree_path);
    if (!guest->tree_path)
        return hearth_fail(&guest->failure, HEARTH_EINVALID, "environment_missing",
                           "the environment has no directory tree");
    return 0;
}

/* --- prepare --- */

static void prepare_work(void *arg)
{
    struct oci_guest *guest = arg;
    guest->error = guest_files_prepare(guest, &guest->failure);
}

void oci_prepare(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                 guest_done done, void *arg)
{
    struct oci_guest *data = begin(driver, guest, OCI_PREPARING, done, arg);
    if (!data)
        return;
    int error = take_spec(data, spec);
    if (error) {
        finish_later(data, error);
        return;
    }
    worker_submit(data->driver->starters, prepare_work, finish_now, data);
}

/* --- the end of a guest's process --- */

static void on_process_end(void *arg)
{
    struct oci_guest *guest = arg;
    unwatch(guest);
    pidref_close(&guest->guest->process);
    bool memory = cgroup_was_out_of_memory(&guest->driver->cgroups, guest->guest_id);
    if (guest->guest->on_died)
        guest->guest->on_died(guest->guest,
                              memory ? "the container ended; its memory limit was reached"
                                     : "the container's first process ended");
}

static int watch_process(struct oci_guest *guest, void (*fn)(void *arg))
{
    watch_free(&guest->exit_watch);
    return watch_init(&guest->exit_watch, loop_of(guest), guest->guest->process.fd, fn, guest);
}

int oci_watch_process(struct oci_guest *guest, struct hearth_failure *failure)
{
    return watch_process(guest, on_process_end)
               ? hearth_fail(failure, HEARTH_ENOMEMORY, "watch_failed", "cannot watch the guest")
               : 0;
}

static void kill_process(struct oci_guest *guest)
{
    (void)pidref_signal(&guest->guest->process, SIGKILL);
    cgroup_kill(&guest->driver->cgroups, guest->guest_id);
}

/* Blocking. Those that no process of ours holds, too: of a start that was cut short. */
static int end_processes(struct oci_guest *guest, struct hearth_failure *failure)
{
    if (guest->driver->cgroups.kind == CGROUP_NONE && !remains_kill(guest->guest_id))
        return hearth_fail(failure, HEARTH_EIO, "guest_unkillable",
                           "a process of the guest does not end after SIGKILL");
    return cgroup_destroy(&guest->driver->cgroups, guest->guest_id, failure);
}

/* What a guest has while it runs: its groups and its runtime directory. */
static void clear_runtime_work(void *arg)
{
    struct oci_guest *guest = arg;
    struct hearth_failure failure;
    int error = end_processes(guest, &failure);
    if (!error)
        error = guest_files_stop(guest, &failure);
    if (error && !guest->error) {
        guest->error = error;
        guest->failure = failure;
    }
}

static void clear_runtime(struct oci_guest *guest)
{
    worker_submit(guest->driver->config.workers, clear_runtime_work, finish_now, guest);
}

/* --- start --- */

static void start_work(void *arg)
{
    struct oci_guest *guest = arg;
    guest->error =
        cgroup_make(&guest->driver->cgroups, guest->guest_id, &guest->limits, &guest->failure);
    if (!guest->error)
        guest->error = guest_files_start(guest, &guest->listen_fd, &guest->failure);
}

static int take_process(struct oci_guest *guest, struct hearth_failure *failure)
{
    pid_t pid = guest_files_pid(guest);
    if (!pid || pidref_open(&guest->guest->process, pid) < 0)
        return hearth_fail(failure, HEARTH_EIO, "guest_start_failed",
                           "the container ended as soon as it was started");
    oci_fill_facts(guest->driver, guest->guest);
    int error = guest_state_save(guest->driver, guest->guest);
    return error ? hearth_fail(failure, error, "guest_start_failed", "out of memory")
                 : oci_watch_process(guest, failure);
}

static void describe_launch(struct oci_guest *guest, const struct child_result *result)
{
    char said[384];
    guest_files_log(guest, said, sizeof said);
    const char *errors = *said ? said : result->errors;
    if (result->timed_out)
        errors = "it took too long";
    hearth_fail(&guest->failure, HEARTH_EIO, "guest_start_failed",
                "the container could not be started: %.*s", (int)strcspn(errors, "\n"), errors);
}

/* What has been started, but not to its end, goes again. */
static void undo_start(struct oci_guest *guest)
{
    guest->error = guest->failure.error;
    unwatch(guest);
    kill_process(guest);
    pidref_close(&guest->guest->process);
    clear_runtime(guest);
}

static void on_network(void *arg, int error, const struct hearth_failure *failure)
{
    struct oci_guest *guest = arg;
    guest->child = NULL;
    if (!error || guest->forgotten) {
        finish(guest, 0, NULL);
        return;
    }
    guest->failure = *failure;
    undo_start(guest);
}

static void on_launched(void *arg, const struct child_result *result)
{
    struct oci_guest *guest = arg;
    guest->child = NULL;
    if (guest->forgotten) {
        finish(guest, 0, NULL);
        return;
    }
    if (result->exit_code)
        describe_launch(guest, result);
    else if (take_process(guest, &guest->failure) == 0) {
        if (!network_has_device(guest->network)) {
            finish(guest, 0, NULL);
            return;
        }
        if (oci_launch_network(guest, on_network, &guest->failure) == 0)
            return;
    }
    undo_start(guest);
}

static void on_start_work(void *arg)
{
    struct oci_guest *guest = arg;
    if (!guest->error && (guest->destroy_done || guest->forgotten))
        guest->error = hearth_fail(&guest->failure, HEARTH_ECANCELLED, "guest_destroyed",
                                   "the guest is being destroyed");
    if (!guest->error)
        guest->error = oci_launch(guest, on_launched, &guest->failure);
    cleanup_close(&guest->listen_fd); /* the guest alone listens: its end is an end for callers */
    guest->listen_fd = -1;
    if (guest->error)
        clear_runtime(guest);
}

void oci_start(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
               guest_done done, void *arg)
{
    struct oci_guest *data = begin(driver, guest, OCI_STARTING, done, arg);
    if (!data)
        return;
    int error = take_spec(data, spec);
    if (!error && !*data->driver->runtime.path) {
        error = hearth_fail(&data->failure, HEARTH_EUNAVAILABLE, "no_runtime",
                            "no OCI runtime is installed");
        hearth_failure_hint(&data->failure, "apt-get install crun");
    }
    if (!error && pidref_alive(&guest->process))
        error = hearth_fail(&data->failure, HEARTH_ECONFLICT, "guest_running",
                            "the guest is running already");
    if (error) {
        finish_later(data, error);
        return;
    }
    worker_submit(data->driver->starters, start_work, on_start_work, data);
}

/* --- stop --- */

static void on_stopped(void *arg)
{
    struct oci_guest *guest = arg;
    unwatch(guest);
    pidref_close(&guest->guest->process);
    clear_runtime(guest);
}

static void on_kill_failed(void *arg)
{
    struct oci_guest *guest = arg;
    unwatch(guest);
    finish(guest,
           hearth_fail(&guest->failure, HEARTH_EIO, "guest_unkillable",
                       "the container's first process does not end after SIGKILL"),
           &guest->failure);
}

static void kill_and_wait(void *arg)
{
    struct oci_guest *guest = arg;
    kill_process(guest);
    guest->timer.fn = on_kill_failed;
    timer_set(&guest->timer, clock_monotonic_us() + KILL_WAIT_US);
}

void oci_stop(struct driver *driver, struct guest *guest, unsigned timeout_ms, guest_done done,
              void *arg)
{
    struct oci_guest *data = begin(driver, guest, OCI_STOPPING, done, arg);
    if (!data)
        return;
    unwatch(data);
    if (!pidref_alive(&guest->process) || watch_process(data, on_stopped)) {
        kill_process(data);
        pidref_close(&guest->process);
        clear_runtime(data);
        return;
    }
    data->timer.fn = kill_and_wait;
    timer_set(&data->timer, clock_monotonic_us() + timeout_ms * US_PER_MS);
}

/* --- destroy --- */

static void on_removed(void *arg, const struct child_result *result)
{
    struct oci_guest *guest = arg;
    guest->child = NULL;
    if (result->exit_code)
        guest->error = hearth_fail(&guest->failure, HEARTH_EIO, "destroy_failed",
                                   "cannot remove the guest's directories: %.*s",
                                   (int)strcspn(result->errors, "\n"), result->errors);
    finish_now(guest);
}

static void on_groups_gone(void *arg)
{
    struct oci_guest *guest = arg;
    if (!guest->error)
        guest->error = oci_launch_remove(guest, on_removed, &guest->failure);
    if (guest->error)
        finish_now(guest);
}

static void destroy_groups_work(void *arg)
{
    struct oci_guest *guest = arg;
    guest->error = end_processes(guest, &guest->failure);
}

static void on_destroyed_process_end(void *arg)
{
    struct oci_guest *guest = arg;
    unwatch(guest);
    pidref_close(&guest->guest->process);
    worker_submit(guest->driver->config.workers, destroy_groups_work, on_groups_gone, guest);
}

static void destroy_begin(void *arg)
{
    struct oci_guest *guest = arg;
    guest->error = 0;
    guest->failure = HEARTH_FAILURE_NONE;
    unwatch(guest);
    /* After a restart the process is not held yet. What is not known by what was stored is found by
     * its cgroup or environment. */
    if (guest->guest->process.fd < 0)
        (void)guest_state_load(guest->driver, guest->guest, NULL);
    if (!pidref_alive(&guest->guest->process) || watch_process(guest, on_destroyed_process_end))
        on_destroyed_process_end(guest);
    else
        kill_and_wait(guest);
}

void oci_destroy(struct driver *driver, struct guest *guest, guest_done done, void *arg)
{
    struct oci_guest *data = oci_guest_data(driver, guest);
    if (!data || data->phase == OCI_DESTROYING || data->destroy_done) {
        refuse(container_of(driver, struct oci_driver, driver)->config.loop, done, arg,
               "the guest is being destroyed already");
        return;
    }
    if (data->phase == OCI_IDLE) {
        data->phase = OCI_DESTROYING;
        data->done = done;
        data->arg = arg;
        destroy_begin(data);
        return;
    }
    data->destroy_done = done;
    data->destroy_arg = arg;
    if (data->child)
        child_kill(data->child);
    if (data->phase == OCI_STOPPING)
        kill_process(data);
}

/* --- resize --- */

static void resize_work(void *arg)
{
    struct oci_guest *guest = arg;
    guest->error =
        cgroup_limit(&guest->driver->cgroups, guest->guest_id, &guest->limits, &guest->failure);
}

void oci_resize(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                guest_done done, void *arg)
{
    struct oci_guest *data = begin(driver, guest, OCI_RESIZING, done, arg);
    if (!data)
        return;
    take_limits(data, spec);
    worker_submit(data->driver->starters, resize_work, finish_now, data);
}
