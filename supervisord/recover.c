/* Start-up: drivers are probed, rows loaded, running guests taken back, and what a crash cut short
 * is finished or undone. Nothing is killed because bookkeeping failed: a guest that cannot be taken
 * back is reported and left. */
#include "base/clock.h"
#include "base/log.h"
#include "base/path_at.h"
#include "base/text.h"
#include "supervisord/guest_network.h"
#include "supervisord/lifecycle.h"
#include "supervisord/secret_internal.h"
#include "supervisord/secret_rotation.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINK_DEADLINE_US (5 * US_PER_S)
#define DRAIN_US (20 * US_PER_S)
#define SETTLE_US (10 * US_PER_S)

static void maybe_recovered(struct supervisor *supervisor);

/* One more thing that recovery waits for; and one less. */
static void hold(struct supervisor *supervisor)
{
    supervisor->recovering++;
}

static void release(struct supervisor *supervisor)
{
    supervisor->recovering--;
    maybe_recovered(supervisor);
}

/* A changed boot ID says that the host was restarted: no guest can run. */
static bool host_rebooted(struct supervisor *supervisor)
{
    char *now = supervisor->boot_id, then[64] = "", path[4200];
    snprintf(path, sizeof path, "%s/boot-id", supervisor->config->state_dir);
    path_read_small(AT_FDCWD, "/proc/sys/kernel/random/boot_id", now, sizeof supervisor->boot_id);
    bool known = path_read_small(AT_FDCWD, path, then, sizeof then) > 0;
    bool rebooted = known && strcmp(now, then) != 0;
    if ((!known || rebooted) && path_write_durable(AT_FDCWD, path, now, strlen(now), 0600))
        log_warning("boot_id_not_written", "%s", path);
    return rebooted;
}

/* Rows. */

struct loading {
    struct supervisor *supervisor;
    struct row_operation *operations; /* strings owned */
    size_t operation_count;
    bool rebooted;
};

static int load_workspace(void *arg, const struct row_workspace *row)
{
    struct supervisor *supervisor = ((struct loading *)arg)->supervisor;
    (void)environment_lease(supervisor->environments, row->environment_version);
    return workspace_load(supervisor, row);
}

static int load_guest(void *arg, const struct row_guest *row)
{
    struct supervisor *supervisor = ((struct loading *)arg)->supervisor;
    struct driver_slot *slot = supervisor_driver(supervisor, row->driver);
    struct hearth_failure failure;
    if (!slot) {
        log_error("guest_of_unknown_driver", "guest=%s driver=%s", row->guest_id, row->driver);
        return 0;
    }
    struct sandbox *sandbox = sandbox_new(supervisor, slot->driver, &failure);
    if (!sandbox)
        return (int)failure.error;
    supervisor_give_range(supervisor, sandbox->guest.index);
    supervisor_keep_range(supervisor, row->guest_index);
    sandbox->guest.index = row->guest_index;
    snprintf(sandbox->guest.guest_id, sizeof sandbox->guest.guest_id, "%s", row->guest_id);
    snprintf(sandbox->tenant_id, sizeof sandbox->tenant_id, "%s", row->tenant_id);
    snprintf(sandbox->environment_version, sizeof sandbox->environment_version, "%s",
             row->environment_version);
    sandbox->guest.driver_state = text_copy(row->driver_state);
    sandbox->created_at = row->created_at;
    state_key_load(sandbox, row->state_key, row->state_key_length);
    struct workspace *workspace = supervisor_workspace(supervisor, row->workspace_id);
    sandbox->workspace = workspace;
    if (workspace) {
        workspace->sandbox = sandbox;
        workspace_lend(workspace, sandbox);
    }
    return 0;
}

