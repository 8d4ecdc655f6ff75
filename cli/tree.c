/* hearth workspace diff|changes|reset|fork|snapshot …, hearth store verify: what has become of a
 * workspace's files. */

#include "cli/plain.h"

static const struct plain diff = {
    .line = "workspace diff WORKSPACE_ID [OPTIONS]",
    .summary = "Prints what has changed since the workspace was made, as git does.",
    .tool = "workspace_diff",
    .words = {"workspace_id"},
    .options = {{"path", OPTION_LIST, "paths", "PATH", "only below this; may be given again"},
                {"context", OPTION_INTEGER, "context", "N", "unchanged lines around changes (3)"},
                {"binary", OPTION_FLAG, "binary", NULL, "files that are no text too"},
                {"max-patch-bytes", OPTION_INTEGER, "max_patch_bytes", "N",
                 "leave out what does not fit (262144)"}},
    .text = "patch",
    .told = (const char *const[]){"changed", "truncated", "patches_omitted", NULL},
};
PLAIN_COMMAND(diff)

static const struct plain changes = {
    .line = "workspace changes WORKSPACE_ID [OPTIONS]",
    .summary = "Lists the files that have changed since the workspace was made.",
    .tool = "workspace_diff",
    .words = {"workspace_id"},
    .options = {{"path", OPTION_LIST, "paths", "PATH", "only below this; may be given again"},
                {"stat-only", OPTION_FLAG, "stat_only", NULL, "do not work out the patch"},
                {"max-entries", OPTION_INTEGER, "max_entries", "N", "at most so many (1000)"}},
    .list = "entries",
    .columns =
        (const struct column[]){
            {"STATUS", "status"}, {"TYPE", "artifact_type"}, {"PATH", "path"}, {NULL, NULL}},
    .told = (const char *const[]){"changed", "summary", "entries_omitted", NULL},
};
PLAIN_COMMAND(changes)

static const struct plain reset = {
    .line = "workspace reset WORKSPACE_ID [OPTIONS]",
    .summary = "Starts a workspace over with the files of a snapshot; what runs in it ends.",
    .tool = "workspace_reset",
    .words = {"workspace_id"},
    .options = {{"snapshot", OPTION_TEXT, "snapshot", "NAME", "snapshot to go back to (baseline)"}},
    .told = (const char *const[]){"workspace_id", "workspace_reset", NULL},
};
PLAIN_COMMAND(reset)

static const struct plain fork_ = {
    .line = "workspace fork WORKSPACE_ID [OPTIONS]",
    .summary = "Makes copies of a workspace's files, or of its running machine, as new workspaces.",
    .tool = "workspace_fork",
    .words = {"workspace_id"},
    .options = {{"count", OPTION_INTEGER, "count", "N", "how many (1)"},
                {"name", OPTION_LIST, "names", "NAME", "of a copy; once for each, or not at all"},
                {"label", OPTION_LIST, "labels", "KEY=VALUE",
                 "a label of the copies; may be given again", .add = cli_add_pairs},
                {"snapshot", OPTION_TEXT, "snapshot", "NAME",
                 "with the files of this snapshot, not those of now"},
                {"memory", OPTION_FLAG, "memory", NULL,
                 "the whole running machine, with its processes"}},
    .list = "workspaces",
    .columns =
        (const struct column[]){
            {"WORKSPACE_ID", "workspace_id"}, {"NAME", "name"}, {"STATE", "state"}, {NULL, NULL}},
    .id = "workspace_id",
    .told = (const char *const[]){"workspace_id", "count", NULL},
};
PLAIN_COMMAND(fork_)

static const struct plain summary = {
    .line = "workspace summary WORKSPACE_ID [OPTIONS]",
    .summary = "Tells what was done in a workspace: commands, changes, services, exports, denials.",
    .tool = "workspace_summary",
    .words = {"workspace_id"},
    .options = {{"commands", OPTION_INTEGER, "commands", "N", "list at most so many (20)"},
                {"changes", OPTION_INTEGER, "changes", "N", "list at most so many (20)"},
                {"exports", OPTION_INTEGER, "exports", "N", "list at most so many (20)"},
                {"denials", OPTION_INTEGER, "denials", "N", "list at most so many (20)"}},
    .fields = true,
    .told = (const char *const[]){"workspace_id", "name", "state", NULL},
};
PLAIN_COMMAND(summary)

static const struct plain snapshot_create = {
    .line = "workspace snapshot create WORKSPACE_ID NAME",
    .summary = "Keeps the workspace's files as they are now.",
    .tool = "snapshot_create",
    .words = {"workspace_id", "snapshot_name"},
    .told = (const char *const[]){"snapshot", NULL},
};
PLAIN_COMMAND(snapshot_create)

static const struct plain snapshot_list = {
    .line = "workspace snapshot list WORKSPACE_ID [OPTIONS]",
    .summary = "Lists its snapshots, the baseline first.",
    .options = {{"limit", OPTION_INTEGER, "limit", "N", "at most so many (100)"},
                {"cursor", OPTION_TEXT, "cursor", "CURSOR", "go on from a page's next_cursor"}},
    .tool = "snapshot_list",
    .words = {"workspace_id"},
    .list = "snapshots",
    .columns = (const struct column[]){{"NAME", "snapshot_name"},
                                       {"KIND", "kind"},
                                       {"ENTRIES", "entry_count"},
                                       {"BYTES", "bytes_written"},
                                       {"CREATED", "created_at"},
                                       {NULL, NULL}},
    .told = (const char *const[]){"count", "next_cursor", NULL},
};
PLAIN_COMMAND(snapshot_list)

static const struct plain snapshot_delete = {
    .line = "workspace snapshot delete WORKSPACE_ID NAME",
    .summary = "Deletes a snapshot; the workspace's files stay as they are.",
    .tool = "snapshot_delete",
    .words = {"workspace_id", "snapshot_name"},
    .told = (const char *const[]){"workspace_id", "snapshot_name", "deleted", NULL},
};
PLAIN_COMMAND(snapshot_delete)

static const struct plain store_verify = {
    .line = "store verify [OPTIONS]",
    .summary = "Reads a tenant's whole content store and tells whether it is whole; fails if not.",
    .path = "/v1/store/verify",
    .good = "whole",
    .options = {{"tenant", OPTION_TEXT, "tenant", "NAME", "of this tenant (one's own)"}},
};
PLAIN_COMMAND(store_verify)

const struct command tree_commands[] = {
    {"workspace", "diff", "print what has changed in it", run_diff},
    {"workspace", "changes", "list what has changed in it", run_changes},
    {"workspace", "reset", "start it over with the files of a snapshot", run_reset},
    {"workspace", "fork", "make copies of it", run_fork_},
    {"workspace", "summary", "tell what was done in it", run_summary},
    {"workspace snapshot", "create", "keep its files as they are now", run_snapshot_create},
    {"workspace snapshot", "list", "list its snapshots", run_snapshot_list},
    {"workspace snapshot", "delete", "delete a snapshot", run_snapshot_delete},
    {"store", "verify", "check that the content store is whole", run_store_verify},
    {0},
};
