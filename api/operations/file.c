#include "api/operations/families.h"
#include "api/operations/file_read.h"
#include "api/operations/views.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* list */

struct list_input {
    const char *workspace_id, *path, *cursor;
    bool recursive;
    int64_t limit;
};

static const struct field list_input[] = {
    WORKSPACE_ID_FIELD(list_input),
    {.name = "path",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .maximum = 4095,
     .default_json = "\"/workspace\"",
     .description = "Directory to list; relative paths are under /workspace.",
     .offset = offsetof(struct list_input, path)},
    {.name = "recursive",
     .type = FIELD_BOOLEAN,
     .place = PLACE_QUERY,
     .default_json = "false",
     .description = "List all below it too.",
     .offset = offsetof(struct list_input, recursive)},
    PAGE_FIELDS(list_input, 8192),
    {0},
};

static const struct field list_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "path", .type = FIELD_STRING, .description = "Path in the guest that was listed."},
    {.name = "recursive", .type = FIELD_BOOLEAN, .description = "All below it too."},
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .description = "In the order of names.",
     .fields = file_entry_fields},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    NEXT_CURSOR_FIELD,
    {0},
};

const char *execution_mode_of(struct workspace *workspace)
{
    struct workspace_status status;
    workspace_describe(workspace, &status);
    return status.facts.execution_mode;
}

struct listing {
    struct call *call;
    const struct list_input *input;
    const char *execution_mode;
};

static void listed(void *arg, int error, const struct hearth_failure *failure,
                   const struct file_entry *entries, size_t count, const char *next_cursor)
{
    struct listing *listing = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    char path[FILES_ABSOLUTE_SIZE];
    if (error) {
        call_fail(listing->call, failure);
        return;
    }
    files_absolute(listing->input->path, path);
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", listing->input->workspace_id);
    json_string(&json, "path", path);
    json_boolean(&json, "recursive", listing->input->recursive);
    json_array_begin(&json, "entries");
    for (size_t i = 0; i < count; i++)
        write_file_entry(&json, &entries[i]);
    json_array_end(&json);
    json_string(&json, "execution_mode", listing->execution_mode);
    json_string(&json, "next_cursor", next_cursor);
    json_object_end(&json);
    reply_with(listing->call, &body, &json);
}

static void list(struct call *call, const void *arg)
{
    const struct list_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct listing *listing = workspace ? call_allocate_or_fail(call, sizeof *listing) : NULL;
    if (!listing)
        return;
    *listing = (struct listing){call, input, execution_mode_of(workspace)};
    files_list(workspace, input->path, input->recursive, (unsigned)input->limit, input->cursor,
               listed, listing);
}

/* write */

struct write_input {
    const char *workspace_id, *path, *text, *mode;
    bool create_parents;
};

static int check_mode(const char *mode, struct hearth_failure *failure)
{
    size_t length = strlen(mode);
    if (length >= 3 && length <= 4 && strspn(mode, "01234567") == length &&
        (length == 3 || mode[0] == '0'))
        return 0;
    return hearth_fail(failure, HEARTH_EINVALID, "bad_mode",
                       "a mode is octal permissions, for example 0644");
}

static const struct field write_input[] = {
    WORKSPACE_ID_FIELD(write_input),
    {.name = "path",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = 4095,
     .description = "File to write; relative paths are under /workspace.",
     .offset = offsetof(struct write_input, path)},
    {.name = "text",
     .type = FIELD_STRING,
     .flags = FIELD_BLANK_OK,
     .description = "Its whole new content.",
     .offset = offsetof(struct write_input, text)},
    {.name = "mode",
     .type = FIELD_STRING,
     .pattern = "^0?[0-7]{3}$",
     .check = check_mode,
     .description =
         "Permissions in octal, for example 0755; else those of the file it replaces, or 0644.",
     .offset = offsetof(struct write_input, mode)},
    {.name = "create_parents",
     .type = FIELD_BOOLEAN,
     .default_json = "true",
     .description = "Make directories that are missing.",
     .offset = offsetof(struct write_input, create_parents)},
    {0},
};
static const struct field write_output_fields[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "path", .type = FIELD_STRING, .description = "Path in the guest."},
    {.name = "size_bytes", .type = FIELD_INTEGER, .description = "Size of the file."},
    {.name = "bytes_written", .type = FIELD_INTEGER, .description = "Bytes written."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    {0},
};

struct writing {
    struct call *call;
    struct file_transfer *transfer; /* NULL once done */
    const char *workspace_id, *execution_mode;
};

