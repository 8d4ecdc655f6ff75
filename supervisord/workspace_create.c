#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/secret_internal.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/manifest.h"
#include "supervisord/tree/put_back.h"
#include "supervisord/tree/seed_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A create under way. From the pool it is one commit at the end; else it is journalled: the rows
 * first, then the boot, and what fails or is cut short is undone. */
struct creation {
    struct supervisor *supervisor;
    struct workspace *workspace;
    struct steps *steps; /* NULL when claimed from the pool */
    struct principal principal;
    char request_id[68], asker[STEPS_ASKER_SIZE];
    char seed_upload[ID_SIZE];             /* "" for none */
    bool forked;                           /* it begins with root's tree, or: */
    bool copied;                           /* … with the whole of its origin's guest */
    const struct services_noted *services; /* … in which these run (borrowed) */
    struct store_hash root;
    struct put_back *put;
    bool may_hold_files; /* the environment may have something in /workspace */
    bool has_baseline;
    struct captured baseline;
    bool unstarted;
    int64_t began_us;
    struct hearth_failure failure;
    workspace_done done; /* NULL when resumed after a restart */
    void *arg;
};

static void report(struct creation *creation, int error, const struct hearth_failure *failure)
{
    struct supervisor *supervisor = creation->supervisor;
    struct workspace *workspace = creation->workspace;
    supervisor->totals.creates_total++;
    if (error)
        supervisor->totals.creates_failed++;
    else
        log_info("workspace_created", "workspace=%s tenant=%s environment=%s driver=%s ms=%lld",
                 workspace->workspace_id, workspace->tenant->tenant_id, workspace->environment,
                 workspace->sandbox ? workspace->sandbox->guest.driver->operations->name : "none",
                 (long long)(clock_monotonic_us() - creation->began_us) / 1000);
    if (creation->done)
        creation->done(creation->arg, error, failure, error ? NULL : workspace);
    free(creation);
    pool_refill(supervisor);
}

/* The end when all went well: state, guest and audit in one commit, then the answer. */

static void claim_failed(void *arg, int error, const struct hearth_failure *failure);

/* It was there for a moment, and could not be made durable: nobody keeps it. */
static void unpublish(struct creation *creation, const struct hearth_failure *failure)
{
    static const char gone[] = "the workspace could not be made durable";
    struct workspace *workspace = creation->workspace;
    log_error("create_not_recorded", "workspace=%s detail=\"%s\"", workspace->workspace_id,
              failure->detail);
    if (workspace->steps) { /* whose are somebody else's: the next start undoes it */
        report(creation, (int)failure->error, failure);
        return;
    }
    creation->failure = *failure;
    creation->has_baseline = false; /* it is the workspace's */
    workspace_move(workspace, WORKSPACE_EVENT_DELETE);
    exec_abandon_all(workspace, HEARTH_ENOTFOUND, "workspace_not_found", gone);
    services_guest_ended(workspace, NULL, NULL);
    files_abort_all(workspace, HEARTH_ENOTFOUND, "workspace_not_found", gone);
    sandbox_discard(creation->workspace->sandbox, claim_failed, creation);
}

static void published(void *arg, int error, const struct hearth_failure *failure)
{
    struct creation *creation = arg;
    if (error) {
        unpublish(creation, failure);
        return;
    }
    crash_point("create:published");
    struct workspace *workspace = creation->workspace;
    workspace_event(workspace, "created", NULL);
    report(creation, 0, NULL);
    workspace_guest_missed(workspace);
}

