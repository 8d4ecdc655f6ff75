/* Idle guests on the disk: saved with all that runs in them, and resumed by the next operation that
 * wants them. A guest is idle while nothing is asked of it, no command or service runs and nobody
 * is connected to a port of it; shells wait with it. Expiry counts on meanwhile. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_US US_PER_S

struct waker {
    struct list link; // workspace::wakers
    bool resume;      /* else it only waits for what is under way */
    void (*done)(void *arg);
    void *arg;
};

struct suspending {
    struct supervisor *supervisor;
    struct workspace *workspace;
    struct steps *steps;
    bool failed; /* it runs on */
};

/* Waking. */

static void tell_wakers(struct workspace *workspace)
{
    while (!list_empty(&workspace->wakers)) {
        struct waker *waker = container_of(workspace->wakers.next, struct waker, link);
        list_remove(&waker->link);
        loop_defer(workspace->supervisor->loop, waker->done, waker->arg);
        free(waker);
    }
}

struct resuming {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE];
};

static void resumed(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *resumed_workspace)
{
    auto_free struct resuming *resuming = arg;
    (void)resumed_workspace;
    struct workspace *workspace =
        supervisor_workspace(resuming->supervisor, resuming->workspace_id);
    if (error)
        log_warning("resume_failed", "workspace=%s detail=\"%s\"", resuming->workspace_id,
                    failure->detail);
    if (workspace)
        tell_wakers(workspace);
}

static void resume(struct workspace *workspace)
{
    struct resuming *resuming = malloc(sizeof *resuming);
    if (!resuming)
        abort();
    resuming->supervisor = workspace->supervisor;
    memcpy(resuming->workspace_id, workspace->workspace_id, sizeof resuming->workspace_id);
    workspace->used_us = clock_boot_us();
    workspace_resume(workspace, resumed, resuming);
}

bool workspace_wake(struct workspace *workspace, bool wanted, void (*done)(void *arg), void *arg)
{
    bool suspending = workspace->steps && workspace->steps->kind == &suspend_kind;
    if (workspace->state != WORKSPACE_SUSPENDED && !suspending)
        return false;
    bool under_way = workspace->steps && !list_empty(&workspace->wakers);
    if (!under_way && !suspending && (workspace->steps || !wanted))
        return false; /* a delete or reset of it is under way: who asks is told so */
    struct waker *waker = malloc(sizeof *waker);
    if (!waker)
        abort();
    *waker = (struct waker){.resume = wanted, .done = done, .arg = arg};
    list_append(&workspace->wakers, &waker->link);
    if (!workspace->steps)
        resume(workspace);
    return true;
}

/* Suspending. */

static void saved(void *arg, int error, const struct hearth_failure *failure)
{
    struct suspending *suspending = arg;
    if (error)
        steps_fail(suspending->steps, failure);
    else
        steps_next(suspending->steps);
}

static void run_save(struct steps *steps, void *subject)
{
    struct suspending *suspending = subject;
    (void)steps;
    sandbox_suspend(suspending->workspace->sandbox, saved, suspending);
}

static void carried_on(void *arg, int error, const struct hearth_failure *failure)
{
    struct suspending *suspending = arg;
    if (error)
        log_warning("guest_not_carried_on", "workspace=%s detail=\"%s\"",
                    suspending->workspace->workspace_id, failure->detail);
    steps_next(suspending->steps);
}

static void undo_save(struct steps *steps, void *subject)
{
    struct suspending *suspending = subject;
    if (suspending->workspace->sandbox)
        sandbox_carry_on(suspending->workspace->sandbox, carried_on, suspending);
    else
        steps_next(steps);
}

static void settled(void *arg, int error, const struct hearth_failure *failure)
{
    struct suspending *suspending = arg;
    struct workspace *workspace = suspending->workspace;
    if (error)
        log_error("suspend_not_recorded", "detail=\"%s\"", failure->detail);
    else if (!suspending->failed)
        workspace_event(workspace, "suspended", "idle");
    free(suspending);
    bool wanted = false;
    list_for_each(cursor, next, &workspace->wakers)
    {
        wanted = wanted || container_of(cursor, struct waker, link)->resume;
    }
    if (workspace->steps) /* a resume already, which tells them */
        return;
    if (workspace->state == WORKSPACE_SUSPENDED && wanted)
        resume(workspace);
    else
        tell_wakers(workspace);
}

