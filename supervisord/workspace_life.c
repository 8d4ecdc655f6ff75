/* Delete, stop and start of a workspace, and what a restart finds unfinished of these. */
#include "base/clock.h"
#include "base/log.h"
#include "supervisord/fork_memory.h"
#include "supervisord/service.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_AGAIN_US (2 * US_PER_S)

/* A delete, stop or start under way. */
struct life {
    struct supervisor *supervisor;
    struct workspace *workspace;
    struct steps *steps;
    struct principal principal;
    char request_id[68], asker[STEPS_ASKER_SIZE];
    const char *operation;
    const char *reason; /* told by the event; a literal */
    bool expired;       /* nobody asked: it was idle for too long */
    bool revoked;       /* … but was used again before anything was done; or nothing could be */
    bool resumes;       /* its guest was suspended, and is wanted: no activity by itself */
    enum workspace_state before; /* of a delete */
    const char *happened;        /* what the event says at the end */
    char operation_id[ID_SIZE];  /* at the end */
    struct hearth_failure failure;
    workspace_done done; /* NULL once told, or when nobody waits */
    void *arg;
};

static void set_reason(struct life *life)
{
    life->expired = strcmp(life->principal.token_id, EXPIRY_TOKEN) == 0;
    life->reason = life->expired                                      ? "expired"
                   : strcmp(life->principal.token_id, "hearthd") == 0 ? "daemon"
                                                                      : "requested";
}

static struct life *life_new(struct workspace *workspace, const struct principal *principal,
                             const char *request_id, const char *operation, workspace_done done,
                             void *arg)
{
    struct life *life = calloc(1, sizeof *life);
    if (!life)
        abort();
    *life = (struct life){.supervisor = workspace->supervisor,
                          .workspace = workspace,
                          .operation = operation,
                          .done = done,
                          .arg = arg};
    if (principal)
        life->principal = *principal;
    else
        snprintf(life->principal.token_id, sizeof life->principal.token_id, "hearthd");
    life->principal.tenant = workspace->tenant;
    set_reason(life);
    snprintf(life->request_id, sizeof life->request_id, "%s", request_id ? request_id : "");
    steps_asker_format(life->asker, &life->principal, life->request_id);
    return life;
}

static const char *life_request(const void *subject)
{
    return ((const struct life *)subject)->asker;
}

static void tell(struct life *life, int error, const struct hearth_failure *failure)
{
    workspace_done done = steal_pointer(life->done);
    if (done)
        done(life->arg, error, failure, error ? NULL : life->workspace);
}

/* What a workspace has come to could not be written. Its operation's row says that it is still
 * under way: the next start would stop what runs by then. So it is tried until it can be. */
struct unsettled {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE], operation_id[ID_SIZE];
    struct timer again;
};

static void rewritten(void *arg, int error, const struct hearth_failure *failure)
{
    struct unsettled *unsettled = arg;
    (void)failure;
    if (error) {
        timer_set(&unsettled->again, clock_monotonic_us() + SETTLE_AGAIN_US);
        return;
    }
    timer_free(&unsettled->again);
    free(unsettled);
}

static void settle_again(void *arg)
{
    struct unsettled *unsettled = arg;
    struct row_workspace row;
    struct row_guest guest_row;
    struct change *change = change_new();
    const struct workspace *workspace =
        supervisor_workspace(unsettled->supervisor, unsettled->workspace_id);
    change_delete_operation(change, unsettled->operation_id);
    if (workspace && !workspace->steps) { /* else what is under way writes its own end */
        workspace_row(workspace, &row);
        change_put_workspace(change, &row);
        if (workspace->sandbox) {
            sandbox_row(workspace->sandbox, &guest_row);
            change_put_guest(change, &guest_row);
        }
    }
    change_commit(change, unsettled->supervisor->writer, rewritten, unsettled);
}

static void settle_later(const struct life *life)
{
    struct unsettled *unsettled = calloc(1, sizeof *unsettled);
    if (!unsettled)
        abort();
    unsettled->supervisor = life->supervisor;
    memcpy(unsettled->workspace_id, life->workspace->workspace_id, sizeof unsettled->workspace_id);
    memcpy(unsettled->operation_id, life->operation_id, sizeof unsettled->operation_id);
    timer_init(&unsettled->again, life->supervisor->loop, settle_again, unsettled);
    timer_set(&unsettled->again, clock_monotonic_us() + SETTLE_AGAIN_US);
}

