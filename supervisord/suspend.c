/* Guests on the disk: saved with all that runs in them, and resumed by the next operation that
 * wants them. A guest may be saved while nothing is asked of it, no command runs and nobody is
 * connected to a port of it; shells wait with it, and so do services where it is asked for. An idle
 * one, in which no service runs either, is saved unasked. Expiry counts on meanwhile. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_US US_PER_S
#define IN_USE_US US_PER_S /* for the end of what holds one up that is asked for */
#define AGAIN_US (20 * US_PER_MS)

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
    bool asked; /* by an operation; else it was idle */
    struct principal principal;
    char request_id[68], asker[STEPS_ASKER_SIZE];
    struct hearth_failure failure; /* it runs on */
    workspace_done done;           /* NULL: nobody waits */
    void *arg;
    char workspace_id[ID_SIZE]; /* before it begins */
    struct timer again;
    int64_t until_us;
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
    if (!workspace)
        return;
    workspace->used_us = clock_boot_us(); /* who woke it has not had a turn yet */
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
    auto_free struct suspending *suspending = arg;
    struct workspace *workspace = suspending->workspace;
    if (error)
        log_error("suspend_not_recorded", "detail=\"%s\"", failure->detail);
    else if (!suspending->failure.error)
        workspace_event(workspace, "suspended", suspending->asked ? "requested" : "idle");
    if (!error && suspending->failure.error) {
        error = (int)suspending->failure.error;
        failure = &suspending->failure;
    }
    timer_free(&suspending->again);
    if (suspending->done)
        suspending->done(suspending->arg, error, failure, error ? NULL : workspace);
    bool wanted = false;
    list_for_each(cursor, next, &workspace->wakers)
    {
        wanted = wanted || container_of(cursor, struct waker, link)->resume;
    }
    workspace_guest_missed(workspace);
    if (workspace->steps && workspace->steps->kind == &resume_kind)
        return; /* it tells them */
    if (workspace->state == WORKSPACE_SUSPENDED && wanted && !workspace->steps)
        resume(workspace);
    else /* a delete or reset may have begun: who asks is told so */
        tell_wakers(workspace);
}

void workspace_guest_lost(struct workspace *workspace)
{
    exec_abandon_all(workspace, HEARTH_ECONFLICT, "guest_gone", "the guest could not be resumed");
    shells_guest_ended(workspace);
    services_guest_ended(workspace, "failed", "guest_gone");
}

/* Its end was not recorded before the daemon's own. */
static bool was_saved(const struct workspace *workspace)
{
    const struct sandbox *sandbox = workspace->sandbox;
    struct driver *driver = sandbox ? sandbox->guest.driver : NULL;
    return sandbox && !sandbox->guest.process.pid &&
           driver->operations->saved(driver, &workspace->sandbox->guest);
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
    if (was_saved(workspace))
        error = 0;
    if (error && workspace->sandbox)
        state_key_forget(workspace->sandbox);
    workspace->used_us = clock_boot_us(); /* one that cannot be is tried again, but not at once */
    if (error) {
        suspending->failure = *failure;
        log_warning("suspend_failed", "workspace=%s detail=\"%s\"", workspace->workspace_id,
                    failure->detail);
    } else
        workspace_move(workspace, WORKSPACE_EVENT_SUSPENDED);
    if (error && (!workspace->sandbox || !workspace->sandbox->guest.process.pid) &&
        workspace_move(workspace, WORKSPACE_EVENT_GUEST_DIED)) {
        workspace_fail(workspace, "guest_gone", failure->detail);
        workspace_guest_lost(workspace);
    }
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    if (workspace->sandbox) {
        sandbox_row(workspace->sandbox, &guest_row);
        change_put_guest(change, &guest_row);
    }
    steps_finish(steps, change);
    workspace_audit(workspace, change, suspending->asked ? &suspending->principal : NULL,
                    suspending->asked ? suspending->request_id : NULL,
                    suspending->asked ? "workspace_suspend" : "workspace.suspended",
                    error ? failure->code : "ok");
    change_commit(change, workspace->supervisor->writer, settled, suspending);
}

static const struct step suspend_steps[] = {{.name = "save", .run = run_save, .undo = undo_save}};

static const char *suspend_request(const void *subject)
{
    return ((const struct suspending *)subject)->asker;
}

const struct steps_kind suspend_kind = {.name = "suspend",
                                        .steps = suspend_steps,
                                        .count = 1,
                                        .request = suspend_request,
                                        .done = suspend_done};

static struct suspending *suspending_new(struct workspace *workspace)
{
    struct suspending *suspending = calloc(1, sizeof *suspending);
    if (!suspending)
        abort();
    suspending->supervisor = workspace->supervisor;
    suspending->workspace = workspace;
    timer_init(&suspending->again, workspace->supervisor->loop, NULL, suspending);
    return suspending;
}

static void suspend(struct suspending *suspending)
{
    struct workspace *workspace = suspending->workspace;
    struct row_workspace row;
    struct row_guest guest_row;
    struct change *change = change_new();
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    /* Known for good before anything is sealed with it. */
    state_key_make(workspace->sandbox);
    sandbox_row(workspace->sandbox, &guest_row);
    change_put_guest(change, &guest_row);
    steps_begin(workspace->supervisor, &suspend_kind, suspending, workspace->tenant->tenant_id,
                workspace->workspace_id, change, &suspending->steps);
    workspace->steps = suspending->steps;
}