static void publish(struct creation *creation)
{
    struct workspace *workspace = creation->workspace;
    struct row_workspace row;
    struct row_guest guest_row;
    struct change *change = change_new();
    workspace->last_activity_at = clock_wall_us();
    workspace->idle_since_us = clock_boot_us();
    workspace->history_loaded = true;
    workspace_move(workspace, WORKSPACE_EVENT_CREATED);
    if (creation->unstarted)
        workspace_move(workspace, WORKSPACE_EVENT_STOPPED);
    workspace_row(workspace, &row);
    sandbox_row(workspace->sandbox, &guest_row);
    change_put_workspace(change, &row);
    secrets_put(workspace, change);
    change_put_guest(change, &guest_row);
    if (!workspace->one_shot)
        snapshot_put_baseline(workspace, creation->has_baseline ? &creation->baseline : NULL,
                              change);
    if (creation->steps)
        steps_finish(creation->steps, change);
    workspace->steps = NULL;
    workspace_audit(workspace, change, &creation->principal, creation->request_id,
                    workspace->one_shot ? "vm_create" : "workspace_create", "ok");
    change_commit(change, creation->supervisor->writer, published, creation);
}

/* The end when something failed: nothing is left but an audit row. */

static void forgotten(void *arg, int error, const struct hearth_failure *failure)
{
    (void)error;
    (void)failure;
    struct creation *creation = arg;
    creation->workspace = NULL;
    report(creation, (int)creation->failure.error, &creation->failure);
}

static void give_up(struct creation *creation, const struct hearth_failure *failure)
{
    creation->failure = *failure;
    if (creation->has_baseline && !manifest_is_empty(&creation->baseline.root))
        stores_release(creation->supervisor->stores, creation->workspace->tenant->tenant_id,
                       &creation->baseline.root, 1, NULL);
    log_warning("create_failed", "workspace=%s code=%s detail=\"%s\"",
                creation->workspace->workspace_id, failure->code, failure->detail);
    workspace_forget(creation->workspace, creation->steps, &creation->principal,
                     creation->request_id, "workspace_create", failure->code, forgotten, creation);
}

/* Seeding, common to both ways. */

static void claimed(void *arg, int error, const struct hearth_failure *failure);
static void attach(struct workspace *workspace, struct sandbox *sandbox);
static void begin_journalled(struct creation *creation);
static void keep_baseline(struct creation *creation);

static void seeded(void *arg, int error, const struct hearth_failure *failure, uint64_t entry_count,
                   uint64_t bytes_written)
{
    struct creation *creation = arg;
    if (!error) {
        creation->workspace->seed_entry_count = entry_count;
        creation->workspace->seed_bytes = bytes_written;
    }
    if (creation->steps && error)
        steps_fail(creation->steps, failure);
    else if (creation->steps)
        steps_next(creation->steps);
    else if (!error)
        keep_baseline(creation);
    else
        claimed(creation, error, failure);
}

static void seed_with(void *arg, struct ingest *ingest)
{
    struct creation *creation = arg;
    struct workspace *workspace = creation->workspace;
    seed_apply(workspace->sandbox, workspace->tenant->tenant_id, creation->seed_upload, "", ingest,
               seeded, creation);
}

static void put(void *arg, const struct hearth_failure *failure)
{
    struct creation *creation = arg;
    struct hearth_failure why = *failure;
    struct put_back_totals totals;
    put_back_totals(creation->put, &totals);
    put_back_end(steal_pointer(creation->put), !why.error);
    seeded(creation, (int)why.error, &why, totals.entry_count, totals.bytes);
}

static void seed(struct creation *creation)
{
    struct workspace *workspace = creation->workspace;
    if (creation->copied)
        seeded(creation, 0, NULL, 0, 0);
    else if (creation->forked)
        creation->put =
            put_back_begin(workspace, workspace->sandbox, &creation->root, put, creation);
    else if (!creation->seed_upload[0])
        seeded(creation, 0, NULL, 0, 0);
    else if (workspace->one_shot)
        seed_with(creation, NULL);
    else
        seed_tree_open(workspace->supervisor, workspace->tenant->tenant_id, creation->seed_upload,
                       seed_with, creation);
}

/* The baseline: what is in /workspace before anybody could change it. */

