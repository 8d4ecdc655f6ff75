#include "api/operations/families.h"
#include "api/operations/given_secrets.h"
#include "api/operations/views.h"
#include "supervisord/host_path.h"
#include "supervisord/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void changed(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *workspace)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(call, failure);
        return;
    }
    write_status(&json, workspace);
    reply_with(call, &body, &json);
}

/* Printable, without blanks at its ends. */
#define NAME_PATTERN                                                                               \
    "^[^\\u0000-\\u0020\\u007f]([^\\u0000-\\u001f\\u007f]*[^\\u0000-\\u0020\\u007f])?$"

/* create */

struct create_input {
    const char *environment, *network_policy, *seed_path, *name, *isolation, *seed_upload,
        *transport;
    int64_t vcpu_count, mem_mib, ttl_seconds, disk_mib;
    bool allow_host_compat;
    struct pair_list labels;
    struct object_list secrets;
};

static const char *const network_policies[] = {"off", "egress", "published-ports",
                                               "egress+published-ports", NULL};

static const struct field create_input[] = {
    ENVIRONMENT_FIELD(create_input),
    MACHINE_FIELDS(create_input),
    {.name = "ttl_seconds",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = 31536000,
     .default_json = "86400",
     .description = "Seconds without activity after which it is stopped.",
     .offset = offsetof(struct create_input, ttl_seconds)},
    {.name = "network_policy",
     .type = FIELD_STRING,
     .flags = FIELD_FULL_ONLY,
     .choices = network_policies,
     .default_json = "\"off\"",
     .description = "What the workspace may reach: off is its own loopback alone, egress "
                    "the public internet (TCP, UDP, DNS), not the host nor its networks; with "
                    "published-ports its services may publish ports on the daemon's host.",
     .offset = offsetof(struct create_input, network_policy)},
    {.name = "seed_path",
     .type = FIELD_STRING,
     .maximum = 4095,
     .description = "Directory or tar of the daemon's host, below one of the tenant's host_roots; "
                    "with seed_upload, what the client packed into that, for status only.",
     .offset = offsetof(struct create_input, seed_path)},
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_CHARACTERS,
     .maximum = WORKSPACE_NAME_MAX,
     .check = workspace_name_check,
     .pattern = NAME_PATTERN,
     .description = "A name for people, to find it again.",
     .offset = offsetof(struct create_input, name)},
    {.name = "labels",
     .type = FIELD_MAP,
     .maximum = WORKSPACE_LABELS_MAX,
     .fields = label_parts,
     .description = "Labels to find it by.",
     .offset = offsetof(struct create_input, labels)},
    {.name = "secrets",
     .type = FIELD_OBJECT_LIST,
     .flags = FIELD_FULL_ONLY,
     .maximum = SECRETS_MAX,
     .fields = secret_input_fields,
     .nested_size = sizeof(struct secret_input),
     .description = "Secrets for it: files in /run/hearth/secrets of the guest and, by secret_env, "
                    "variables; redacted from all that is shown.",
     .offset = offsetof(struct create_input, secrets)},
    ISOLATION_FIELD(create_input),
    {.name = "disk_mib",
     .type = FIELD_INTEGER,
     .minimum = 256,
     .maximum = 1048576,
     .default_json = "4096",
     .description = "Disk in MiB, where the driver can limit it.",
     .offset = offsetof(struct create_input, disk_mib)},
    {.name = "seed_upload",
     .type = FIELD_STRING,
     .maximum = 64,
     .pattern = ID_PATTERN("up"),
     .description = "ID of an upload (POST /v1/uploads) whose tree becomes /workspace.",
     .offset = offsetof(struct create_input, seed_upload)},
    TRANSPORT_FIELD(create_input, FIELD_FULL_ONLY),
    ALLOW_HOST_COMPAT_FIELD(create_input),
    {0},
};

struct creating {
    struct call *call;
    const struct create_input *input;
    const struct secret_spec *secrets;
};

static void create_with(const struct creating *creating, const char *upload_id)
{
    struct call *call = creating->call;
    const struct create_input *input = creating->input;
    const struct row_label *labels = labels_of(call, &input->labels);
    if (!labels)
        return;
    int network = network_policy_parse(input->network_policy);
    struct workspace_spec spec = {
        .environment = input->environment,
        .vcpu_count = (uint32_t)input->vcpu_count,
        .mem_mib = (uint32_t)input->mem_mib,
        .disk_mib = (uint32_t)input->disk_mib,
        .ttl_us = input->ttl_seconds * US_PER_S,
        .network = (enum network_policy)network,
        .name = input->name,
        .labels = labels,
        .label_count = input->labels.count,
        .isolation = input->isolation,
        .transport = input->transport,
        .allow_host_compat = input->allow_host_compat,
        .seed_upload = upload_id,
        .seed_path = input->seed_path,
        .secrets = creating->secrets,
        .secret_count = input->secrets.count,
        .request_id = call_request_id(call),
    };
    workspace_create(call_supervisor(call), call_principal(call), &spec, changed, call);
    secrets_wipe(creating->secrets, input->secrets.count); /* sealed, or refused */
}