struct steps *workspace_resume_suspend(struct workspace *workspace, const struct row_operation *row)
{
    struct suspending *suspending = suspending_new(workspace);
    suspending->asked = *row->request != '\0';
    if (suspending->asked) {
        snprintf(suspending->asker, sizeof suspending->asker, "%s", row->request);
        steps_asker_parse(row->request, &suspending->principal, suspending->request_id);
        suspending->principal.tenant = workspace->tenant;
    }
    suspending->steps = steps_resume(workspace->supervisor, &suspend_kind, suspending, row);
    return suspending->steps;
}

/* Whether it may be. */

/* What is going on in or with the guest that would be cut short; NULL: nothing. */
static const char *in_use(const struct workspace *workspace)
{
    const struct sandbox *sandbox = workspace->sandbox;
    if (exec_any_runs(workspace))
        return "a command runs in it";
    if (workspace->port_connections)
        return "somebody is connected to a port of it";
    if (!list_empty(&workspace->transfers) || !list_empty(&workspace->tree_works))
        return "its files are being read or written";
    /* Where there are services, one call waits for news of them. */
    return link_calls(sandbox->link.link) > (workspace->services ? 1u : 0u)
               ? "something is being asked of it"
               : NULL;
}

/* Where it can never be, whatever goes on in it. */
static int check_kind(struct workspace *workspace, struct hearth_failure *failure)
{
    struct driver *driver = workspace->sandbox->guest.driver;
    const char *why = NULL;
    if (workspace->one_shot)
        why = "it is a machine for one command";
    else if (!driver->operations->may_suspend)
        why = "it is a container";
    else if (!driver->operations->may_suspend(driver, &workspace->sandbox->guest))
        why = "its machine is not reached by virtio-serial";
    if (!why)
        return 0;
    int error = hearth_fail(failure, HEARTH_EUNSUPPORTED, "suspend_unsupported",
                            "the workspace cannot be saved to the disk: %s", why);
    hearth_failure_hint(failure, "Stop it with workspace_stop: its files stay.");
    return error;
}

static int check(struct workspace *workspace, struct hearth_failure *failure)
{
    int error = workspace_busy(workspace, failure);
    if (!error)
        error = workspace_ready(workspace, failure);
    if (!error)
        error = check_kind(workspace, failure);
    if (!error && workspace->sandbox->link.state != AGENTLINK_UP)
        error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                            "the guest's agent does not answer");
    const char *use = error ? NULL : in_use(workspace);
    if (!use)
        return error;
    error = hearth_fail(failure, HEARTH_ECONFLICT, "workspace_in_use",
                        "the workspace cannot be suspended now: %s", use);
    failure->retryable = true;
    hearth_failure_hint(failure, "Wait for it to end, then try again.");
    return error;
}

/* Asked for: what ends within a moment, as the last words about a command do, is waited for. */

static void over(struct suspending *suspending, int error, const struct hearth_failure *failure,
                 struct workspace *workspace)
{
    timer_free(&suspending->again);
    suspending->done(suspending->arg, error, failure, workspace);
    free(suspending);
}

static void try_suspend(void *arg)
{
    struct suspending *suspending = arg;
    struct hearth_failure failure;
    struct workspace *workspace =
        supervisor_workspace(suspending->supervisor, suspending->workspace_id);
    int error = workspace ? 0
                          : hearth_fail(&failure, HEARTH_ENOTFOUND, "workspace_not_found",
                                        "there is no such workspace");
    if (!error && workspace->state == WORKSPACE_SUSPENDED && !workspace->steps) {
        over(suspending, 0, NULL, workspace);
        return;
    }
    if (!error)
        error = check(workspace, &failure);
    if (!error) {
        suspending->workspace = workspace;
        suspend(suspending);
    } else if (strcmp(failure.code, "workspace_in_use") == 0 &&
               clock_monotonic_us() < suspending->until_us) {
        timer_set(&suspending->again, clock_monotonic_us() + AGAIN_US);
    } else {
        over(suspending, error, &failure, NULL);
    }
}

void workspace_suspend(struct workspace *workspace, const struct principal *principal,
                       const char *request_id, workspace_done done, void *arg)
{
    struct suspending *suspending = suspending_new(workspace);
    suspending->asked = true;
    suspending->principal = *principal;
    snprintf(suspending->request_id, sizeof suspending->request_id, "%s", request_id);
    steps_asker_format(suspending->asker, principal, request_id);
    suspending->done = done;
    suspending->arg = arg;
    suspending->until_us = clock_monotonic_us() + IN_USE_US;
    memcpy(suspending->workspace_id, workspace->workspace_id, sizeof suspending->workspace_id);
    suspending->again.fn = try_suspend;
    timer_set(&suspending->again, clock_monotonic_us());
}

/* Idleness. */

static bool is_idle(struct workspace *workspace)
{
    struct hearth_failure failure;
    const struct sandbox *sandbox = workspace->sandbox;
    uint32_t services, running_services;
    if (workspace->state != WORKSPACE_STARTED || workspace->steps ||
        !list_empty(&workspace->disk_jobs) || !sandbox || !sandbox->running ||
        sandbox->link.state != AGENTLINK_UP || check_kind(workspace, &failure) || in_use(workspace))
        return false;
    services_count(workspace, &services, &running_services);
    return !running_services;
}

static void look(struct workspace *workspace, int64_t now)
{
    int64_t idle_us = workspace->supervisor->config->idle_suspend_seconds * US_PER_S;
    int64_t since = workspace->idle_since_us > workspace->used_us ? workspace->idle_since_us
                                                                  : workspace->used_us;
    if (now - since >= idle_us && is_idle(workspace))
        suspend(suspending_new(workspace));
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
