/* A workspace that is no more: its rows, its history, its place in memory. */
#include "base/log.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"

#include <stdlib.h>

struct forgetting {
    writer_done done;
    void *arg;
};

static void rows_forgotten(void *arg, int error, const struct hearth_failure *failure)
{
    struct forgetting *forgetting = arg;
    if (error)
        log_error("rows_not_removed", "detail=\"%s\"", failure->detail);
    if (forgetting->done)
        forgetting->done(forgetting->arg, error, failure);
    free(forgetting);
}

void workspace_forget(struct workspace *workspace, struct steps *steps,
                      const struct principal *principal, const char *request_id,
                      const char *operation, const char *outcome, writer_done done, void *arg)
{
    struct supervisor *supervisor = workspace->supervisor;
    struct forgetting *forgetting = malloc(sizeof *forgetting);
    if (!forgetting)
        abort();
    *forgetting = (struct forgetting){done, arg};
    struct change *change = change_new(), *history = change_new();
    workspace_audit(workspace, change, principal, request_id, operation, outcome);
    if (steps)
        steps_finish(steps, change);
    change_delete_guests_of(change, workspace->workspace_id);
    change_delete_workspace(change, workspace->workspace_id);
    change_clear_execs(history, workspace->workspace_id);
    change_clear_exports(history, workspace->workspace_id);
    change_clear_service_logs(history, workspace->workspace_id);
    change_commit(history, supervisor->history, NULL, NULL);
    if (workspace->sandbox) /* its rows could not even be begun: nothing of it exists */
        sandbox_destroy(workspace->sandbox, NULL, NULL);
    snapshots_release(workspace);
    workspace_free(workspace);
    change_commit(change, supervisor->writer, rows_forgotten, forgetting);
}
