#include "api/problem.h"

#include <string.h>

/* What to do next, for the problems whose makers had nothing better to say: by code, else by kind.
 * A failure with a hint of its own knows more than this table. */
static const struct {
    const char *code, *hint;
} hints[] = {
    {"unknown_secret", "workspace_status lists the workspace's secrets by name."},
    {"path_outside_workspace", "Use a path under /workspace; relative ones begin there."},
    {"bad_path", "Use a path under /workspace, such as \"src/main.py\"."},
    {"wrong_file_type", "workspace_file_list tells what is at each path."},
    {"file_not_found", "workspace_file_list tells which paths there are."},
    {"workspace_not_found", "workspace_list tells which workspaces there are."},
    {"exec_not_found", "workspace_logs tells which commands ran; a reset clears them."},
    {"upload_not_found", "Send the archive to POST /v1/uploads again."},
    {"tenant_not_found", "GET /v1/tenants lists them."},
    {"token_not_found", "GET /v1/tenants/{tenant_id}/tokens lists them."},
    {"host_path_forbidden", "Send a tar to POST /v1/uploads and name its upload_id instead."},
    {"method_not_allowed", "The Allow header names the methods of this resource."},
    {"malformed_json", "Send one JSON object in UTF-8, each key once."},
    {"body_too_large", "Send less at a time, or files as raw bodies."},
    {"request_timeout", "Send the request again, without pauses."},
    {"range_not_satisfiable", "Content-Range tells the size; ask for a range within it."},
    {"workspace_busy", "Wait for what is under way to end, then ask again."},
    {"workspace_failed", "Start it again with workspace_start, or delete it."},
    {"exec_ended", "Read its result, or start another command."},
    {"quota_workspaces", "Delete workspaces that are not needed, or have the quota raised."},
    {"quota_memory",
     "Delete workspaces (a stopped one keeps its memory), ask for less, or have the quota raised."},
    {"quota_execs", "Wait for commands to end, or cancel some."},
    {"guest_full", "Delete files in the workspace, or create one with a larger disk_mib."},
    {"interrupted", "What was half done is undone: ask again."},
    {"storage_stopped", "An operator must look at the log and restart hearthd."},
    {"agent_too_old", "Stop the workspace with workspace_stop and start it again."},
    {"conflicting_arguments", "Give one of the two and leave out the other (null is left out)."},
    {"bad_cwd", "Make the directory first, or leave cwd out: then it is /workspace."},
    {"bad_secret", "A secret is {name, value}: a name of letters, digits and _ that begins with no "
                   "digit, and 1 to 65536 bytes of text."},
    {"bad_term", "Name it as terminfo does, such as \"xterm-256color\"."},
    {"bad_label", "Change that label; clear_labels takes away those that are there."},
    {"bad_name", "Choose a shorter name without control characters and outer blanks."},
    {"bad_mode", "Give the mode as octal digits, such as \"0644\"."},
    {"bad_variable", "Name variables as a shell does, such as \"PATH\"."},
    {"bad_ports", "Give each port once, from 1 to 65535; leave host_port out to have one chosen."},
    {"bad_pattern", "Escape what is meant literally, or search without regular expressions."},
    {"bad_snapshot_name", "Choose a name such as \"before-upgrade\"."},
    {"snapshot_protected", "Delete the workspace to delete its baseline; reset goes back to it."},
    {"snapshot_not_found", "snapshot_list tells which there are."},
    {"shell_ended", "Open another one with shell_open; what this one wrote can still be read."},
    {"environment_not_pulled", "Pull it first: `hearth env pull NAME`."},
    {"vm_not_found", "A VM that was deleted or met its ttl does not come back: create another."},
    {"tenant_exists", "Choose another name, or use the tenant that is there."},
    {"guest_died", "Start it again with workspace_start; its files are kept."},
};

static const char *const kinds[HEARTH_ERROR_MAX] = {
    [-HEARTH_EINVALID] = "Change the argument and ask again.",
    [-HEARTH_EMALFORMED] = "Mend the request's form and send it again.",
    [-HEARTH_EUNAUTHENTICATED] = "Send a token that is valid.",
    [-HEARTH_EFORBIDDEN] = "Use a token with more rights, or ask an operator.",
    [-HEARTH_ENOTFOUND] = "List what there is, then use one of those IDs or names.",
    [-HEARTH_ECONFLICT] = "Look at the state of what it is about, then decide.",
    [-HEARTH_ETOOLARGE] = "Send less, or have the limit raised.",
    [-HEARTH_EMEDIATYPE] = "Send the media type that the detail names.",
    [-HEARTH_EQUOTA] = "Use less at one time, or have the quota raised.",
    [-HEARTH_EUNSUPPORTED] = "`hearth doctor` tells what this host can do and what to install.",
    [-HEARTH_EUNAVAILABLE] = "Ask again in a moment.",
    [-HEARTH_ETIMEDOUT] = "Ask again, or for less at a time.",
    [-HEARTH_ENOSPACE] = "Free some room, then ask again; nothing is half done.",
    [-HEARTH_ECANCELLED] = "Ask again if it is still wanted.",
    [-HEARTH_ENOMEMORY] = "Ask again in a moment.",
    [-HEARTH_EIO] = "The daemon's log has more under the request's ID.",
    [-HEARTH_EINTERNAL] = "Please report it with what the daemon's log has under the request's ID.",
};

const char *problem_hint_of_code(const char *code)
{
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (!strcmp(code, hints[i].code))
            return hints[i].hint;
    return NULL;
}

const char *problem_hint(const struct hearth_failure *failure)
{
    int index = -(int)failure->error;
    const char *hint = failure->hint[0] ? failure->hint : problem_hint_of_code(failure->code);
    return hint ? hint : kinds[index > 0 && index < HEARTH_ERROR_MAX ? index : -HEARTH_EINTERNAL];
}