static void seed_packed(void *arg, int error, const struct hearth_failure *failure,
                        const struct upload *upload)
{
    const struct creating *creating = arg;
    if (error)
        fail_host_path(creating->call, failure, "/seed_path",
                       "Send the directory as a tar to POST /v1/uploads and pass its ID as "
                       "seed_upload; `hearth workspace create --seed-path` does that.");
    else
        create_with(creating, upload->upload_id);
}

static void create_with_secrets(void *arg, const struct secret_spec *secrets)
{
    struct creating *creating = arg;
    struct call *call = creating->call;
    const struct create_input *input = creating->input;
    creating->secrets = secrets;
    if (!input->seed_path || input->seed_upload)
        create_with(creating, input->seed_upload);
    else
        host_path_upload(call_supervisor(call), call_principal(call), call_request_id(call),
                         input->seed_path, seed_packed, creating);
}

static void create(struct call *call, const void *arg)
{
    const struct create_input *input = arg;
    struct creating *creating = call_allocate_or_fail(call, sizeof *creating);
    if (!creating)
        return;
    *creating = (struct creating){.call = call, .input = input};
    secrets_gather(call, &input->secrets, create_with_secrets, creating);
}

/* list */

struct list_input {
    const char *name, *state, *cursor;
    struct string_list label;
    int64_t limit;
};

/* All that a workspace may be in; one that is being made or deleted is in no list. */
static const char *const states[] = {"creating", "started",  "suspended", "stopped",
                                     "failed",   "deleting", NULL};

static const struct field list_input[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .flags = FIELD_CHARACTERS,
     .maximum = WORKSPACE_NAME_MAX,
     .description = "Only those of this name.",
     .offset = offsetof(struct list_input, name)},
    {.name = "label",
     .type = FIELD_STRING_LIST,
     .place = PLACE_QUERY,
     .maximum = 16,
     .description = "Only those that have all of these labels, each `key` or `key=value`.",
     .offset = offsetof(struct list_input, label)},
    {.name = "state",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .choices = states,
     .description = "Only those in this state.",
     .offset = offsetof(struct list_input, state)},
    PAGE_FIELDS(list_input, WORKSPACE_CURSOR_SIZE),
    {0},
};

static const struct field list_output[] = {
    {.name = "count", .type = FIELD_INTEGER, .description = "Rows in this page."},
    {.name = "workspaces",
     .type = FIELD_OBJECT_LIST,
     .description = "Latest activity first.",
     .fields = row_fields},
    NEXT_CURSOR_FIELD,
    {0},
};

struct list_writer {
    struct json_writer json;
    unsigned count;
};

static void visit(void *arg, struct workspace *workspace)
{
    struct list_writer *writer = arg;
    write_row(&writer->json, workspace);
    writer->count++;
}

static void list(struct call *call, const void *arg)
{
    const struct list_input *input = arg;
    struct buf body = {0};
    struct list_writer writer = {.json = JSON_WRITER(&body)};
    char cursor[WORKSPACE_CURSOR_SIZE];
    struct hearth_failure failure;
    struct workspace_filter filter = {
        .name = input->name,
        .state = input->state,
        .labels = input->label.items,
        .label_count = input->label.count,
        .limit = (unsigned)input->limit,
        .cursor = input->cursor,
    };
    json_object_begin(&writer.json, NULL);
    json_array_begin(&writer.json, "workspaces");
    if (workspace_list(call_supervisor(call), call_principal(call), &filter, visit, &writer, cursor,
                       &failure)) {
        buf_free(&body);
        call_fail(call, &failure);
        return;
    }
    json_array_end(&writer.json);
    json_unsigned(&writer.json, "count", writer.count);
    json_string(&writer.json, "next_cursor", *cursor ? cursor : NULL);
    json_object_end(&writer.json);
    reply_with(call, &body, &writer.json);
}

/* status, delete, stop, start */

struct id_input {
    const char *workspace_id;
};

static const struct field id_input[] = {WORKSPACE_ID_FIELD(id_input), {0}};

static void status(struct call *call, const void *arg)
{
    const struct id_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        changed(call, 0, NULL, workspace);
}