/* Stop and start have come to their end, and it is durable. */
static void settled(void *arg, int error, const struct hearth_failure *failure)
{
    struct life *life = arg;
    if (error)
        settle_later(life);
    if (!error && !life->revoked)
        workspace_event(life->workspace, life->happened, life->reason);
    if (!error && life->failure.error) {
        error = (int)life->failure.error;
        failure = &life->failure;
    }
    struct workspace *workspace = life->workspace;
    tell(life, error, failure);
    free(life);
    workspace_guest_missed(workspace);
}

/* The intent could not be written: nothing was done, and all is as it was. */
static void not_begun(struct life *life, const struct hearth_failure *failure)
{
    life->workspace->steps = NULL;
    workspace_guest_missed(life->workspace);
    tell(life, (int)failure->error, failure);
    free(life);
}

int workspace_busy(struct workspace *workspace, struct hearth_failure *failure)
{
    if (!workspace->steps && list_empty(&workspace->disk_jobs))
        return 0;
    int error = hearth_fail(failure, HEARTH_ECONFLICT, "workspace_busy",
                            "a %s of the workspace is under way",
                            workspace->steps ? workspace->steps->kind->name : "disk operation");
    failure->retryable = true;
    hearth_failure_hint(failure, "Wait for it to end, then try again.");
    return error;
}

/* Refuses where another long operation is under way, by its name. */
static bool busy(struct workspace *workspace, workspace_done done, void *arg)
{
    struct hearth_failure failure;
    if (workspace_busy(workspace, &failure) == 0)
        return false;
    workspace_complete_later(workspace->supervisor, done, arg, (int)failure.error, &failure, NULL);
    return true;
}

static void begin(struct life *life, const struct steps_kind *kind)
{
    struct workspace *workspace = life->workspace;
    struct row_workspace row;
    struct change *change = change_new();
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    if (life->operation)
        workspace_audit(workspace, change, &life->principal, life->request_id, life->operation,
                        "begun");
    steps_begin(life->supervisor, kind, life, workspace->tenant->tenant_id, workspace->workspace_id,
                change, &life->steps);
    workspace->steps = life->steps;
}

/* Delete: told as soon as the intent is durable, forward only. Who is told may use its place at
 * once. */

/* What is under way in it ends. */
static void cut_off(struct workspace *workspace)
{
    static const char deleted[] = "the workspace was deleted";
    exec_abandon_all(workspace, HEARTH_ENOTFOUND, "workspace_not_found", deleted);
    if (workspace->sandbox)
        agentlink_cuts_off(&workspace->sandbox->link, HEARTH_ENOTFOUND, "workspace_not_found",
                           deleted);
    services_guest_ended(workspace, NULL, NULL);
    files_abort_all(workspace, HEARTH_ENOTFOUND, "workspace_not_found", deleted);
}

static void run_tell(struct steps *steps, void *subject)
{
    struct life *life = subject;
    cut_off(life->workspace);
    workspace_uncount(life->workspace);
    workspace_event(life->workspace, "deleted", life->reason);
    tell(life, 0, NULL);
    steps_next(steps);
}

static void removed(void *arg, int error, const struct hearth_failure *failure)
{
    struct life *life = arg;
    if (error)
        log_error("guest_not_removed", "workspace=%s detail=\"%s\"", life->workspace->workspace_id,
                  failure->detail);
    steps_next(life->steps);
}

static void run_remove(struct steps *steps, void *subject)
{
    struct life *life = subject;
    cut_off(life->workspace); /* after a restart there are commands again */
    if (life->workspace->sandbox)
        sandbox_destroy(life->workspace->sandbox, removed, life);
    else
        steps_next(steps);
}

static void delete_done(struct steps *steps, void *subject, int error,
                        const struct hearth_failure *failure)
{
    struct life *life = subject;
    struct workspace *workspace = life->workspace;
    if (error) {
        workspace_move_back(workspace, life->before);
        not_begun(life, failure);
        return;
    }
    log_info("workspace_deleted", "workspace=%s tenant=%s", workspace->workspace_id,
             workspace->tenant->tenant_id);
    life->supervisor->totals.deletes_total++;
    workspace_forget(workspace, steps, &life->principal, life->request_id, "workspace_delete", "ok",
                     NULL, NULL);
    free(life);
}

