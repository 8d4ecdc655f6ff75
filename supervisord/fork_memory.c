/* The running half of a fork: the origin's guest is copied as it is at one moment, then goes on.
 * Journalled, for a daemon that is killed in between would leave it paused. */
#include "supervisord/fork_memory.h"
#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <stdlib.h>

struct copying {
    struct supervisor *supervisor;
    struct workspace *workspace;
    struct steps *steps;
    unsigned count;
    struct guest_copy *copy;
    struct services_noted *services;
    fork_memory_done done; /* NULL when resumed after a restart */
    void *arg;
};

static void step_ended(void *arg, int error, const struct hearth_failure *failure)
{
    struct copying *copying = arg;
    if (error)
        steps_fail(copying->steps, failure);
    else
        steps_next(copying->steps);
}

static void run_copy(struct steps *steps, void *subject)
{
    struct copying *copying = subject;
    struct sandbox *sandbox = copying->workspace->sandbox;
    struct hearth_failure failure;
    if (sandbox && sandbox->running) {
        sandbox_copy(sandbox, copying->count, &copying->copy, step_ended, copying);
        return;
    }
    hearth_fail(&failure, HEARTH_ECONFLICT, "guest_died", "the guest has ended meanwhile");
    steps_fail(steps, &failure);
}

static void carried_on(void *arg, int error, const struct hearth_failure *failure)
{
    struct copying *copying = arg;
    if (error)
        log_warning("guest_not_carried_on", "workspace=%s detail=\"%s\"",
                    copying->workspace->workspace_id, failure->detail);
    steps_next(copying->steps);
}

static void undo_copy(struct steps *steps, void *subject)
{
    struct copying *copying = subject;
    struct sandbox *sandbox = copying->workspace->sandbox;
    if (sandbox && sandbox->running)
        sandbox_carry_on(sandbox, carried_on, copying);
    else
        steps_next(steps);
}

static void run_carry_on(struct steps *steps, void *subject)
{
    struct copying *copying = subject;
    (void)steps;
    copying->services = services_note(copying->workspace);
    sandbox_carry_on(copying->workspace->sandbox, step_ended, copying);
}

/* The copies need not wait for the end of the journal's row. */
static void copy_done(struct steps *steps, void *subject, int error,
                      const struct hearth_failure *failure)
{
    struct copying *copying = subject;
    struct workspace *workspace = copying->workspace;
    struct hearth_failure died;
    struct change *change = change_new();
    workspace->steps = NULL;
    steps_finish(steps, change);
    change_commit(change, copying->supervisor->writer, NULL, NULL);
    if (!workspace->sandbox || !workspace->sandbox->guest.process.pid) {
        workspace_guest_gone(workspace, false);
        error = hearth_fail(&died, HEARTH_ECONFLICT, "guest_died",
                            "the guest ended by itself while it was copied");
        failure = &died;
    }
    if (error) {
        if (copying->copy)
            fork_memory_free(copying->supervisor, steal_pointer(copying->copy));
        services_noted_free(steal_pointer(copying->services));
    }
    if (copying->done)
        copying->done(copying->arg, error, failure, copying->copy, copying->services);
    free(copying);
}

static const struct step copy_steps[] = {
    {.name = "copy", .run = run_copy, .undo = undo_copy},
    {.name = "carry-on", .run = run_carry_on},
};

const struct steps_kind fork_kind = {.name = "fork",
                                     .steps = copy_steps,
                                     .count = sizeof copy_steps / sizeof *copy_steps,
                                     .done = copy_done};

static struct copying *copying_new(struct workspace *workspace)
{
    struct copying *copying = calloc(1, sizeof *copying);
    if (!copying)
        abort();
    copying->supervisor = workspace->supervisor;
    copying->workspace = workspace;
    return copying;
}

static int unsupported(struct hearth_failure *failure, const char *why)
{
    int error = hearth_fail(failure, HEARTH_EUNSUPPORTED, "fork_memory_unsupported",
                            "%s cannot be copied with its memory", why);
    hearth_failure_field(failure, "/memory");
    hearth_failure_hint(failure, "Leave memory out: the copies then begin with the files alone.");
    return error;
}

int fork_memory_check(struct workspace *workspace, bool of_snapshot, struct hearth_failure *failure)
{
    const struct sandbox *sandbox = workspace->sandbox;
    struct driver *driver = sandbox ? sandbox->guest.driver : NULL;
    if (driver && !driver->operations->copy)
        return unsupported(failure, "a container");
    if (of_snapshot) {
        int error = hearth_fail(failure, HEARTH_EINVALID, "fork_memory_of_snapshot",
                                "a snapshot is of files, and has no memory");
        hearth_failure_field(failure, "/memory");
        hearth_failure_hint(failure, "Give either memory or snapshot.");
        return error;
    }
    int error = workspace_ready(workspace, failure);
    if (!error)
        error = workspace_busy(workspace, failure);
    if (!error && !driver->operations->may_suspend(driver, &workspace->sandbox->guest))
        return unsupported(failure, "a machine that is reached by vsock");
    if (error && workspace->state == WORKSPACE_STOPPED && !workspace->steps) {
        hearth_failure_field(failure, "/memory");
        hearth_failure_hint(failure, "A stopped workspace has no memory: start it first, or fork "
                                     "the files of a snapshot.");
    }
    return error;
}

void fork_memory(struct workspace *workspace, unsigned count, fork_memory_done done, void *arg)
{
    struct copying *copying = copying_new(workspace);
    copying->count = count;
    copying->done = done;
    copying->arg = arg;
    steps_begin(workspace->supervisor, &fork_kind, copying, workspace->tenant->tenant_id,
                workspace->workspace_id, change_new(), &copying->steps);
    workspace->steps = copying->steps;
}

struct steps *fork_memory_resume(struct workspace *workspace, const struct row_operation *row)
{
    struct copying *copying = copying_new(workspace);
    copying->steps = steps_resume(workspace->supervisor, &fork_kind, copying, row);
    return copying->steps;
}

void fork_memory_free(struct supervisor *supervisor, struct guest_copy *copy)
{
    struct driver *driver = supervisor->drivers[DRIVER_QEMU].driver;
    driver->operations->copy_free(copy);
}