static void written(void *arg, int error, const struct hearth_failure *failure,
                    const struct file_written *result)
{
    struct writing *writing = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    writing->transfer = NULL;
    if (error) {
        call_fail(writing->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", writing->workspace_id);
    json_string(&json, "path", result->path);
    json_unsigned(&json, "size_bytes", result->size);
    json_unsigned(&json, "bytes_written", result->bytes_written);
    json_string(&json, "execution_mode", writing->execution_mode);
    json_object_end(&json);
    reply_with(writing->call, &body, &json);
}

static void write_room(void *arg)
{
    struct writing *writing = arg;
    if (call_has_raw_body(writing->call))
        call_pause_body(writing->call, false);
}

static void body_data(void *arg, const void *data, size_t length)
{
    struct writing *writing = arg;
    if (writing->transfer && !file_write_data(writing->transfer, data, length))
        call_pause_body(writing->call, true);
}

static void body_end(void *arg)
{
    struct writing *writing = arg;
    if (writing->transfer)
        file_write_commit(writing->transfer);
}

/* The client left in the middle of its body: nothing of it is to be seen. */
static void write_gone(void *arg)
{
    struct writing *writing = arg;
    struct hearth_failure failure;
    if (!writing->transfer)
        return;
    file_transfer_abort(writing->transfer);
    hearth_fail(&failure, HEARTH_ECANCELLED, NULL, "the client went away");
    call_fail(writing->call, &failure);
}

/* It is either text or the body. */
static int check_content(const struct call *call, const struct write_input *input,
                         struct hearth_failure *failure)
{
    bool raw = call_has_raw_body(call);
    int error = 0;
    if (!raw && !input->text) {
        error = hearth_fail(failure, HEARTH_EINVALID, "missing_argument", "/text: it is needed");
        hearth_failure_hint(failure, "Give the file's whole new content as text (\"\" empties it); "
                                     "over REST also as a body of application/octet-stream.");
    } else if (raw && input->text) {
        error = hearth_fail(failure, HEARTH_EINVALID, "conflicting_arguments",
                            "the body is the content, and text is given too");
        hearth_failure_hint(failure, "Leave text out, or send it in a body of application/json.");
    }
    if (error)
        hearth_failure_field(failure, "/text");
    return error;
}

static void write_(struct call *call, const void *arg)
{
    const struct write_input *input = arg;
    struct hearth_failure failure;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (!workspace)
        return;
    if (check_content(call, input, &failure)) {
        call_fail(call, &failure);
        return;
    }
    struct writing *writing = call_allocate_or_fail(call, sizeof *writing);
    if (!writing)
        return;
    struct file_write_spec spec = {
        .path = input->path,
        .mode = input->mode ? S_IFREG | (uint32_t)strtoul(input->mode, NULL, 8) : 0,
        .create_parents = input->create_parents,
        .request_id = call_request_id(call),
    };
    *writing = (struct writing){.call = call,
                                .workspace_id = input->workspace_id,
                                .execution_mode = execution_mode_of(workspace)};
    files_write(workspace, call_principal(call), &spec, write_room, written, writing,
                &writing->transfer);
    if (call_has_raw_body(call)) {
        call_on_gone(call, write_gone, writing);
        call_read_body(call, body_data, body_end, writing);
        return;
    }
    if (*input->text)
        file_write_data(writing->transfer, input->text, strlen(input->text));
    file_write_commit(writing->transfer);
}

static const char *const file_read_types[] = {"application/octet-stream", NULL};
static const char *const list_errors[] = {"workspace_not_found", "path_outside_workspace",
                                          "file_not_found",      "wrong_file_type",
                                          "bad_cursor",          NULL};
static const char *const read_errors[] = {"workspace_not_found",   "path_outside_workspace",
                                          "file_not_found",        "wrong_file_type",
                                          "range_not_satisfiable", NULL};
static const char *const write_errors[] = {
    "workspace_not_found", "path_outside_workspace", "bad_mode", "guest_full",
    "wrong_file_type",     "conflicting_arguments",  NULL};

const struct operation_entry file_operations[] = {
    {
        .name = "workspace_file_list",
        .family = "file",
        .title = "List files",
        .summary = "Lists a directory of the workspace.",
        .description = "Lists files and directories of a workspace with type, size, mode and time, "
                       "in pages. Does not "
                       "count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/files",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = list_input,
        .input_size = sizeof(struct list_input),
        .output = list_output,
        .errors = list_errors,
        .handler = list,
    },
    {
        .name = "workspace_file_read",
        .family = "file",
        .title = "Read a file",
        .summary = "Reads a file, or a part of it.",
        .description = "Reads a text file of a workspace; truncated says whether there is more, "
                       "and offset reads on. "
                       "encoding base64 gives bytes that are no text. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/files/content",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_STREAMS,
        .status = 200,
        .input = file_read_input,
        .input_size = sizeof(struct file_read_input),
        .output = file_read_output,
        .errors = read_errors,
        .stream_types = file_read_types,
        .handler = file_read,
    },
    {
        .name = "workspace_file_write",
        .family = "file",
        .title = "Write a file",
        .summary = "Writes a file whole, in one step.",
        .description = "Writes a file of a workspace whole: a new one or in place of the old, "
                       "atomically, with missing "
                       "directories made. Use it instead of shell quoting.",
        .method = "PUT",
        .path = "/v1/workspaces/{workspace_id}/files/content",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_IDEMPOTENT |
                 OPERATION_RAW_BODY | OPERATION_ACTIVITY | OPERATION_LONG,
        .status = 200,
        .input = write_input,
        .input_size = sizeof(struct write_input),
        .output = write_output_fields,
        .errors = write_errors,
        .handler = write_,
    },
    {0},
};