static int load_operation(void *arg, const struct row_operation *row)
{
    struct loading *loading = arg;
    struct row_operation *grown =
        realloc(loading->operations, (loading->operation_count + 1) * sizeof *loading->operations);
    if (!grown)
        return HEARTH_ENOMEMORY;
    loading->operations = grown;
    struct row_operation *copy = &grown[loading->operation_count++];
    *copy = *row;
    copy->operation_id = text_copy(row->operation_id);
    copy->tenant_id = text_copy(row->tenant_id);
    copy->subject_id = text_copy(row->subject_id);
    copy->kind = text_copy(row->kind);
    copy->request = text_copy(row->request);
    return copy->operation_id && copy->tenant_id && copy->subject_id && copy->kind && copy->request
               ? 0
               : HEARTH_ENOMEMORY;
}

static int load_upload(void *arg, const struct row_upload *row)
{
    struct supervisor *supervisor = ((struct loading *)arg)->supervisor;
    return uploads_load(supervisor->uploads, tenant_by_id(supervisor, row->tenant_id), row);
}

static int load_snapshot(void *arg, const struct row_snapshot *row)
{
    return snapshot_load(((struct loading *)arg)->supervisor, row);
}

static int load_secret(void *arg, const struct row_secret *row)
{
    return secrets_load(((struct loading *)arg)->supervisor, row);
}

static int load_service(void *arg, const struct row_service *row)
{
    return services_load(((struct loading *)arg)->supervisor, row);
}

static int load_exec(void *arg, const struct row_exec *row)
{
    return exec_load(((struct loading *)arg)->supervisor, row);
}

static int load_rows(struct loading *loading, struct hearth_failure *failure)
{
    struct supervisor *supervisor = loading->supervisor;
    struct db *db = supervisor->state_reader;
    int error = rows_each_workspace(db, load_workspace, loading, failure);
    if (!error)
        error = rows_each_guest(db, load_guest, loading, failure);
    if (!error)
        error = rows_each_operation(db, load_operation, loading, failure);
    if (!error)
        error = rows_each_upload(db, load_upload, loading, failure);
    if (!error)
        error = rows_each_snapshot(db, load_snapshot, loading, failure);
    if (!error)
        error = rows_each_secret(db, load_secret, loading, failure);
    if (!error)
        error = rows_each_service(db, load_service, loading, failure);
    if (!error)
        error = rows_each_running_exec(supervisor->history_reader, load_exec, loading, failure);
    return error;
}

static void history_cleared(void *arg, int error, const struct hearth_failure *failure)
{
    if (error)
        log_warning("history_not_cleared", "detail=\"%s\"", failure->detail);
    release(arg);
}

static void clear_reset_histories(struct supervisor *supervisor)
{
    struct change *change = change_new();
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i]; entry;
             entry = entry->next) {
            struct workspace *workspace = container_of(entry, struct workspace, entry);
            if (workspace->last_reset_at)
                change_clear_execs_before(change, workspace->workspace_id,
                                          workspace->last_reset_at);
        }
    change_commit(change, supervisor->history, history_cleared, supervisor);
}

static void free_operations(struct loading *loading)
{
    for (size_t i = 0; i < loading->operation_count; i++) {
        struct row_operation *row = &loading->operations[i];
        free((char *)(uintptr_t)row->operation_id);
        free((char *)(uintptr_t)row->tenant_id);
        free((char *)(uintptr_t)row->subject_id);
        free((char *)(uintptr_t)row->kind);
        free((char *)(uintptr_t)row->request);
    }
    free(loading->operations);
}

/* Operations that were cut short, after every guest has been looked for. */
static void resume_operations(struct loading *loading)
{
    for (size_t i = 0; i < loading->operation_count; i++) {
        const struct row_operation *row = &loading->operations[i];
        struct workspace *workspace = supervisor_workspace(loading->supervisor, row->subject_id);
        if (workspace && !workspace->steps) {
            workspace_resume_operation(workspace, row);
            continue;
        }
        struct change *change = change_new();
        change_delete_operation(change, row->operation_id);
        change_commit(change, loading->supervisor->writer, NULL, NULL);
    }
}

/* Traces that no row knows: those that do not run are removed, those that run are reported and
 * left. */