static void baseline_kept(void *arg, int error, const struct hearth_failure *failure,
                          const struct captured *captured)
{
    struct creation *creation = arg;
    if (!error) {
        creation->has_baseline = true;
        creation->baseline = *captured;
    }
    if (!error && creation->copied) {
        creation->workspace->seed_entry_count = captured->entry_count;
        creation->workspace->seed_bytes = captured->bytes;
    }
    if (creation->steps && error)
        steps_fail(creation->steps, failure);
    else if (creation->steps)
        steps_next(creation->steps);
    else if (!error)
        publish(creation);
    else
        claimed(creation, error, failure);
}

static void seed_found(void *arg, const struct store_hash *root)
{
    struct creation *creation = arg;
    tree_capture(creation->workspace, root, baseline_kept, creation);
}

static void keep_baseline(struct creation *creation)
{
    struct workspace *workspace = creation->workspace;
    if (workspace->one_shot ||
        (!creation->seed_upload[0] && !creation->forked && !creation->may_hold_files)) {
        if (creation->steps)
            steps_next(creation->steps);
        else
            publish(creation);
        return;
    }
    if (creation->seed_upload[0])
        seed_tree_find(workspace->supervisor, workspace->tenant->tenant_id, creation->seed_upload,
                       seed_found, creation);
    else
        tree_capture(workspace, NULL, baseline_kept, creation);
}

/* The journalled way. */

static void booted(void *arg, int error, const struct hearth_failure *failure)
{
    struct creation *creation = arg;
    creation->workspace->sandbox->copy = NULL;
    if (error) {
        steps_fail(creation->steps, failure);
        return;
    }
    if (creation->services)
        services_take_noted(creation->workspace, creation->services);
    steps_next(creation->steps);
}

static void run_boot(struct steps *steps, void *subject)
{
    struct creation *creation = subject;
    (void)steps;
    if (creation->unstarted)
        sandbox_prepare(creation->workspace->sandbox, booted, creation);
    else
        sandbox_boot(creation->workspace->sandbox, true, booted, creation);
}

static void undone(void *arg, int error, const struct hearth_failure *failure)
{
    struct creation *creation = arg;
    if (error)
        log_error("guest_not_removed", "workspace=%s detail=\"%s\"",
                  creation->workspace->workspace_id, failure->detail);
    steps_next(creation->steps);
}

static void undo_boot(struct steps *steps, void *subject)
{
    struct creation *creation = subject;
    struct sandbox *sandbox = creation->workspace->sandbox;
    if (!sandbox) {
        steps_next(steps);
        return;
    }
    sandbox_destroy(sandbox, undone, creation);
}

static void run_seed(struct steps *steps, void *subject)
{
    (void)steps;
    seed(subject);
}

static void run_baseline(struct steps *steps, void *subject)
{
    (void)steps;
    keep_baseline(subject);
}

static void create_done(struct steps *steps, void *subject, int error,
                        const struct hearth_failure *failure)
{
    struct creation *creation = subject;
    creation->steps = steps;
    if (error)
        give_up(creation, failure);
    else
        publish(creation);
    creation->steps = NULL;
}

static const struct step create_steps[] = {
    {.name = "boot", .run = run_boot, .undo = undo_boot},
    {.name = "seed", .run = run_seed},
    {.name = "baseline", .run = run_baseline},
};

static const char *create_request(const void *subject)
{
    return ((const struct creation *)subject)->asker;
}

const struct steps_kind create_kind = {
    .name = "create",
    .request = create_request,
    .steps = create_steps,
    .count = sizeof create_steps / sizeof *create_steps,
    .done = create_done,
};

/* From the pool. */

static void claim_failed(void *arg, int error, const struct hearth_failure *failure)
{
    (void)error;
    (void)failure;
    struct creation *creation = arg;
    struct hearth_failure why = creation->failure;
    give_up(creation, &why);
}

static void claimed(void *arg, int error, const struct hearth_failure *failure)
{
    struct creation *creation = arg;
    if (!error) {
        seed(creation);
        return;
    }
    creation->failure = *failure;
    sandbox_discard(creation->workspace->sandbox, claim_failed, creation);
}

