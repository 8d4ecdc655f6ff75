/* Reset: a fresh sandbox is booted beside the old one and a snapshot's tree put into it; only then
 * do they change places, in one commit. So whatever fails before leaves the workspace as it was,
 * its commands too, and a daemon that is killed finds either the one or the other. */
#include "base/clock.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/put_back.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reset {
    struct supervisor *supervisor;
    struct workspace *workspace;
    struct steps *steps;
    struct steps held; /* stands for them until the swap is durable: the workspace is still busy */
    struct principal principal;
    char request_id[68], asker[STEPS_ASKER_SIZE];
    char name[SNAPSHOT_NAME_MAX + 1];
    struct store_hash root;
    struct sandbox *fresh, *old; /* fresh: NULL once it is the workspace's, or gone */
    bool pooled;
    struct put_back *put; /* from the restore to the end */
    struct put_back_totals totals;
    /* What it was before, for a commit that fails. */
    struct row_workspace before;
    enum workspace_state state;
    struct hearth_failure failure;
    workspace_reset_done done; /* NULL after a restart */
    void *arg;
};

static void report(struct reset *reset, int error, const struct hearth_failure *failure)
{
    struct workspace_reset_result result = {.snapshot_name = reset->name,
                                            .baseline = strcmp(reset->name, SNAPSHOT_BASELINE) == 0,
                                            .entry_count = reset->totals.entry_count,
                                            .bytes = reset->totals.bytes};
    if (reset->done)
        reset->done(reset->arg, error, failure, error ? NULL : reset->workspace,
                    error ? NULL : &result);
    free(reset);
}

/* Boot. */

static void booted(void *arg, int error, const struct hearth_failure *failure)
{
    struct reset *reset = arg;
    if (error)
        steps_fail(reset->steps, failure);
    else
        steps_next(reset->steps);
}

static void noted(void *arg, int error, const struct hearth_failure *failure)
{
    struct reset *reset = arg;
    if (error)
        booted(reset, error, failure);
    else
        sandbox_boot(reset->fresh, true, booted, reset);
}

static void taken(void *arg, int error, const struct hearth_failure *failure)
{
    struct reset *reset = arg;
    struct sandbox *fresh = error ? pool_replace(reset->fresh, failure) : NULL;
    if (!fresh) {
        booted(reset, error, failure);
        return;
    }
    reset->fresh = fresh;
    workspace_lend(reset->workspace, fresh);
    sandbox_record(fresh, noted, reset);
}

static void run_boot(struct steps *steps, void *subject)
{
    struct reset *reset = subject;
    (void)steps;
    if (reset->pooled)
        sandbox_claim(reset->fresh, taken, reset);
    else
        sandbox_boot(reset->fresh, true, booted, reset);
}

static void delete_guest_row(struct supervisor *supervisor, const char *guest_id)
{
    struct change *change = change_new();
    change_delete_guest(change, guest_id);
    change_commit(change, supervisor->writer, NULL, NULL);
}

static void fresh_gone(void *arg, int error, const struct hearth_failure *failure)
{
    struct reset *reset = arg;
    if (error)
        log_error("guest_not_removed", "workspace=%s detail=\"%s\"", reset->workspace->workspace_id,
                  failure->detail);
    steps_next(reset->steps);
}

static void undo_boot(struct steps *steps, void *subject)
{
    struct reset *reset = subject;
    struct sandbox *fresh = steal_pointer(reset->fresh);
    if (!fresh) { /* after a restart: what no workspace has is removed anyway */
        steps_next(steps);
        return;
    }
    delete_guest_row(reset->supervisor, fresh->guest.guest_id);
    sandbox_destroy(fresh, fresh_gone, reset);
}

/* Restore. */

static void end_put(struct reset *reset, bool keep)
{
    struct put_back *put = steal_pointer(reset->put);
    if (put)
        put_back_end(put, keep);
}

static void restored(void *arg, const struct hearth_failure *failure)
{
    struct reset *reset = arg;
    if (!failure->error) {
        put_back_totals(reset->put, &reset->totals);
        steps_next(reset->steps);
        return;
    }
    struct hearth_failure why = *failure;
    end_put(reset, false);
    steps_fail(reset->steps, &why);
}

static void run_restore(struct steps *steps, void *subject)
{
    struct reset *reset = subject;
    (void)steps;
    reset->put = put_back_begin(reset->workspace, reset->fresh, &reset->root, restored, reset);
}

/* Swap. */

static void old_gone(void *arg, int error, const struct hearth_failure *failure)
{
    (void)arg;
    if (error)
        log_error("guest_not_removed", "detail=\"%s\"", failure->detail);
}