static const struct field delete_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "deleted", .type = FIELD_BOOLEAN, .description = "It is gone."},
    {.name = "reason", .type = FIELD_STRING, .description = "explicit_delete."},
    {0},
};

static void reply_deleted(struct call *call, const char *workspace_id)
{
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", workspace_id);
    json_boolean(&json, "deleted", true);
    json_string(&json, "reason", "explicit_delete");
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void deleted(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *workspace)
{
    struct call *call = arg;
    struct workspace_status described;
    if (error) {
        call_fail(call, failure);
        return;
    }
    workspace_describe(workspace, &described);
    reply_deleted(call, described.workspace_id);
}

static void delete_(struct call *call, const void *arg)
{
    const struct id_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        call_tells_ids_alone(call);
    if (workspace)
        workspace_delete(workspace, call_principal(call), call_request_id(call), deleted, call);
}

static void stop(struct call *call, const void *arg)
{
    const struct id_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        workspace_stop(workspace, call_principal(call), call_request_id(call), changed, call);
}

static void suspend(struct call *call, const void *arg)
{
    const struct id_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        workspace_suspend(workspace, call_principal(call), call_request_id(call), changed, call);
}

static void start(struct call *call, const void *arg)
{
    const struct id_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        workspace_start(workspace, call_principal(call), call_request_id(call), changed, call);
}

/* update */

struct update_input {
    const char *workspace_id, *name;
    bool clear_name;
    struct pair_list labels;
    struct string_list clear_labels;
};

static const struct field update_input[] = {
    WORKSPACE_ID_FIELD(update_input),
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_CHARACTERS,
     .maximum = WORKSPACE_NAME_MAX,
     .check = workspace_name_check,
     .pattern = NAME_PATTERN,
     .description = "The new name.",
     .offset = offsetof(struct update_input, name)},
    {.name = "clear_name",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "Take the name away.",
     .offset = offsetof(struct update_input, clear_name)},
    {.name = "labels",
     .type = FIELD_MAP,
     .maximum = WORKSPACE_LABELS_MAX,
     .fields = label_parts,
     .description = "Labels to add or replace; others stay.",
     .offset = offsetof(struct update_input, labels)},
    {.name = "clear_labels",
     .type = FIELD_STRING_LIST,
     .maximum = WORKSPACE_LABELS_MAX,
     .description = "Names of labels to take away.",
     .offset = offsetof(struct update_input, clear_labels)},
    {0},
};

/* After a crash. */

static void tell_status(struct call *call, const void *input, const char *workspace_id)
{
    (void)input;
    struct workspace *workspace = workspace_or_fail(call, workspace_id);
    if (workspace)
        changed(call, 0, NULL, workspace);
}

static void tell_deleted(struct call *call, const void *input, const char *workspace_id)
{
    (void)input;
    reply_deleted(call, workspace_id);
}

static void update(struct call *call, const void *arg)
{
    const struct update_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    const struct row_label *labels = workspace ? labels_of(call, &input->labels) : NULL;
    if (!labels)
        return;
    struct workspace_update_spec spec = {
        .name = input->name,
        .clear_name = input->clear_name,
        .labels = labels,
        .label_count = input->labels.count,
        .clear_labels = input->clear_labels.items,
        .clear_label_count = input->clear_labels.count,
        .request_id = call_request_id(call),
    };
    workspace_update(workspace, call_principal(call), &spec, changed, call);
}

static const char *const create_errors[] = {"unknown_environment",
                                            "environment_not_pulled",
                                            "bad_name",
                                            "bad_label",
                                            "bad_secret",
                                            "upload_not_found",
                                            "host_path_forbidden",
                                            "host_path_unreadable",
                                            "quota_uploads",
                                            "isolation_unavailable",
                                            "transport_unavailable",
                                            "quota_workspaces",
                                            "quota_memory",
                                            "network_unavailable",
                                            NULL};
static const char *const id_errors[] = {"workspace_not_found", NULL};
static const char *const update_errors[] = {"workspace_not_found", "empty_update", "bad_name",
                                            "bad_label", NULL};
static const char *const life_errors[] = {"workspace_not_found", "workspace_busy", NULL};
static const char *const suspend_errors[] = {
    "workspace_not_found", "workspace_busy", "workspace_in_use",  "workspace_not_started",
    "suspend_unsupported", "suspend_failed", "agent_unreachable", NULL};
static const char *const list_errors[] = {"bad_cursor", NULL};

