#include "api/operations/families.h"
#include "api/operations/views.h"
#include "supervisord/snapshot.h"

#include <stdlib.h>

struct fork_input {
    const char *workspace_id, *snapshot;
    int64_t count;
    bool memory;
    struct string_list names;
    struct pair_list labels;
};

static const struct field fork_input[] = {
    WORKSPACE_ID_FIELD(fork_input),
    {.name = "count",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = WORKSPACE_FORKS_MAX,
     .default_json = "1",
     .description = "How many copies to make.",
     .offset = offsetof(struct fork_input, count)},
    {.name = "names",
     .type = FIELD_STRING_LIST,
     .maximum = WORKSPACE_FORKS_MAX,
     .description = "A name for each copy, or none at all.",
     .offset = offsetof(struct fork_input, names)},
    {.name = "labels",
     .type = FIELD_MAP,
     .maximum = WORKSPACE_LABELS_MAX,
     .fields = label_parts,
     .description = "Labels of the copies; the origin's are not taken over.",
     .offset = offsetof(struct fork_input, labels)},
    {.name = "snapshot",
     .type = FIELD_STRING,
     .maximum = SNAPSHOT_NAME_MAX,
     .check = snapshot_name_check,
     .description = "Copy the files of this snapshot (baseline is one), instead of those of now; "
                    "the workspace need not be started then.",
     .offset = offsetof(struct fork_input, snapshot)},
    {.name = "memory",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "Copy the whole running machine, with its processes, memory and disk; a "
                    "microVM that is started, and no snapshot.",
     .offset = offsetof(struct fork_input, memory)},
    {0},
};

static const struct field fork_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "The origin."},
    {.name = "count", .type = FIELD_INTEGER, .description = "How many were made."},
    {.name = "workspaces",
     .type = FIELD_OBJECT_LIST,
     .description = "The copies' status, in the order of the names.",
     .fields = status_fields},
    {0},
};

struct forking {
    struct call *call;
    const char *workspace_id;
};

static void forked(void *arg, int error, const struct hearth_failure *failure,
                   struct workspace *const *workspaces, unsigned count)
{
    struct forking *forking = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(forking->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", forking->workspace_id);
    json_unsigned(&json, "count", count);
    json_array_begin(&json, "workspaces");
    for (unsigned i = 0; i < count; i++)
        write_status(&json, workspaces[i]);
    json_array_end(&json);
    json_object_end(&json);
    reply_with(forking->call, &body, &json);
}

static void fork_(struct call *call, const void *arg)
{
    const struct fork_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    const struct row_label *labels = workspace ? labels_of(call, &input->labels) : NULL;
    struct forking *forking = labels ? call_allocate_or_fail(call, sizeof *forking) : NULL;
    if (!forking)
        return;
    *forking = (struct forking){call, input->workspace_id};
    struct workspace_fork_spec spec = {.snapshot = input->snapshot,
                                       .memory = input->memory,
                                       .count = (unsigned)input->count,
                                       .names = input->names.items,
                                       .name_count = input->names.count,
                                       .labels = labels,
                                       .label_count = input->labels.count,
                                       .request_id = call_request_id(call)};
    workspace_fork(workspace, call_principal(call), &spec, forked, forking);
}

static const char *const fork_errors[] = {"workspace_not_found",
                                          "snapshot_not_found",
                                          "bad_names",
                                          "bad_name",
                                          "bad_label",
                                          "workspace_not_started",
                                          "workspace_failed",
                                          "agent_unreachable",
                                          "workspace_busy",
                                          "fork_memory_unsupported",
                                          "fork_memory_of_snapshot",
                                          "fork_failed",
                                          "memory_short",
                                          "quota_workspaces",
                                          "quota_memory",
                                          "quota_store",
                                          "tree_too_large",
                                          "guest_full",
                                          "restore_failed",
                                          "no_driver",
                                          "environment_not_pulled",
                                          NULL};

const struct operation_entry fork_operations[] = {
    {
        .name = "workspace_fork",
        .family = "workspace",
        .title = "Fork a workspace",
        .summary = "Makes copies of a workspace's files, or of its running machine, as new "
                   "workspaces.",
        .description =
            "Makes one or more new workspaces that begin with this one's files under /workspace, "
            "as they are now or as a snapshot has them: to try several things from one prepared "
            "state. Each has a guest, an identity and a baseline of its own, so workspace_diff "
            "shows what it did itself. Processes, services, shells and what was installed outside "
            "/workspace are not copied, unless memory is set: then each copy is the whole microVM "
            "as it runs now, and only its identity is new. All are made or none.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/fork",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_LONG,
        .status = 201,
        .input = fork_input,
        .input_size = sizeof(struct fork_input),
        .output = fork_output,
        .errors = fork_errors,
        .handler = fork_,
    },
    {0},
};
