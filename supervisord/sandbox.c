#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/guest_network.h"
#include "supervisord/materials.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOOT_DEADLINE_US (60 * US_PER_S)
#define SHUTDOWN_LINK_US (5 * US_PER_S)
#define SHUTDOWN_TIMEOUT_MS 5000
#define STOP_TIMEOUT_MS 10000
#define PIDS_MAX 4096
#define RUN_ON_US (5 * US_PER_S) /* for the link of a guest that was not suspended */

/* One pending piece of work on a sandbox and who waits for it. */
struct sandbox_work {
    struct supervisor *supervisor;
    struct sandbox *sandbox;
    bool prepare;                  /* a boot of what is not there yet */
    bool standby;                  /* nobody wants it yet */
    struct hearth_failure failure; /* what is told once it runs on */
    guest_done done;
    void *arg;
};

static struct sandbox_work *work_new(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct sandbox_work *work = malloc(sizeof *work);
    if (!work)
        abort();
    *work = (struct sandbox_work){
        .supervisor = sandbox->supervisor, .sandbox = sandbox, .done = done, .arg = arg};
    sandbox->supervisor->works++;
    return work;
}

static void work_end(struct sandbox_work *work, int error, const struct hearth_failure *failure)
{
    guest_done done = work->done;
    void *arg = work->arg;
    struct supervisor *supervisor = work->supervisor;
    free(work);
    if (done)
        done(arg, error, failure);
    supervisor->works--;
    supervisor_maybe_quiet(supervisor);
}

/* The same, as the completion of what was begun for it. */
static void ended(void *arg, int error, const struct hearth_failure *failure)
{
    work_end(arg, error, failure);
}

struct sandbox *sandbox_new(struct supervisor *supervisor, struct driver *driver,
                            struct hearth_failure *failure)
{
    struct sandbox *sandbox = calloc(1, sizeof *sandbox);
    if (!sandbox) {
        hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        return NULL;
    }
    if (supervisor_take_range(supervisor, &sandbox->guest.index, failure)) {
        free(sandbox);
        return NULL;
    }
    sandbox->supervisor = supervisor;
    sandbox->guest.driver = driver;
    sandbox->guest.process = PIDREF_NONE;
    sandbox->guest.on_died = workspace_guest_died;
    sandbox->guest.hide = workspace_guest_hide;
    sandbox->created_at = clock_wall_us();
    id_make(sandbox->guest.guest_id, "gu", supervisor->config->node_tag);
    list_init(&sandbox->dials);
    list_init(&sandbox->all_link);
    list_init(&sandbox->pool_link);
    list_append(&supervisor->sandboxes, &sandbox->all_link);
    agentlink_init(&sandbox->link, sandbox);
    return sandbox;
}

/* A row that could not be removed may have come back with a range that another had by then. */
static void give_range(const struct sandbox *sandbox)
{
    list_for_each(cursor, next, &sandbox->supervisor->sandboxes)
    {
        if (container_of(cursor, struct sandbox, all_link)->guest.index == sandbox->guest.index)
            return;
    }
    supervisor_give_range(sandbox->supervisor, sandbox->guest.index);
}

void sandbox_free(struct sandbox *sandbox)
{
    agentlink_free(&sandbox->link);
    if (sandbox->workspace)
        sandbox->workspace->sandbox = NULL;
    list_remove(&sandbox->all_link);
    list_remove(&sandbox->pool_link);
    sandbox->guest.driver->operations->forget(sandbox->guest.driver, &sandbox->guest);
    pidref_close(&sandbox->guest.process);
    give_range(sandbox);
    free(sandbox->guest.driver_state);
    free(sandbox);
}

void sandbox_row(const struct sandbox *sandbox, struct row_guest *ret_row)
{
    *ret_row = (struct row_guest){
        .guest_id = sandbox->guest.guest_id,
        .guest_index = sandbox->guest.index,
        .workspace_id = sandbox->workspace ? sandbox->workspace->workspace_id : NULL,
        .tenant_id = sandbox->tenant_id,
        .driver = sandbox->guest.driver->operations->name,
        .environment_version = sandbox->environment_version,
        .driver_state = sandbox->guest.driver_state ? sandbox->guest.driver_state : "",
        .created_at = sandbox->created_at,
        .state_key = sandbox->has_state_key ? sandbox->state_key : NULL,
        .state_key_length = sandbox->has_state_key ? sizeof sandbox->state_key : 0,
    };
}