static void taken(void *arg, int error, const struct hearth_failure *failure)
{
    struct creation *creation = arg;
    struct workspace *workspace = creation->workspace;
    struct sandbox *fresh = error ? pool_replace(workspace->sandbox, failure) : NULL;
    if (!fresh) {
        claimed(creation, error, failure);
        return;
    }
    attach(workspace, fresh);
    begin_journalled(creation);
}

/* Beginnings. */

static int fill(struct workspace *workspace, const struct workspace_spec *spec,
                const struct environment *environment)
{
    workspace->one_shot = spec->one_shot;
    workspace->name = text_copy(spec->name);
    workspace->environment = text_copy(spec->fork ? spec->environment : environment->name);
    workspace->environment_version = text_copy(environment->version);
    workspace->vcpu_count = spec->vcpu_count;
    workspace->mem_mib = spec->mem_mib;
    workspace->disk_mib = spec->disk_mib;
    workspace->ttl_us = spec->ttl_us;
    workspace->network = spec->network;
    workspace->isolation = text_copy(spec->isolation);
    workspace->transport = text_copy(spec->transport);
    workspace->allow_host_compat = spec->allow_host_compat;
    workspace->created_at = workspace->last_activity_at = clock_wall_us();
    workspace->seed_mode = text_copy(spec->fork ? spec->fork->copy ? "memory_fork" : "fork"
                                     : !spec->seed_upload ? "empty"
                                                          : seed_mode(spec->seed_path));
    workspace->seed_path = text_copy(spec->seed_path);
    workspace->seed_destination = text_copy("/workspace");
    int error = secrets_keep(workspace, spec->secrets, spec->secret_count);
    return error ? error : workspace_labels_set(workspace, spec->labels, spec->label_count);
}

void workspace_lend(const struct workspace *workspace, struct sandbox *sandbox)
{
    snprintf(sandbox->identity, sizeof sandbox->identity, "%s", workspace->workspace_id);
    snprintf(sandbox->tenant_id, sizeof sandbox->tenant_id, "%s", workspace->tenant->tenant_id);
    snprintf(sandbox->environment_version, sizeof sandbox->environment_version, "%s",
             workspace->environment_version);
    sandbox->network = workspace->network;
    sandbox->vcpu_count = workspace->vcpu_count;
    sandbox->mem_mib = workspace->mem_mib;
    sandbox->disk_mib = workspace->disk_mib;
    snprintf(sandbox->transport, sizeof sandbox->transport, "%s",
             workspace->transport ? workspace->transport : "");
}

static void attach(struct workspace *workspace, struct sandbox *sandbox)
{
    sandbox->workspace = workspace;
    workspace->sandbox = sandbox;
    workspace_lend(workspace, sandbox);
}

static void begin_journalled(struct creation *creation)
{
    struct workspace *workspace = creation->workspace;
    struct row_workspace row;
    struct row_guest guest_row;
    struct change *change = change_new();
    workspace_row(workspace, &row);
    sandbox_row(workspace->sandbox, &guest_row);
    change_put_workspace(change, &row);
    secrets_put(workspace, change);
    change_put_guest(change, &guest_row);
    steps_begin(creation->supervisor, &create_kind, creation, workspace->tenant->tenant_id,
                workspace->workspace_id, change, &creation->steps);
    workspace->steps = creation->steps;
}

/* Those of the workspace that it is a copy of, unless that is gone already. */
static int take_secrets(struct workspace *workspace, const char *origin_id,
                        struct hearth_failure *failure)
{
    const struct workspace *origin = supervisor_workspace(workspace->supervisor, origin_id);
    return origin ? secrets_copy(workspace, origin, failure) : 0;
}