static const struct step delete_steps[] = {
    {.name = "tell", .run = run_tell},
    {.name = "remove", .run = run_remove},
};

static const struct steps_kind delete_kind = {
    .name = "delete",
    .steps = delete_steps,
    .count = sizeof delete_steps / sizeof *delete_steps,
    .forward_only = true,
    .request = life_request,
    .done = delete_done,
};

void workspace_delete(struct workspace *workspace, const struct principal *principal,
                      const char *request_id, workspace_done done, void *arg)
{
    disk_abort_all(workspace);
    if (busy(workspace, done, arg))
        return;
    struct life *life = life_new(workspace, principal, request_id, "workspace_delete", done, arg);
    life->before = workspace->state;
    workspace_move(workspace, WORKSPACE_EVENT_DELETE);
    begin(life, &delete_kind);
}

static void discarded(void *arg, int error, const struct hearth_failure *failure,
                      struct workspace *workspace)
{
    (void)arg;
    (void)error;
    (void)failure;
    (void)workspace;
}

void workspace_discard(struct workspace *workspace)
{
    workspace_delete(workspace, NULL, NULL, discarded, NULL);
}

/* Stop. */

static const char was_stopped[] = "the workspace was stopped";

static void stopped(void *arg, int error, const struct hearth_failure *failure)
{
    struct life *life = arg;
    if (error)
        log_warning("stop_unclean", "workspace=%s detail=\"%s\"", life->workspace->workspace_id,
                    failure->detail);
    /* Those whose end the guest has not told. */
    exec_abandon_all(life->workspace, HEARTH_ECONFLICT, "workspace_stopped", was_stopped);
    shells_guest_ended(life->workspace);
    services_guest_ended(life->workspace, "stopped", "workspace_stopped");
    steps_next(life->steps);
}

static void shut_down(void *arg)
{
    struct life *life = arg;
    struct workspace *workspace = life->workspace;
    files_abort_all(workspace, HEARTH_ECONFLICT, "workspace_stopped", was_stopped);
    if (!workspace->sandbox || !workspace->sandbox->guest.process.pid) {
        stopped(life, 0, NULL);
        return;
    }
    agentlink_cuts_off(&workspace->sandbox->link, HEARTH_ECONFLICT, "workspace_stopped",
                       was_stopped);
    sandbox_stop(workspace->sandbox, stopped, life);
}

static void run_shutdown(struct steps *steps, void *subject)
{
    struct life *life = subject;
    struct workspace *workspace = life->workspace;
    life->revoked = life->expired && expiry_deadline(workspace) > clock_boot_us();
    if (life->revoked) {
        steps_next(steps);
        return;
    }
    services_end(workspace, shut_down, life);
}

/* The end of stop and start alike: the new state in one commit, then the answer. */
static void settle(struct life *life, struct steps *steps, enum workspace_event event,
                   const char *happened)
{
    struct workspace *workspace = life->workspace;
    struct row_workspace row;
    struct row_guest guest_row;
    struct change *change = change_new();
    workspace->steps = NULL;
    if (life->failure.error)
        workspace_fail(workspace, life->failure.code, life->failure.detail);
    if (!life->revoked)
        workspace_move(workspace, event);
    if (!life->revoked && workspace->sandbox)
        state_key_forget(workspace->sandbox);
    if (!life->expired && !life->resumes)
        workspace_touch(workspace);
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    if (workspace->sandbox) {
        sandbox_row(workspace->sandbox, &guest_row);
        change_put_guest(change, &guest_row);
    }
    memcpy(life->operation_id, steps->operation_id, sizeof life->operation_id);
    steps_finish(steps, change);
    workspace_audit(workspace, change, &life->principal, life->request_id, life->operation,
                    life->failure.error ? life->failure.code
                    : life->revoked     ? "in_use"
                                        : "ok");
    life->happened = happened;
    change_commit(change, life->supervisor->writer, settled, life);
}