struct stray {
    struct supervisor *supervisor;
    struct driver *driver;
    struct guest guest;
};

static void stray_removed(void *arg, int error, const struct hearth_failure *failure)
{
    struct stray *stray = arg;
    if (error)
        log_warning("stray_guest_not_removed", "guest=%s detail=\"%s\"", stray->guest.guest_id,
                    failure->detail);
    else
        log_info("stray_guest_removed", "guest=%s", stray->guest.guest_id);
    stray->driver->operations->forget(stray->driver, &stray->guest);
    struct supervisor *supervisor = stray->supervisor;
    free(stray->guest.driver_state);
    free(stray);
    release(supervisor);
}

static void visit_trace(void *arg, const char *guest_id)
{
    struct driver_slot *slot = arg;
    struct supervisor *supervisor = slot->supervisor;
    list_for_each(cursor, next, &supervisor->sandboxes)
    {
        if (strcmp(container_of(cursor, struct sandbox, all_link)->guest.guest_id, guest_id) == 0)
            return;
    }
    struct stray *stray = calloc(1, sizeof *stray);
    if (!stray)
        return;
    stray->supervisor = supervisor;
    stray->driver = slot->driver;
    stray->guest.driver = slot->driver;
    stray->guest.process = PIDREF_NONE;
    snprintf(stray->guest.guest_id, sizeof stray->guest.guest_id, "%s", guest_id);
    hold(supervisor);
    slot->driver->operations->destroy(slot->driver, &stray->guest, stray_removed, stray);
}

/* Guests. */

static void linked(void *arg, int error, const struct hearth_failure *failure)
{
    struct supervisor *supervisor = arg;
    if (error)
        log_warning("agent_not_reached", "detail=\"%s\"", failure->detail);
    release(supervisor);
}

struct adoption {
    struct sandbox *sandbox;
    bool rebooted;
};

static void adopted(void *arg, int error, const struct hearth_failure *failure)
{
    auto_free struct adoption *adoption = arg;
    struct sandbox *sandbox = adoption->sandbox;
    struct supervisor *supervisor = sandbox->supervisor;
    struct workspace *workspace = sandbox->workspace;
    if (!error && workspace) {
        /* One within a resume has not run yet, or soon goes on with it. */
        sandbox->running = workspace->state != WORKSPACE_SUSPENDED;
        supervisor->totals.adopted_total++;
        log_info("guest_adopted", "guest=%s workspace=%s pid=%d", sandbox->guest.guest_id,
                 workspace->workspace_id, (int)sandbox->guest.process.pid);
        if (!sandbox->running) {
            release(supervisor);
            return;
        }
        agentlink_open(&sandbox->link);
        agentlink_when_up(&sandbox->link, clock_monotonic_us() + LINK_DEADLINE_US, linked,
                          supervisor);
        return;
    }
    if (error && error != HEARTH_ENOTFOUND)
        log_error("guest_not_adopted", "guest=%s detail=\"%s\"", sandbox->guest.guest_id,
                  failure->detail);
    release(supervisor);
}

static void adopt_all(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->sandboxes)
    {
        struct sandbox *sandbox = container_of(cursor, struct sandbox, all_link);
        struct adoption *adoption = calloc(1, sizeof *adoption);
        if (!adoption)
            abort();
        adoption->sandbox = sandbox;
        hold(supervisor);
        sandbox->guest.driver->operations->adopt(sandbox->guest.driver, &sandbox->guest, adopted,
                                                 adoption);
    }
}

/* After the adoptions: workspaces whose guest is gone, machines that nobody waits for, pooled
 * guests of before. */