static void suspend_done(struct steps *steps, void *subject, int error,
                         const struct hearth_failure *failure)
{
    struct suspending *suspending = subject;
    struct workspace *workspace = suspending->workspace;
    struct row_workspace row;
    struct row_guest guest_row;
    struct change *change = change_new();
    workspace->steps = NULL;
    workspace->used_us = clock_boot_us(); /* one that cannot be is tried again, but not at once */
    suspending->failed = error != 0;
    if (error)
        log_warning("suspend_failed", "workspace=%s detail=\"%s\"", workspace->workspace_id,
                    failure->detail);
    else
        workspace_move(workspace, WORKSPACE_EVENT_SUSPENDED);
    if (error && (!workspace->sandbox || !workspace->sandbox->guest.process.pid) &&
        workspace_move(workspace, WORKSPACE_EVENT_GUEST_DIED))
        workspace_fail(workspace, "guest_gone", failure->detail);
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    if (workspace->sandbox) {
        sandbox_row(workspace->sandbox, &guest_row);
        change_put_guest(change, &guest_row);
    }
    steps_finish(steps, change);
    workspace_audit(workspace, change, NULL, NULL, "workspace.suspended",
                    error ? failure->code : "ok");
    change_commit(change, workspace->supervisor->writer, settled, suspending);
}

static const struct step suspend_steps[] = {{.name = "save", .run = run_save, .undo = undo_save}};

const struct steps_kind suspend_kind = {
    .name = "suspend", .steps = suspend_steps, .count = 1, .done = suspend_done};

static void suspend(struct workspace *workspace)
{
    struct suspending *suspending = calloc(1, sizeof *suspending);
    if (!suspending)
        return;
    suspending->supervisor = workspace->supervisor;
    suspending->workspace = workspace;
    struct row_workspace row;
    struct change *change = change_new();
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    steps_begin(workspace->supervisor, &suspend_kind, suspending, workspace->tenant->tenant_id,
                workspace->workspace_id, change, &suspending->steps);
    workspace->steps = suspending->steps;
}

struct steps *workspace_resume_suspend(struct workspace *workspace, const struct row_operation *row)
{
    struct suspending *suspending = calloc(1, sizeof *suspending);
    if (!suspending)
        abort();
    suspending->supervisor = workspace->supervisor;
    suspending->workspace = workspace;
    suspending->steps = steps_resume(workspace->supervisor, &suspend_kind, suspending, row);
    return suspending->steps;
}

/* Idleness. */

static bool is_idle(const struct workspace *workspace)
{
    const struct sandbox *sandbox = workspace->sandbox;
    uint32_t services, running_services;
    if (workspace->secret_count) /* they are in its memory, and are never on a disk in clear */
        return false;
    if (workspace->state != WORKSPACE_STARTED || workspace->steps || !sandbox ||
        !sandbox->running || sandbox->link.state != AGENTLINK_UP || workspace->one_shot ||
        workspace->port_connections || !list_empty(&workspace->transfers) ||
        !list_empty(&workspace->disk_jobs) || !list_empty(&workspace->tree_works) ||
        exec_any_runs(workspace))
        return false;
    services_count(workspace, &services, &running_services);
    /* Where there are services, one call waits for news of them. */
    return !running_services && link_calls(sandbox->link.link) <= (workspace->services ? 1u : 0u);
}

static void look(struct workspace *workspace, int64_t now)
{
    int64_t idle_us = workspace->supervisor->config->idle_suspend_seconds * US_PER_S;
    struct driver *driver = workspace->sandbox ? workspace->sandbox->guest.driver : NULL;
    int64_t since = workspace->idle_since_us > workspace->used_us ? workspace->idle_since_us
                                                                  : workspace->used_us;
    if (now - since >= idle_us && is_idle(workspace) && driver->operations->may_suspend &&
        driver->operations->may_suspend(driver, &workspace->sandbox->guest))
        suspend(workspace);
}

static void on_look(void *arg)
{
    struct supervisor *supervisor = arg;
    int64_t now = clock_boot_us();
    if (supervisor->draining)
        return;
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i]; entry;
             entry = entry->next)
            look(container_of(entry, struct workspace, entry), now);
    timer_set(&supervisor->idle_look, clock_monotonic_us() + LOOK_US);
}

void suspend_start(struct supervisor *supervisor)
{
    if (!supervisor->config->idle_suspend_seconds)
        return;
    timer_init(&supervisor->idle_look, supervisor->loop, on_look, supervisor);
    timer_set(&supervisor->idle_look, clock_monotonic_us() + LOOK_US);
}