static void stop_done(struct steps *steps, void *subject, int error,
                      const struct hearth_failure *failure)
{
    struct life *life = subject;
    (void)error; /* once it has begun it comes to its end */
    if (steps->begun)
        settle(life, steps, WORKSPACE_EVENT_STOPPED, "stopped");
    else
        not_begun(life, failure);
}

static const struct step stop_steps[] = {{.name = "shutdown", .run = run_shutdown}};

static const struct steps_kind stop_kind = {.name = "stop",
                                            .steps = stop_steps,
                                            .count = 1,
                                            .forward_only = true,
                                            .request = life_request,
                                            .done = stop_done};

void workspace_stop(struct workspace *workspace, const struct principal *principal,
                    const char *request_id, workspace_done done, void *arg)
{
    if (busy(workspace, done, arg))
        return;
    if (workspace->state == WORKSPACE_STOPPED) { /* as asked for */
        workspace_complete_later(workspace->supervisor, done, arg, 0, NULL, workspace);
        return;
    }
    begin(life_new(workspace, principal, request_id, "workspace_stop", done, arg), &stop_kind);
}

/* Start. */

static void booted(void *arg, int error, const struct hearth_failure *failure)
{
    struct life *life = arg;
    if (error)
        steps_fail(life->steps, failure);
    else
        steps_next(life->steps);
}

static void run_boot(struct steps *steps, void *subject)
{
    struct life *life = subject;
    struct hearth_failure failure;
    if (life->workspace->sandbox) {
        sandbox_boot(life->workspace->sandbox, false, booted, life);
        return;
    }
    hearth_fail(&failure, HEARTH_ECONFLICT, "disk_missing",
                "the workspace's disk is not there any more");
    steps_fail(steps, &failure);
}

/* A daemon that was killed has noted no process, and yet a guest may run: its disk is for one. */
static void undo_boot(struct steps *steps, void *subject)
{
    struct life *life = subject;
    if (life->workspace->sandbox)
        sandbox_stop(life->workspace->sandbox, stopped, life);
    else
        steps_next(steps);
}

static void start_done(struct steps *steps, void *subject, int error,
                       const struct hearth_failure *failure)
{
    struct life *life = subject;
    if (!steps->begun) {
        not_begun(life, failure);
        return;
    }
    if (error)
        life->failure = *failure;
    settle(life, steps, error ? WORKSPACE_EVENT_BOOT_FAILED : WORKSPACE_EVENT_BOOTED,
           error ? "failed" : "started");
}

static const struct step start_steps[] = {{.name = "boot", .run = run_boot, .undo = undo_boot}};

static const struct steps_kind start_kind = {
    .name = "start", .steps = start_steps, .count = 1, .request = life_request, .done = start_done};

void workspace_start(struct workspace *workspace, const struct principal *principal,
                     const char *request_id, workspace_done done, void *arg)
{
    if (busy(workspace, done, arg))
        return;
    if (workspace->state == WORKSPACE_STARTED) {
        workspace_complete_later(workspace->supervisor, done, arg, 0, NULL, workspace);
        return;
    }
    /* Its resume has just been refused: a boot would be the end of what was saved. */
    if (workspace->state == WORKSPACE_SUSPENDED) {
        struct hearth_failure failure;
        int error = workspace_ready(workspace, &failure);
        workspace_complete_later(workspace->supervisor, done, arg, error, &failure, NULL);
        return;
    }
    begin(life_new(workspace, principal, request_id, "workspace_start", done, arg), &start_kind);
}

static void resume_undone(void *arg, int error, const struct hearth_failure *failure)
{
    struct life *life = arg;
    (void)error;
    (void)failure;
    steps_next(life->steps);
}

static void resumed(void *arg, int error, const struct hearth_failure *failure)
{
    struct life *life = arg;
    struct sandbox *sandbox = life->workspace->sandbox;
    sandbox->resumes = false;
    if (error)
        life->failure = *failure;
    if (error && sandbox->guest.process.pid)
        sandbox_stop(sandbox, resume_undone, life);
    else
        steps_next(life->steps);
}

static bool is_saved(struct sandbox *sandbox)
{
    struct driver *driver = sandbox->guest.driver;
    return driver->operations->saved && driver->operations->saved(driver, &sandbox->guest);
}

