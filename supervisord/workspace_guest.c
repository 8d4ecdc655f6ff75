/* What a workspace's guest does by itself: it dies, or is gone after a restart; and what it says
 * that nobody may see. */
#include "base/log.h"
#include "supervisord/secret.h"
#include "supervisord/service.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <string.h>

static void record_state(struct workspace *workspace, const char *happened)
{
    char operation[64];

    struct row_workspace row;
    struct change *change = change_new();
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    snprintf(operation, sizeof operation, "workspace.%s", happened);
    workspace_audit(workspace, change, NULL, NULL, operation,
                    workspace->failure_code ? workspace->failure_code : "ok");
    change_commit(change, workspace->supervisor->writer, NULL, NULL);
    workspace_event(workspace, happened, NULL);
}

void workspace_guest_hide(struct guest *guest, char *text, size_t length)
{
    const struct workspace *workspace = container_of(guest, struct sandbox, guest)->workspace;
    int error = 0;
    struct redact_values *values = workspace ? workspace_redact_values(workspace, &error) : NULL;
    if (error || (values && !redact_mask(values, text, length)))
        memset(text, '*', length);
    redact_values_free(values);
}

void workspace_guest_died(struct guest *guest, const char *detail)
{
    struct sandbox *sandbox = container_of(guest, struct sandbox, guest);
    struct workspace *workspace = sandbox->workspace;
    static const char died[] = "the guest ended by itself";
    log_warning("guest_died", "guest=%s workspace=%s detail=\"%s\"", guest->guest_id,
                workspace ? workspace->workspace_id : "none", detail);
    sandbox->running = false;
    hearth_fail(&sandbox->link.last_failure, HEARTH_EUNAVAILABLE, "guest_died", "%s", detail);
    agentlink_cuts_off(&sandbox->link, HEARTH_ECONFLICT, "guest_died", died);
    agentlink_close(&sandbox->link);
    if (!workspace) {
        if (!list_empty(&sandbox->pool_link))
            sandbox_discard(sandbox, NULL, NULL);
        return;
    }
    exec_abandon_all(workspace, HEARTH_ECONFLICT, "guest_died", died);
    shells_guest_ended(workspace);
    services_guest_ended(workspace, "failed", "guest_died");
    files_abort_all(workspace, HEARTH_ECONFLICT, "guest_died", died);
    if (workspace->steps || !workspace_move(workspace, WORKSPACE_EVENT_GUEST_DIED))
        return;
    workspace_fail(workspace, "guest_died", detail);
    record_state(workspace, "failed");
}

void workspace_guest_gone(struct workspace *workspace, bool host_rebooted)
{
    if (!workspace_move(workspace,
                        host_rebooted ? WORKSPACE_EVENT_HOST_REBOOTED : WORKSPACE_EVENT_GUEST_DIED))
        return;
    if (workspace->state == WORKSPACE_FAILED)
        workspace_fail(workspace, "guest_gone", "the guest ended while the daemon was away");
    record_state(workspace, host_rebooted ? "stopped" : "failed");
}

void workspace_guest_missed(struct workspace *workspace)
{
    const struct sandbox *sandbox = workspace->sandbox;
    if (workspace->state != WORKSPACE_STARTED || workspace->steps || !sandbox || sandbox->running ||
        !workspace->supervisor->recovered || !workspace_move(workspace, WORKSPACE_EVENT_GUEST_DIED))
        return;
    const char *detail = sandbox->link.last_failure.detail;
    workspace_fail(workspace, "guest_died", *detail ? detail : "the guest ended by itself");
    record_state(workspace, "failed");
}