static struct workspace *make(struct supervisor *supervisor, struct tenant *tenant,
                              const struct workspace_spec *spec,
                              const struct environment *environment, struct hearth_failure *failure)
{
    char workspace_id[ID_SIZE];
    if (tenant_take_workspace(tenant, spec->mem_mib, failure))
        return NULL;
    id_make(workspace_id, spec->one_shot ? "vm" : "ws", supervisor->config->node_tag);
    struct workspace *workspace = workspace_new(supervisor, tenant, workspace_id);
    int error = workspace ? fill(workspace, spec, environment) : HEARTH_ENOMEMORY;
    if (error)
        hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    else if (spec->fork)
        error = take_secrets(workspace, spec->fork->workspace_id, failure);
    if (!error) {
        workspace->counted = true;
        return workspace;
    }
    tenant_give_workspace(tenant, spec->mem_mib);
    if (workspace)
        workspace_free(workspace);
    return NULL;
}

void workspace_create(struct supervisor *supervisor, const struct principal *principal,
                      const struct workspace_spec *spec, workspace_done done, void *arg)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    const struct environment *environment = NULL;
    struct driver_slot *slot = NULL;
    struct workspace *workspace = NULL;
    struct sandbox *sandbox = NULL;
    if (workspace_check_spec(supervisor, principal, spec, &environment, &slot, &failure) == 0)
        workspace = make(supervisor, principal->tenant, spec, environment, &failure);
    if (workspace) {
        bool copied = spec->fork && spec->fork->copy;
        if (!spec->unstarted && !spec->transport && !copied)
            sandbox = pool_claim(supervisor, slot->driver, workspace);
        bool pooled = sandbox != NULL;
        if (!sandbox)
            sandbox = sandbox_new(supervisor, slot->driver, &failure);
        struct creation *creation = sandbox ? calloc(1, sizeof *creation) : NULL;
        if (creation) {
            *creation = (struct creation){.supervisor = supervisor,
                                          .workspace = workspace,
                                          .principal = *principal,
                                          .began_us = clock_monotonic_us(),
                                          .done = done,
                                          .arg = arg};
            snprintf(creation->request_id, sizeof creation->request_id, "%s",
                     spec->request_id ? spec->request_id : "");
            steps_asker_format(creation->asker, principal, creation->request_id);
            snprintf(creation->seed_upload, sizeof creation->seed_upload, "%s",
                     spec->seed_upload ? spec->seed_upload : "");
            creation->forked = spec->fork != NULL;
            creation->copied = copied;
            creation->services = copied ? spec->fork->services : NULL;
            if (spec->fork)
                creation->root = spec->fork->root;
            creation->may_hold_files = !environment->builtin;
            creation->unstarted = spec->unstarted;
            attach(workspace, sandbox);
            sandbox->copy = copied ? spec->fork->copy : NULL;
            if (pooled)
                sandbox_claim(sandbox, taken, creation);
            else
                begin_journalled(creation);
            return;
        }
        if (sandbox)
            sandbox_destroy(sandbox, NULL, NULL);
        workspace_free(workspace);
    }
    if (!failure.error)
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    supervisor_audit(supervisor, principal, spec->request_id,
                     spec->one_shot ? "vm_create" : "workspace_create", NULL, failure.code);
    workspace_complete_later(supervisor, done, arg, (int)failure.error, &failure, NULL);
}

/* After a restart: a create that was cut short is undone. */
struct steps *workspace_resume_create(struct workspace *workspace, const struct row_operation *row)
{
    struct creation *creation = calloc(1, sizeof *creation);
    if (!creation)
        abort();
    *creation = (struct creation){.supervisor = workspace->supervisor,
                                  .workspace = workspace,
                                  .began_us = clock_monotonic_us()};
    creation->principal.tenant = workspace->tenant;
    snprintf(creation->asker, sizeof creation->asker, "%s", row->request);
    steps_asker_parse(row->request, &creation->principal, creation->request_id);
    creation->steps = steps_resume(workspace->supervisor, &create_kind, creation, row);
    return creation->steps;
}