/* The commit failed: nothing has changed places after all. */
static void swap_back(struct reset *reset)
{
    struct workspace *workspace = reset->workspace;
    struct sandbox *fresh = workspace->sandbox;
    fresh->workspace = NULL;
    workspace->sandbox = reset->old;
    if (reset->old)
        reset->old->workspace = workspace;
    workspace->state = reset->state;
    workspace->command_count = reset->before.command_count;
    workspace->exec_sequence = reset->before.exec_sequence;
    workspace->reset_count = reset->before.reset_count;
    workspace->last_reset_at = reset->before.last_reset_at;
    delete_guest_row(reset->supervisor, fresh->guest.guest_id);
    sandbox_destroy(fresh, old_gone, NULL);
}

/* The last of it; the next start would clear what could not be cleared. */
static void history_cleared(void *arg, int error, const struct hearth_failure *failure)
{
    struct reset *reset = arg;
    struct supervisor *supervisor = reset->supervisor;
    struct workspace *workspace = reset->workspace;
    workspace->steps = NULL;
    if (error)
        log_warning("history_not_cleared", "workspace=%s detail=\"%s\"", workspace->workspace_id,
                    failure->detail);
    end_put(reset, true);
    workspace_event(workspace, "reset", NULL);
    log_info("workspace_reset", "workspace=%s snapshot=%s", workspace->workspace_id, reset->name);
    report(reset, 0, NULL);
    workspace_guest_missed(workspace);
    pool_refill(supervisor);
}

static void swapped(void *arg, int error, const struct hearth_failure *failure)
{
    struct reset *reset = arg;
    struct workspace *workspace = reset->workspace;
    if (error) {
        workspace->steps = NULL;
        swap_back(reset);
        end_put(reset, false);
        report(reset, error, failure);
        workspace_guest_missed(workspace);
        return;
    }
    crash_point("reset:swapped");
    if (reset->old) {
        delete_guest_row(reset->supervisor, reset->old->guest.guest_id);
        sandbox_destroy(reset->old, old_gone, NULL);
    }
    struct change *history = change_new();
    change_clear_execs(history, workspace->workspace_id);
    change_clear_service_logs(history, workspace->workspace_id);
    change_commit(history, reset->supervisor->history, history_cleared, reset);
}

static void begin_anew(struct workspace *workspace)
{
    workspace->command_count = workspace->exec_sequence = 0;
    workspace->history_loaded = true;
    free(workspace->last_command.command);
    free(workspace->last_command.cwd);
    memset(&workspace->last_command, 0, sizeof workspace->last_command);
    workspace->reset_count++;
    workspace->last_reset_at = clock_wall_us();
}

static void swap(struct reset *reset, struct steps *steps)
{
    struct workspace *workspace = reset->workspace;
    struct row_workspace row;
    struct row_guest guest_row;
    struct change *change = change_new();
    static const char was_reset[] = "the workspace was reset";
    exec_abandon_all(workspace, HEARTH_ECONFLICT, "workspace_reset", was_reset);
    if (workspace->sandbox)
        agentlink_cuts_off(&workspace->sandbox->link, HEARTH_ECONFLICT, "workspace_reset",
                           was_reset);
    services_guest_ended(workspace, "stopped", "workspace_reset");
    services_forget(workspace, change);
    files_abort_all(workspace, HEARTH_ECONFLICT, "workspace_reset", was_reset);
    shells_forget(workspace);
    workspace_row(workspace, &reset->before);
    reset->state = workspace->state;
    reset->old = workspace->sandbox;
    if (reset->old)
        reset->old->workspace = NULL;
    workspace_lend(workspace, reset->fresh);
    reset->fresh->workspace = workspace;
    workspace->sandbox = steal_pointer(reset->fresh);
    begin_anew(workspace);
    workspace_move(workspace, WORKSPACE_EVENT_BOOTED);
    workspace_touch(workspace);
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    sandbox_row(workspace->sandbox, &guest_row);
    change_put_guest(change, &guest_row);
    if (reset->old) {
        sandbox_row(reset->old, &guest_row);
        change_put_guest(change, &guest_row);
    }
    steps_finish(steps, change);
    workspace_audit(workspace, change, &reset->principal, reset->request_id, "workspace_reset",
                    "ok");
    change_commit(change, reset->supervisor->writer, swapped, reset);
}

static void given_up(void *arg, int error, const struct hearth_failure *failure)
{
    struct reset *reset = arg;
    (void)error;
    (void)failure;
    struct hearth_failure why = reset->failure;
    workspace_guest_missed(reset->workspace);
    report(reset, (int)why.error, &why);
}