void sandbox_record(const struct sandbox *sandbox, writer_done done, void *arg)
{
    struct row_guest row;
    struct change *change = change_new();
    sandbox_row(sandbox, &row);
    change_put_guest(change, &row);
    change_commit(change, sandbox->supervisor->writer, done, arg);
}

void sandbox_spec(const struct sandbox *sandbox, struct guest_spec *ret_spec, char hostname[64])
{
    const struct environment *environment =
        environment_find_version(sandbox->supervisor->environments, sandbox->environment_version);
    snprintf(hostname, 64, "%.*s", 16,
             *sandbox->identity ? sandbox->identity + 3 : sandbox->guest.guest_id + 3);
    *ret_spec = (struct guest_spec){
        .environment_version = sandbox->environment_version,
        .tree_path = environment ? environment->tree_path : NULL,
        .image_path = environment ? environment->image_path : NULL,
        .vcpu_count = sandbox->vcpu_count,
        .mem_mib = sandbox->mem_mib,
        .disk_mib = sandbox->disk_mib,
        .pids_max = PIDS_MAX,
        .network = sandbox->network,
        .hostname = hostname,
        .transport = *sandbox->transport ? sandbox->transport : NULL,
        .copy = sandbox->copy,
        .resume = sandbox->resumes,
        .background = sandbox->background,
        .template_owner = sandbox->supervisor->config->template_shared ? "" : sandbox->tenant_id,
    };
}

const char *workspace_execution_mode(const struct workspace *workspace)
{
    return workspace->sandbox ? workspace->sandbox->guest.facts.execution_mode : NULL;
}

const char *execution_mode_named(const char *text)
{
    static const char *const modes[] = {"guest_unix", "guest_vsock", "guest_serial", "", NULL};
    return text_literal(modes, text ? text : "");
}

static void boot_supplied(void *arg, int error, const struct hearth_failure *failure);

/* A boot takes the place of a clone that cannot be used. */
static void boot_anew(struct sandbox_work *work)
{
    struct guest *guest = &work->sandbox->guest;
    agentlink_close(&work->sandbox->link);
    guest->driver->operations->destroy(guest->driver, guest, boot_supplied, work);
}

static void boot_configured(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    if (error && work->prepare && !work->sandbox->copy &&
        strcmp(failure->code, "not_reseeded") == 0) {
        boot_anew(work);
        return;
    }
    work->sandbox->running = !error;
    work_end(work, error, failure);
}

static void boot_linked(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    if (error)
        work_end(work, error, failure);
    else /* a resumed one keeps the names that it has, or gave itself */
        sandbox_configure(work->sandbox, !work->sandbox->resumes, boot_configured, work);
}

static void boot_runs(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    if (error) {
        work_end(work, error, failure);
        return;
    }
    crash_point("guest-started");
    agentlink_open(&work->sandbox->link);
    agentlink_when_up(&work->sandbox->link, clock_monotonic_us() + BOOT_DEADLINE_US, boot_linked,
                      work);
}

static void let_run(struct sandbox_work *work)
{
    struct guest *guest = &work->sandbox->guest;
    guest->driver->operations->carry_on(guest->driver, guest, boot_runs, work);
}

static void boot_noted(void *arg, int error, const struct hearth_failure *failure)
{
    if (error) {
        work_end(arg, error, failure);
        return;
    }
    crash_point("resume:noted");
    let_run(arg);
}

/* One that is resumed is held until its process is noted: what it was saved to goes as it begins to
 * run, and nothing else would know of it then. */
static void boot_started(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    if (error || !work->sandbox->resumes) {
        boot_runs(work, error, failure);
        return;
    }
    crash_point("resume:held");
    sandbox_record(work->sandbox, boot_noted, work);
}

void sandbox_finish_resume(struct sandbox *sandbox, guest_done done, void *arg)
{
    let_run(work_new(sandbox, done, arg));
}