/* Forward only: a guest whose process is noted runs on, or begins to, and what is saved is still
 * there for one that has never run. Nothing else takes its place unasked. */
static void run_resume(struct steps *steps, void *subject)
{
    struct life *life = subject;
    struct sandbox *sandbox = life->workspace->sandbox;
    bool noted = sandbox && sandbox->guest.process.pid;
    if (noted || (sandbox && is_saved(sandbox))) {
        sandbox->resumes = true;
        if (noted)
            sandbox_finish_resume(sandbox, resumed, life);
        else
            sandbox_boot(sandbox, false, resumed, life);
        return;
    }
    hearth_fail(&life->failure, HEARTH_EIO, "suspend_lost",
                "what the workspace was suspended to is not there any more");
    /* Whatever is left of it, its disk is for the next. */
    if (sandbox)
        sandbox_stop(sandbox, resume_undone, life);
    else
        steps_next(steps);
}

static void resume_done(struct steps *steps, void *subject, int error,
                        const struct hearth_failure *failure)
{
    struct life *life = subject;
    (void)error; /* life->failure says it */
    if (!steps->begun) {
        not_begun(life, failure);
        return;
    }
    struct sandbox *sandbox = life->workspace->sandbox;
    bool failed = life->failure.error != 0;
    /* It waits as it is, and says so: for its key, or for what the host was short of. */
    life->revoked = failed && sandbox && (state_key_locked(sandbox) || is_saved(sandbox));
    if (failed && !life->revoked)
        workspace_guest_lost(life->workspace);
    settle(life, steps, failed ? WORKSPACE_EVENT_BOOT_FAILED : WORKSPACE_EVENT_BOOTED,
           failed ? "failed" : "started");
}

static const struct step resume_steps[] = {{.name = "resume", .run = run_resume}};

const struct steps_kind resume_kind = {.name = "resume",
                                       .steps = resume_steps,
                                       .count = 1,
                                       .forward_only = true,
                                       .request = life_request,
                                       .done = resume_done};

void workspace_resume(struct workspace *workspace, workspace_done done, void *arg)
{
    struct life *life = life_new(workspace, NULL, NULL, "workspace_start", done, arg);
    life->resumes = true;
    life->reason = "resumed";
    begin(life, &resume_kind);
}

/* Restarts. */

void workspace_resume_operation(struct workspace *workspace, const struct row_operation *row)
{
    log_info("operation_resumed", "workspace=%s kind=%s step=%u", workspace->workspace_id,
             row->kind, row->step);
    if (strcmp(row->kind, create_kind.name) == 0) {
        workspace->steps = workspace_resume_create(workspace, row);
        return;
    }
    if (strcmp(row->kind, suspend_kind.name) == 0) {
        workspace->steps = workspace_resume_suspend(workspace, row);
        return;
    }
    if (strcmp(row->kind, fork_kind.name) == 0) {
        workspace->steps = fork_memory_resume(workspace, row);
        return;
    }
    if (strcmp(row->kind, reset_kind.name) == 0) {
        workspace->steps = workspace_resume_reset(workspace, row);
        return;
    }
    const struct steps_kind *kind = strcmp(row->kind, delete_kind.name) == 0   ? &delete_kind
                                    : strcmp(row->kind, stop_kind.name) == 0   ? &stop_kind
                                    : strcmp(row->kind, resume_kind.name) == 0 ? &resume_kind
                                                                               : &start_kind;
    struct life *life = life_new(workspace, NULL, NULL, row->kind, NULL, NULL);
    life->operation = kind == &delete_kind ? "workspace_delete"
                      : kind == &stop_kind ? "workspace_stop"
                                           : "workspace_start";
    steps_asker_parse(row->request, &life->principal, life->request_id);
    set_reason(life);
    snprintf(life->asker, sizeof life->asker, "%s", row->request);
    if (kind == &delete_kind) {
        workspace->state = WORKSPACE_DELETING;
        workspace_uncount(workspace);
    }
    life->resumes = kind == &resume_kind;
    if (life->resumes)
        life->reason = "resumed";
    life->steps = steps_resume(workspace->supervisor, kind, life, row);
    workspace->steps = life->steps;
}