static void reset_done(struct steps *steps, void *subject, int error,
                       const struct hearth_failure *failure)
{
    struct reset *reset = subject;
    if (!error) {
        reset->held = *steps;
        reset->workspace->steps = &reset->held;
        swap(reset, steps);
        return;
    }
    struct change *change = change_new();
    reset->failure = *failure;
    reset->workspace->steps = NULL;
    log_warning("reset_failed", "workspace=%s code=%s detail=\"%s\"",
                reset->workspace->workspace_id, failure->code, failure->detail);
    steps_finish(steps, change);
    workspace_audit(reset->workspace, change, &reset->principal, reset->request_id,
                    "workspace_reset", failure->code);
    struct sandbox *fresh = steal_pointer(reset->fresh);
    if (fresh) /* its intent could not be written: nothing of it is there */
        sandbox_free(fresh);
    change_commit(change, reset->supervisor->writer, given_up, reset);
}

static const struct step reset_steps[] = {
    {.name = "boot", .run = run_boot, .undo = undo_boot},
    {.name = "restore", .run = run_restore},
};

static const char *reset_request(const void *subject)
{
    return ((const struct reset *)subject)->asker;
}

const struct steps_kind reset_kind = {
    .name = "reset",
    .request = reset_request,
    .steps = reset_steps,
    .count = sizeof reset_steps / sizeof *reset_steps,
    .done = reset_done,
};

/* Beginnings. */

static void refused(void *arg)
{
    struct reset *reset = arg;
    supervisor_audit_soon(reset->supervisor, &reset->principal, reset->request_id,
                          "workspace_reset", reset->workspace->workspace_id, reset->failure.code);
    struct hearth_failure why = reset->failure;
    report(reset, (int)why.error, &why);
}

static struct sandbox *make_sandbox(struct reset *reset)
{
    struct supervisor *supervisor = reset->supervisor;
    struct workspace *workspace = reset->workspace;
    struct driver *driver = workspace->sandbox   ? workspace->sandbox->guest.driver
                            : supervisor->chosen ? supervisor->chosen->driver
                                                 : NULL;
    if (supervisor->draining || !driver) {
        hearth_fail(&reset->failure, HEARTH_EUNAVAILABLE,
                    supervisor->draining ? "draining" : "no_driver",
                    "no guest can be started just now");
        return NULL;
    }
    struct sandbox *sandbox =
        workspace->transport ? NULL : pool_claim(supervisor, driver, workspace);
    reset->pooled = sandbox != NULL;
    if (!sandbox)
        sandbox = sandbox_new(supervisor, driver, &reset->failure);
    if (sandbox)
        workspace_lend(workspace, sandbox);
    return sandbox;
}

static struct reset *reset_new(struct workspace *workspace)
{
    struct reset *reset = calloc(1, sizeof *reset);
    if (!reset)
        abort();
    reset->supervisor = workspace->supervisor;
    reset->workspace = workspace;
    return reset;
}

void workspace_reset(struct workspace *workspace, const struct principal *principal,
                     const char *snapshot, const char *request_id, workspace_reset_done done,
                     void *arg)
{
    struct reset *reset = reset_new(workspace);
    reset->principal = *principal;
    reset->done = done;
    reset->arg = arg;
    snprintf(reset->request_id, sizeof reset->request_id, "%s", request_id ? request_id : "");
    snprintf(reset->name, sizeof reset->name, "%s", snapshot);
    steps_asker_format(reset->asker, principal, reset->request_id);
    const struct snapshot *found = snapshot_find(workspace, snapshot, &reset->failure);
    if (!found)
        hearth_failure_field(&reset->failure, "/snapshot");
    else if (workspace_busy(workspace, &reset->failure) == 0)
        reset->fresh = make_sandbox(reset);
    if (!reset->fresh) {
        loop_defer(workspace->supervisor->loop, refused, reset);
        return;
    }
    reset->root = found->root;
    struct row_guest guest_row;
    struct change *change = change_new();
    sandbox_row(reset->fresh, &guest_row);
    change_put_guest(change, &guest_row);
    workspace_audit(workspace, change, principal, request_id, "workspace_reset", "begun");
    steps_begin(workspace->supervisor, &reset_kind, reset, workspace->tenant->tenant_id,
                workspace->workspace_id, change, &reset->steps);
    workspace->steps = reset->steps;
}

/* After a restart: one that was cut short has changed nothing; what it booted no workspace has. */
struct steps *workspace_resume_reset(struct workspace *workspace, const struct row_operation *row)
{
    struct reset *reset = reset_new(workspace);
    reset->principal.tenant = workspace->tenant;
    snprintf(reset->asker, sizeof reset->asker, "%s", row->request);
    steps_asker_parse(row->request, &reset->principal, reset->request_id);
    reset->steps = steps_resume(workspace->supervisor, &reset_kind, reset, row);
    return reset->steps;
}