static void boot_prepared(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    if (error) {
        work_end(work, error, failure);
        return;
    }
    struct guest *guest = &work->sandbox->guest;
    unsigned char key[GUEST_STATE_KEY_SIZE] = {0};
    struct hearth_failure own;
    struct guest_spec spec;
    char hostname[64];
    if (network_has_device(work->sandbox->network))
        error = guest_network_write(work->sandbox, &own);
    if (!error && work->sandbox->resumes)
        error = state_key_open(work->sandbox, key, &own);
    if (error) {
        work_end(work, error, &own);
        return;
    }
    sandbox_spec(work->sandbox, &spec, hostname);
    spec.state_key = key;
    if (work->standby)
        guest->driver->operations->standby(guest->driver, guest, &spec, ended, work);
    else
        guest->driver->operations->start(guest->driver, guest, &spec, boot_started, work);
    explicit_bzero(key, sizeof key);
}

static void boot_supplied(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    struct guest *guest = &work->sandbox->guest;
    struct guest_spec spec;
    char hostname[64];
    if (error || !work->prepare) {
        boot_prepared(work, error, failure);
        return;
    }
    sandbox_spec(work->sandbox, &spec, hostname);
    guest->driver->operations->prepare(guest->driver, guest, &spec, boot_prepared, work);
}

static void supply_and_boot(struct sandbox *sandbox, struct sandbox_work *work)
{
    if (sandbox->guest.driver->operations->wants_image)
        materials_ensure(sandbox->supervisor, sandbox->environment_version, boot_supplied, work);
    else
        boot_supplied(work, 0, NULL);
}

void sandbox_boot(struct sandbox *sandbox, bool prepare, guest_done done, void *arg)
{
    struct sandbox_work *work = work_new(sandbox, done, arg);
    work->prepare = prepare;
    supply_and_boot(sandbox, work);
}

void sandbox_standby(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct sandbox_work *work = work_new(sandbox, done, arg);
    work->prepare = work->standby = true;
    supply_and_boot(sandbox, work);
}

static void claimed(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    if (error) {
        work_end(work, error, failure);
        return;
    }
    work->sandbox->paused = false;
    agentlink_pause(&work->sandbox->link, false);
    sandbox_configure(work->sandbox, true, ended, work);
}

void sandbox_claim(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct guest *guest = &sandbox->guest;
    const struct driver_operations *operations = guest->driver->operations;
    struct guest_spec spec;
    char hostname[64];
    sandbox->background = false;
    if (!sandbox->running) {
        sandbox_boot(sandbox, false, done, arg);
        return;
    }
    struct sandbox_work *work = work_new(sandbox, done, arg);
    sandbox_spec(sandbox, &spec, hostname);
    if (sandbox->paused)
        operations->unpause(guest->driver, guest, claimed, work);
    else
        operations->resize(guest->driver, guest, &spec, claimed, work);
}

void sandbox_prepare(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct guest_spec spec;
    char hostname[64];
    sandbox_spec(sandbox, &spec, hostname);
    sandbox->guest.driver->operations->prepare(sandbox->guest.driver, &sandbox->guest, &spec, ended,
                                               work_new(sandbox, done, arg));
}

static void destroyed(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    guest_network_forget(work->sandbox);
    sandbox_free(work->sandbox);
    work_end(work, error, failure);
}

void sandbox_destroy(struct sandbox *sandbox, guest_done done, void *arg)
{
    agentlink_close(&sandbox->link);
    sandbox->running = false;
    list_remove(&sandbox->pool_link);
    struct guest *guest = &sandbox->guest;
    guest->driver->operations->destroy(guest->driver, guest, destroyed,
                                       work_new(sandbox, done, arg));
}

static void row_removed(void *arg, int error, const struct hearth_failure *failure)
{
    (void)arg;
    (void)failure;
    if (error)
        log_warning("guest_row_not_removed", "%s", "a guest's row stays until the next start");
}

void sandbox_discard(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct change *change = change_new();
    change_delete_guest(change, sandbox->guest.guest_id);
    change_commit(change, sandbox->supervisor->writer, row_removed, NULL);
    sandbox_destroy(sandbox, done, arg);
}