static void settle(struct supervisor *supervisor, bool rebooted)
{
    list_for_each(cursor, next, &supervisor->sandboxes)
    {
        struct sandbox *sandbox = container_of(cursor, struct sandbox, all_link);
        if (sandbox->workspace)
            continue;
        struct change *change = change_new();
        change_delete_guest(change, sandbox->guest.guest_id);
        change_commit(change, supervisor->writer, NULL, NULL);
        sandbox_destroy(sandbox, NULL, NULL);
    }
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i], *next; entry;
             entry = next) {
            struct workspace *workspace = container_of(entry, struct workspace, entry);
            next = entry->next;
            bool running = workspace->sandbox && workspace->sandbox->running;
            bool saved = workspace->state == WORKSPACE_SUSPENDED ||
                         (workspace->steps && workspace->steps->kind == &suspend_kind);
            if (!running && !saved) {
                exec_abandon_all(workspace, HEARTH_ECONFLICT, "guest_gone",
                                 "the guest ended while the daemon was away");
                services_guest_ended(workspace, "failed", "guest_gone");
            }
            if (workspace->steps)
                continue;
            if (workspace->one_shot && !workspace_label(workspace, WORKSPACE_MACHINE_LABEL))
                workspace_discard(workspace);
            else if (!running && workspace->state == WORKSPACE_STARTED)
                workspace_guest_gone(workspace, rebooted);
        }
}

/* Quiet: no boot, stop or removal is under way. Recovery ends with it and so does the daemon, each
 * within a deadline; what is cut short is taken up at the next start. */

static int nothing(struct db *db, void *arg, struct hearth_failure *failure)
{
    (void)db;
    (void)arg;
    (void)failure;
    return 0;
}

/* Intents that were queued before this are written: what they are of has begun. */
static void written(void *arg, int error, const struct hearth_failure *failure)
{
    struct supervisor *supervisor = arg;
    (void)error;
    (void)failure;
    supervisor->works--;
    supervisor_maybe_quiet(supervisor);
}

static void quiet(void *arg)
{
    struct supervisor *supervisor = arg;
    void (*done)(void *) = steal_pointer(supervisor->quiet);
    timer_unset(&supervisor->drain);
    if (done)
        done(supervisor->quiet_arg);
}

void supervisor_maybe_quiet(struct supervisor *supervisor)
{
    if (supervisor->quiet && !supervisor->works)
        loop_defer(supervisor->loop, quiet, supervisor);
}

static void when_quiet(struct supervisor *supervisor, int64_t within_us, void (*done)(void *arg),
                       void *arg)
{
    supervisor->quiet = done;
    supervisor->quiet_arg = arg;
    timer_set(&supervisor->drain, clock_monotonic_us() + within_us);
    /* One piece of work of our own, so that it does not end before what has just been asked for
     * begins. */
    supervisor->works++;
    writer_submit(supervisor->writer, nothing, supervisor, written);
}

/* The phases: probes, then adoption, then the rest. */

static struct loading loading_now; /* one supervisor recovers once */

static void maybe_recovered(struct supervisor *supervisor)
{
    if (supervisor->recovering || supervisor->recovered)
        return;
    supervisor->recovered = true;
    resume_operations(&loading_now);
    settle(supervisor, loading_now.rebooted);
    free_operations(&loading_now);
    uploads_loaded(supervisor->uploads);
    secret_rotation_settle(supervisor);
    expiry_start(supervisor);
    suspend_start(supervisor);
    stores_tidy(supervisor->stores, snapshots_known_wanted, supervisor);
    when_quiet(supervisor, SETTLE_US, supervisor->ready, supervisor->ready_arg);
}

static void choose(struct supervisor *supervisor)
{
    const char *wanted = supervisor->config->driver;
    struct driver_slot *oci = &supervisor->drivers[DRIVER_OCI],
                       *qemu = &supervisor->drivers[DRIVER_QEMU];
    if (strcmp(wanted, "auto") != 0)
        supervisor->chosen = supervisor_driver(supervisor, wanted);
    else if (qemu->probe.usable && strstr(qemu->probe.version, "kvm"))
        supervisor->chosen = qemu;
    else
        supervisor->chosen = oci->probe.usable ? oci : qemu->probe.usable ? qemu : NULL;
    log_info("driver_chosen", "driver=%s wanted=%s oci=\"%s\" qemu=\"%s\"",
             supervisor->chosen ? supervisor->chosen->name : "none", wanted,
             oci->probe.usable ? oci->probe.version : oci->probe.reason,
             qemu->probe.usable ? qemu->probe.version : qemu->probe.reason);
}

