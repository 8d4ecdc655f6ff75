#include "supervisord/sync.h"
#include "api/operations/families.h"
#include "api/operations/file_read.h"
#include "api/operations/views.h"
#include "supervisord/host_path.h"

struct push_input {
    const char *workspace_id, *source_path, *upload_id, *dest;
};

static const struct field push_input[] = {
    WORKSPACE_ID_FIELD(push_input),
    {.name = "source_path",
     .type = FIELD_STRING,
     .maximum = 4095,
     .description = "Directory or tar of the daemon's host, below one of the tenant's host_roots; "
                    "with upload_id or a body, what the client packed.",
     .offset = offsetof(struct push_input, source_path)},
    {.name = "upload_id",
     .type = FIELD_STRING,
     .maximum = 64,
     .pattern = ID_PATTERN("up"),
     .description = "ID of an upload (POST /v1/uploads) whose tree is to be put in.",
     .offset = offsetof(struct push_input, upload_id)},
    {.name = "dest",
     .type = FIELD_STRING,
     .maximum = 4095,
     .default_json = "\"/workspace\"",
     .description = "Directory to put it in, made if missing; relative paths are under /workspace.",
     .offset = offsetof(struct push_input, dest)},
    {0},
};

static const struct field sync_fields[] = {
    {.name = "mode", .type = FIELD_STRING, .description = "directory or tar_archive."},
    {.name = "source_path",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "What was packed, where the client said."},
    {.name = "destination", .type = FIELD_STRING, .description = "Where it was put."},
    {.name = "entry_count", .type = FIELD_INTEGER, .description = "Entries that were put in."},
    {.name = "bytes_written", .type = FIELD_INTEGER, .description = "Bytes of their content."},
    {0},
};
static const struct field push_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    {.name = "workspace_sync",
     .type = FIELD_OBJECT,
     .description = "What was done.",
     .fields = sync_fields},
    {0},
};

struct pushing {
    struct call *call;
    const struct push_input *input;
    struct sync_push *push; /* NULL once done */
};

static void pushed(void *arg, int error, const struct hearth_failure *failure,
                   const struct sync_result *result)
{
    struct pushing *pushing = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    pushing->push = NULL;
    if (error) {
        call_fail(pushing->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", result->workspace_id);
    json_string(&json, "execution_mode", result->execution_mode);
    json_object_begin(&json, "workspace_sync");
    json_string(&json, "mode", result->mode);
    json_string(&json, "source_path", result->source_path);
    json_string(&json, "destination", result->destination);
    json_unsigned(&json, "entry_count", result->entry_count);
    json_unsigned(&json, "bytes_written", result->bytes_written);
    json_object_end(&json);
    json_object_end(&json);
    reply_with(pushing->call, &body, &json);
}

static void on_room(void *arg)
{
    struct pushing *pushing = arg;
    call_pause_body(pushing->call, false);
}

static void body_data(void *arg, const void *data, size_t length)
{
    struct pushing *pushing = arg;
    if (pushing->push && !sync_write(pushing->push, data, length))
        call_pause_body(pushing->call, true);
}

static void body_end(void *arg)
{
    struct pushing *pushing = arg;
    call_on_gone(pushing->call, NULL, NULL); /* it is on its way: its end is told to nobody */
    if (pushing->push)
        sync_finish(pushing->push);
}

static void gone(void *arg)
{
    struct pushing *pushing = arg;
    if (pushing->push)
        sync_abort(pushing->push);
}

/* One of a body, an upload and a host path. */
static int check_source(const struct call *call, const struct push_input *input,
                        struct hearth_failure *failure)
{
    int error = 0;
    if (call_has_raw_body(call) && input->upload_id) {
        error = hearth_fail(failure, HEARTH_EINVALID, "conflicting_arguments",
                            "a body and upload_id exclude each other");
        hearth_failure_field(failure, "/upload_id");
    } else if (!call_has_raw_body(call) && !input->upload_id && !input->source_path) {
        error = hearth_fail(failure, HEARTH_EINVALID, "missing_argument",
                            "one of upload_id, source_path and a tar as the body is needed");
        hearth_failure_field(failure, "/upload_id");
        hearth_failure_hint(failure, "POST the tar to /v1/uploads and name its upload_id.");
    }
    return error;
}

static struct sync_spec spec_of(const struct pushing *pushing, const char *upload_id)
{
    return (struct sync_spec){.destination = pushing->input->dest,
                              .source_path = pushing->input->source_path,
                              .upload_id = upload_id,
                              .request_id = call_request_id(pushing->call)};
}

static void packed(void *arg, int error, const struct hearth_failure *failure,
                   const struct upload *upload)
{
    struct pushing *pushing = arg;
    if (error) {
        fail_host_path(pushing->call, failure, "/source_path",
                       "Send the directory as a tar to POST /v1/uploads and pass its ID as "
                       "upload_id; `hearth workspace sync push` does that.");
        return;
    }
    struct workspace *workspace = workspace_or_fail(pushing->call, pushing->input->workspace_id);
    const struct sync_spec spec = spec_of(pushing, upload->upload_id);
    if (workspace)
        sync_upload(workspace, call_principal(pushing->call), &spec, pushed, pushing);
}

static void push(struct call *call, const void *arg)
{
    const struct push_input *input = arg;
    struct hearth_failure failure;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (!workspace)
        return;
    if (check_source(call, input, &failure)) {
        call_fail(call, &failure);
        return;
    }
    struct pushing *pushing = call_allocate_or_fail(call, sizeof *pushing);
    if (!pushing)
        return;
    *pushing = (struct pushing){.call = call, .input = input};
    if (!call_has_raw_body(call) && !input->upload_id) {
        host_path_upload(call_supervisor(call), call_principal(call), call_request_id(call),
                         input->source_path, packed, pushing);
        return;
    }
    const struct sync_spec spec = spec_of(pushing, input->upload_id);
    if (input->upload_id) {
        sync_upload(workspace, call_principal(call), &spec, pushed, pushing);
        return;
    }
    sync_stream(workspace, call_principal(call), &spec, on_room, pushed, pushing, &pushing->push);
    call_on_gone(call, gone, pushing);
    call_read_body(call, body_data, body_end, pushing);
}

static const char *const push_errors[] = {"workspace_not_found",
                                          "path_outside_workspace",
                                          "host_path_forbidden",
                                          "host_path_unreadable",
                                          "quota_uploads",
                                          "upload_not_found",
                                          "archive_refused",
                                          "archive_truncated",
                                          "archive_too_large",
                                          "guest_full",
                                          NULL};

const struct operation_entry sync_operations[] = {
    {
        .name = "workspace_sync_push",
        .family = "workspace",
        .title = "Push a tree",
        .summary = "Puts a directory or tar into a started workspace, whole or not at all.",
        .description = "Adds the files of an upload (upload_id of POST /v1/uploads) to a started "
                       "workspace below dest: what is there of the same name is replaced, the rest "
                       "stays. Modes, symlinks and hard links are kept. All of it is put in or, "
                       "where anything is refused, none. Use workspace_file_write for single "
                       "files.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/sync",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_IDEMPOTENT |
                 OPERATION_RAW_BODY | OPERATION_ACTIVITY | OPERATION_LONG,
        .status = 200,
        .input = push_input,
        .input_size = sizeof(struct push_input),
        .output = push_output,
        .errors = push_errors,
        .handler = push,
    },
    {0},
};