static void stopped(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    pidref_close(&work->sandbox->guest.process);
    work_end(work, error, failure);
}

/* Whether the agent answered or not: the driver waits for the orderly end and makes sure of it. */
static void shutdown_asked(void *arg, enum link_status status, const struct hearth_failure *failure,
                           const ProtobufCMessage *reply)
{
    (void)status;
    (void)failure;
    (void)reply;
    struct sandbox_work *work = arg;
    struct guest *guest = &work->sandbox->guest;
    agentlink_close(&work->sandbox->link);
    guest->driver->operations->stop(guest->driver, guest, STOP_TIMEOUT_MS, stopped, work);
}

static void ask_shutdown(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    Hearth__Agent__V1__ShutdownRequest request = HEARTH__AGENT__V1__SHUTDOWN_REQUEST__INIT;
    request.power_off = true;
    (void)error; /* the call tells the same */
    (void)failure;
    agent_call(&work->sandbox->link, "Shutdown", &request.base,
               &hearth__agent__v1__empty__descriptor, SHUTDOWN_TIMEOUT_MS, shutdown_asked, work);
}

/* A link that is just being made is waited for: who is not asked does not end. */
void sandbox_stop(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct sandbox_work *work = work_new(sandbox, done, arg);
    sandbox->running = false;
    if (sandbox->link.state == AGENTLINK_CLOSED)
        ask_shutdown(work, 0, NULL);
    else
        agentlink_when_up(&sandbox->link, clock_monotonic_us() + SHUTDOWN_LINK_US, ask_shutdown,
                          work);
}

static void reached(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    struct hearth_failure why = work->failure;
    if (error)
        log_warning("agent_not_reached", "detail=\"%s\"", failure->detail);
    else if (work->sandbox->running) /* it was paused for a while */
        sandbox_configure(work->sandbox, false, NULL, NULL);
    work_end(work, (int)why.error, &why);
}

/* It runs on, and is asked nothing before its agent is there again. */
static void run_on(struct sandbox_work *work)
{
    work->sandbox->running = true;
    agentlink_open(&work->sandbox->link);
    agentlink_when_up(&work->sandbox->link, clock_monotonic_us() + RUN_ON_US, reached, work);
}

static void suspended(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    if (error)
        work->failure = *failure;
    if (error && work->sandbox->guest.process.pid)
        run_on(work);
    else
        work_end(work, error, failure);
}

static void not_suspended(void *arg)
{
    struct sandbox_work *work = arg;
    struct hearth_failure failure = work->failure;
    work_end(work, (int)failure.error, &failure);
}

void sandbox_suspend(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct guest *guest = &sandbox->guest;
    struct sandbox_work *work = work_new(sandbox, done, arg);
    unsigned char key[GUEST_STATE_KEY_SIZE];
    struct guest_spec spec;
    char hostname[64];
    if (state_key_open(sandbox, key, &work->failure)) {
        loop_defer(sandbox->supervisor->loop, not_suspended, work);
        return;
    }
    sandbox_spec(sandbox, &spec, hostname);
    spec.state_key = key;
    sandbox->running = false;
    agentlink_close(&sandbox->link);
    guest->driver->operations->suspend(guest->driver, guest, &spec, suspended, work);
    explicit_bzero(key, sizeof key);
}

void sandbox_copy(struct sandbox *sandbox, unsigned count, struct guest_copy **ret_copy,
                  guest_done done, void *arg)
{
    struct guest *guest = &sandbox->guest;
    struct guest_spec spec;
    char hostname[64];
    sandbox_spec(sandbox, &spec, hostname);
    guest->driver->operations->copy(guest->driver, guest, &spec, count, ret_copy, ended,
                                    work_new(sandbox, done, arg));
}

static void carries_on(void *arg, int error, const struct hearth_failure *failure)
{
    struct sandbox_work *work = arg;
    if (error)
        work_end(work, error, failure);
    else
        run_on(work);
}

void sandbox_carry_on(struct sandbox *sandbox, guest_done done, void *arg)
{
    struct guest *guest = &sandbox->guest;
    guest->driver->operations->carry_on(guest->driver, guest, carries_on,
                                        work_new(sandbox, done, arg));
}
