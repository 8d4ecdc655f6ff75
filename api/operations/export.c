#include "supervisord/export.h"
#include "api/operations/families.h"
#include "api/operations/file_read.h"
#include "api/operations/views.h"
#include "supervisord/host_output.h"

#include <stdio.h>

struct export_input {
    const char *workspace_id, *path, *output_path;
};

static const struct field export_input[] = {
    WORKSPACE_ID_FIELD(export_input),
    {.name = "path",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .flags = FIELD_REQUIRED,
     .maximum = 4095,
     .description = "File or directory to export; relative paths are under /workspace.",
     .offset = offsetof(struct export_input, path)},
    {.name = "output_path",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .maximum = 4095,
     .description = "Where to put it on the host; nothing may be there yet. Over REST: of the "
                    "daemon's host, below one of the tenant's host_roots; without it the answer is "
                    "a tar.",
     .offset = offsetof(struct export_input, output_path)},
    {0},
};

static const struct field export_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "workspace_path", .type = FIELD_STRING, .description = "What was exported."},
    {.name = "output_path", .type = FIELD_STRING, .description = "Where it was put."},
    {.name = "artifact_type",
     .type = FIELD_STRING,
     .description = "file, directory or symlink: what was at the path."},
    {.name = "entry_count", .type = FIELD_INTEGER, .description = "Entries written."},
    {.name = "bytes_written", .type = FIELD_INTEGER, .description = "Bytes of their content."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    {0},
};

struct exporting {
    struct call *call;
    const struct export_input *input;
    const char *execution_mode;
    struct export *export;      /* NULL once ended */
    struct host_output *output; /* NULL where the answer is the tar */
    bool begun;
};

static void on_room(void *arg)
{
    struct exporting *exporting = arg;
    if (exporting->export)
        export_pause(exporting->export, false);
}

static void on_begin(void *arg, enum file_type type)
{
    struct exporting *exporting = arg;
    exporting->begun = true;
    if (exporting->output)
        return;
    call_header(exporting->call, "Hearth-Artifact-Type", file_type_name(type));
    call_stream_begin(exporting->call, 200, "application/x-tar", -1, on_room, exporting);
}

static void on_data(void *arg, const void *data, size_t length)
{
    struct exporting *exporting = arg;
    bool room = exporting->output ? host_output_write(exporting->output, data, length)
                                  : call_stream_send(exporting->call, data, length);
    if (!room && exporting->export)
        export_pause(exporting->export, true);
}

static void on_end(void *arg, int error, const struct hearth_failure *failure,
                   const struct export_result *result)
{
    struct exporting *exporting = arg;
    (void)result;
    exporting->export = NULL;
    if (exporting->output && error)
        host_output_give_up(exporting->output, failure);
    else if (exporting->output)
        host_output_end(exporting->output);
    else if (exporting->begun)
        call_stream_end(exporting->call, error == 0);
    else
        call_fail(exporting->call, failure);
}

static void end_export(struct exporting *exporting)
{
    if (exporting->export)
        export_abort(exporting->export);
    exporting->export = NULL;
}

static void gone(void *arg)
{
    struct exporting *exporting = arg;
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_ECANCELLED, NULL, "the client went away");
    if (exporting->output) {
        end_export(exporting);
        host_output_give_up(exporting->output, &failure);
        return;
    }
    if (!exporting->export)
        return;
    end_export(exporting);
    if (exporting->begun)
        call_stream_end(exporting->call, false);
    else
        call_fail(exporting->call, &failure);
}

static const struct export_events events = {
    .on_begin = on_begin, .on_data = on_data, .on_end = on_end};

#define HINT                                                                                       \
    "GET /v1/workspaces/{workspace_id}/export answers with a tar; `hearth workspace export` "      \
    "unpacks it. workspace_file_read reads single files."

static void output_done(void *arg, int error, const struct hearth_failure *failure,
                        const struct host_output_result *result)
{
    struct exporting *exporting = arg;
    const struct export_input *input = exporting->input;
    struct call *call = exporting->call;
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    char path[FILES_ABSOLUTE_SIZE];
    end_export(exporting);
    if (error) {
        fail_output_path(call, failure, HINT);
        return;
    }
    files_absolute(input->path, path);
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", input->workspace_id);
    json_string(&json, "workspace_path", path);
    json_string(&json, "output_path", input->output_path);
    json_string(&json, "artifact_type", result->artifact_type);
    json_integer(&json, "entry_count", (int64_t)result->entry_count);
    json_integer(&json, "bytes_written", (int64_t)result->bytes_written);
    json_string(&json, "execution_mode", exporting->execution_mode);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static const struct host_output_events output_events = {.on_room = on_room, .done = output_done};

static void export_(struct call *call, const void *arg)
{
    const struct export_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (!workspace || !output_or_fail(call, input->output_path, HINT))
        return;
    struct exporting *exporting = call_allocate_or_fail(call, sizeof *exporting);
    if (!exporting)
        return;
    *exporting = (struct exporting){
        .call = call, .input = input, .execution_mode = execution_mode_of(workspace)};
    call_on_gone(call, gone, exporting);
    if (input->output_path)
        host_output_open(&exporting->output, call_supervisor(call), call_principal(call),
                         input->output_path, HOST_OUTPUT_TREE, &output_events, exporting);
    export_start(workspace, input->path, &events, exporting, &exporting->export);
}

static const char *const tar_types[] = {"application/x-tar", NULL};
static const char *const export_errors[] = {"workspace_not_found",
                                            "path_outside_workspace",
                                            "file_not_found",
                                            "wrong_file_type",
                                            "host_path_forbidden",
                                            "host_path_unwritable",
                                            "output_exists",
                                            "forbidden",
                                            NULL};

const struct operation_entry export_operations[] = {
    {
        .name = "workspace_export",
        .family = "workspace",
        .title = "Export files",
        .summary = "Takes a file, a directory or the whole tree out of the workspace.",
        .description =
            "Copies a file or directory of a workspace to output_path on the host, which must not "
            "be there yet. Symlinks stay symlinks. Over REST without output_path the answer is a "
            "tar stream. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/export",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_STREAMS |
                 OPERATION_LONG,
        .status = 200,
        .input = export_input,
        .input_size = sizeof(struct export_input),
        .output = export_output,
        .stream_types = tar_types,
        .errors = export_errors,
        .handler = export_,
    },
    {0},
};