void supervisor_driver_changed(void *arg, struct driver *driver, const struct driver_probe *probe)
{
    struct supervisor *supervisor = arg;
    bool all = true;
    for (int i = 0; i < DRIVER_COUNT; i++) {
        struct driver_slot *slot = &supervisor->drivers[i];
        if (slot->driver == driver)
            slot->probe = *probe;
        all = all && slot->probed;
    }
    if (all)
        choose(supervisor);
}

static void probed(void *arg, const struct driver_probe *probe)
{
    struct driver_slot *slot = arg;
    struct supervisor *supervisor = slot->supervisor;
    slot->probe = *probe;
    slot->probed = true;
    for (int i = 0; i < DRIVER_COUNT; i++)
        if (!supervisor->drivers[i].probed)
            return;
    choose(supervisor);
    bool machines = supervisor->drivers[DRIVER_QEMU].probe.usable;
    environments_want_images(supervisor->environments, machines);
    environments_want_kernel(supervisor->environments,
                             machines && strcmp(supervisor->config->kernel, "auto") == 0);
    release(supervisor);
}

void supervisor_recover(struct supervisor *supervisor, void (*ready)(void *arg), void *arg)
{
    struct hearth_failure failure;
    supervisor->ready = ready;
    supervisor->ready_arg = arg;
    timer_init(&supervisor->drain, supervisor->loop, quiet, supervisor);
    loading_now = (struct loading){.supervisor = supervisor, .rebooted = host_rebooted(supervisor)};
    hold(supervisor);
    for (int i = 0; i < DRIVER_COUNT; i++) {
        supervisor->drivers[i].supervisor = supervisor;
        supervisor->drivers[i].driver->operations->probe(supervisor->drivers[i].driver, probed,
                                                         &supervisor->drivers[i]);
    }
    if (expiry_load(supervisor, &failure) || load_rows(&loading_now, &failure)) {
        log_error("rows_unreadable", "code=%s detail=\"%s\"", failure.code, failure.detail);
        exit(1); /* guests go on; an operator must look at the database first */
    }
    if (events_load(supervisor, loading_now.rebooted, &failure))
        log_error("events_unreadable", "detail=\"%s\"", failure.detail);
    hold(supervisor);
    clear_reset_histories(supervisor);
    guest_network_recover(supervisor);
    adopt_all(supervisor);
    for (int i = 0; i < DRIVER_COUNT; i++)
        supervisor->drivers[i].driver->operations->each_trace(supervisor->drivers[i].driver,
                                                              visit_trace, &supervisor->drivers[i]);
}

/* The other end. */

static void guest_stopped(void *arg, int error, const struct hearth_failure *failure,
                          struct workspace *workspace)
{
    (void)arg;
    (void)workspace;
    if (error)
        log_warning("guest_not_stopped", "detail=\"%s\"", failure->detail);
}

static void stop_all(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i], *next; entry;
             entry = next) {
            struct workspace *workspace = container_of(entry, struct workspace, entry);
            next = entry->next;
            if (workspace->state == WORKSPACE_STARTED && !workspace->steps)
                workspace_stop(workspace, NULL, NULL, guest_stopped, NULL);
        }
}

void supervisor_drain(struct supervisor *supervisor, bool stop_guests, void (*done)(void *arg),
                      void *arg)
{
    supervisor->draining = true;
    pool_empty(supervisor);
    if (stop_guests)
        stop_all(supervisor);
    when_quiet(supervisor, DRAIN_US, done, arg);
}

bool supervisor_idle(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->sandboxes)
    {
        if (container_of(cursor, struct sandbox, all_link)->running)
            return false;
    }
    return true;
}