const struct operation_entry workspace_operations[] = {
    {
        .name = "workspace_create",
        .family = "workspace",
        .title = "Create a workspace",
        .summary = "Makes a workspace and starts it.",
        .description = "Creates a persistent workspace: a sandboxed Linux system with /workspace "
                       "as its working "
                       "directory, where commands can be run and files read and written over many "
                       "calls. Use it when "
                       "more than one command is needed; delete it when done. Returns its "
                       "workspace_id and status.",
        .method = "POST",
        .path = "/v1/workspaces",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_LONG | OPERATION_ACTIVITY | OPERATION_ATOMIC,
        .status = 201,
        .input = create_input,
        .input_size = sizeof(struct create_input),
        .output = status_fields,
        .errors = create_errors,
        .handler = create,
        .tell = tell_status,
    },
    {
        .name = "workspace_list",
        .family = "workspace",
        .title = "List workspaces",
        .summary = "Lists workspaces, latest activity first.",
        .description = "Lists the workspaces that exist, latest activity first, with name, labels, "
                       "state and times. Use "
                       "it to find a workspace again by name or label.",
        .method = "GET",
        .path = "/v1/workspaces",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = list_input,
        .input_size = sizeof(struct list_input),
        .output = list_output,
        .errors = list_errors,
        .handler = list,
    },
    {
        .name = "workspace_update",
        .family = "workspace",
        .title = "Rename or label a workspace",
        .summary = "Changes name and labels.",
        .description = "Changes a workspace's name or labels. Labels are merged: those not named "
                       "stay. An update that "
                       "changes nothing is an error. Returns the status.",
        .method = "PATCH",
        .path = "/v1/workspaces/{workspace_id}",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_NEEDS_INPUT | OPERATION_IDEMPOTENT | OPERATION_ACTIVITY,
        .status = 200,
        .input = update_input,
        .input_size = sizeof(struct update_input),
        .output = status_fields,
        .errors = update_errors,
        .handler = update,
        .tell = tell_status,
    },
    {
        .name = "workspace_status",
        .family = "workspace",
        .title = "Show a workspace",
        .summary = "Tells everything about one workspace.",
        .description = "Tells a workspace's state, environment, resources, times, seed, last "
                       "command and how it is "
                       "isolated. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = id_input,
        .input_size = sizeof(struct id_input),
        .output = status_fields,
        .errors = id_errors,
        .handler = status,
    },
    {
        .name = "workspace_delete",
        .family = "workspace",
        .title = "Delete a workspace",
        .summary = "Ends a workspace and removes all of it.",
        .description = "Deletes a workspace with all its files and history. Running commands end. "
                       "It cannot be undone.",
        .method = "DELETE",
        .path = "/v1/workspaces/{workspace_id}",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_SETTLES | OPERATION_DESTRUCTIVE | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = id_input,
        .input_size = sizeof(struct id_input),
        .output = delete_output,
        .errors = life_errors,
        .handler = delete_,
        .tell = tell_deleted,
    },
    {
        .name = "workspace_stop",
        .family = "workspace",
        .title = "Stop a workspace",
        .summary = "Stops the guest; its files stay.",
        .description = "Stops a workspace in an orderly way. Its files stay and it can be started "
                       "again; running "
                       "commands end. Returns the status.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/stop",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_IDEMPOTENT | OPERATION_LONG | OPERATION_ACTIVITY |
                 OPERATION_DESTRUCTIVE,
        .status = 200,
        .input = id_input,
        .input_size = sizeof(struct id_input),
        .output = status_fields,
        .errors = life_errors,
        .handler = stop,
        .tell = tell_status,
    },
    {
        .name = "workspace_suspend",
        .family = "workspace",
        .title = "Suspend a workspace",
        .summary = "Saves a machine to the disk, sealed, with all that runs in it.",
        .description = "Saves a workspace's machine to the disk, with its memory and all that runs "
                       "in it, encrypted, and ends it: state suspended. The next operation that "
                       "needs it, or a connection to a port of it, resumes it. Not while a command "
                       "runs; never a container. Returns the status.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/suspend",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_SETTLES | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = id_input,
        .input_size = sizeof(struct id_input),
        .output = status_fields,
        .errors = suspend_errors,
        .handler = suspend,
        .tell = tell_status,
    },
    {
        .name = "workspace_start",
        .family = "workspace",
        .title = "Start a workspace",
        .summary = "Starts a stopped or failed workspace.",
        .description = "Starts a workspace that was stopped or has failed, with the files it had. "
                       "Returns the status.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/start",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_IDEMPOTENT | OPERATION_LONG | OPERATION_ACTIVITY,
        .status = 200,
        .input = id_input,
        .input_size = sizeof(struct id_input),
        .output = status_fields,
        .errors = life_errors,
        .handler = start,
        .tell = tell_status,
    },
    {0},
};
