#include "api/operations/families.h"
#include "api/operations/views.h"
#include "supervisord/host_output.h"

#include <string.h>

#define READ_MAX (1 << 20)

/* What a call about a disk needs until its job is done. */
struct disk_call {
    struct call *call;
    const void *input;
    const char *workspace_id;
    struct disk_job *job;       /* NULL once done */
    struct host_output *output; /* of an export to the host */
    bool begun;                 /* an export's stream */
};

static void cancel(struct disk_call *disk)
{
    if (disk->job)
        disk_cancel(disk->job);
    disk->job = NULL;
}

static void gone(void *arg)
{
    struct disk_call *disk = arg;
    struct hearth_failure failure;
    bool done = !disk->job;
    hearth_fail(&failure, HEARTH_ECANCELLED, NULL, "the client went away");
    cancel(disk);
    if (disk->output)
        host_output_give_up(disk->output, &failure);
    else if (!done && disk->begun)
        call_stream_end(disk->call, false);
    else if (!done)
        call_fail(disk->call, &failure);
}

static struct disk_call *disk_call_new(struct call *call, const void *input,
                                       const char *workspace_id, struct workspace **ret_workspace)
{
    *ret_workspace = workspace_or_fail(call, workspace_id);
    struct disk_call *disk = *ret_workspace ? call_allocate_or_fail(call, sizeof *disk) : NULL;
    if (!disk)
        return NULL;
    *disk = (struct disk_call){.call = call, .input = input, .workspace_id = workspace_id};
    call_on_gone(call, gone, disk);
    return disk;
}

#define RESULT_ID_FIELD                                                                            \
    {                                                                                              \
        .name = "workspace_id", .type = FIELD_STRING, .description = "Whose disk it is."           \
    }

/* export */

struct export_input {
    const char *workspace_id, *output_path;
};

static const struct field export_input[] = {
    WORKSPACE_ID_FIELD(export_input),
    {.name = "output_path",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .maximum = 4095,
     .description = "Where to put the image on the host; nothing may be there yet. Over REST: of "
                    "the daemon's host, below one of the tenant's host_roots; without it the image "
                    "is the reply's body.",
     .offset = offsetof(struct export_input, output_path)},
    {0},
};
static const struct field export_output[] = {
    RESULT_ID_FIELD,
    {.name = "output_path", .type = FIELD_STRING, .description = "Where the image is."},
    {.name = "disk_format", .type = FIELD_STRING, .description = "ext4: one raw file system."},
    {.name = "bytes_written", .type = FIELD_INTEGER, .description = "Size of the image."},
    {0},
};

static void export_room(void *arg)
{
    struct disk_call *disk = arg;
    if (disk->job)
        disk_pause(disk->job, false);
}

static void export_size(void *arg, uint64_t size)
{
    struct disk_call *disk = arg;
    disk->begun = true;
    if (disk->output) {
        host_output_size(disk->output, size);
        return;
    }
    call_stream_begin(disk->call, 200, "application/octet-stream", (int64_t)size, export_room,
                      disk);
}

static void export_data(void *arg, const void *data, size_t length)
{
    struct disk_call *disk = arg;
    bool room = disk->output ? host_output_write(disk->output, data, length)
                             : call_stream_send(disk->call, data, length);
    if (!room && disk->job)
        disk_pause(disk->job, true);
}

static void export_end(void *arg, int error, const struct hearth_failure *failure)
{
    struct disk_call *disk = arg;
    disk->job = NULL;
    if (disk->output && error)
        host_output_give_up(disk->output, failure);
    else if (disk->output)
        host_output_end(disk->output);
    else if (disk->begun)
        call_stream_end(disk->call, error == 0);
    else
        call_fail(disk->call, failure);
}

static const struct disk_export_events export_events = {
    .on_size = export_size, .on_data = export_data, .on_end = export_end};

#define HINT                                                                                       \
    "GET the workspace's /disk over REST: the image is the reply's body. `hearth workspace disk "  \
    "export` does that."

static void output_done(void *arg, int error, const struct hearth_failure *failure,
                        const struct host_output_result *result)
{
    struct disk_call *disk = arg;
    const struct export_input *input = disk->input;
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    cancel(disk);
    if (error) {
        fail_output_path(disk->call, failure, HINT);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", input->workspace_id);
    json_string(&json, "output_path", input->output_path);
    json_string(&json, "disk_format", "ext4");
    json_integer(&json, "bytes_written", (int64_t)result->bytes_written);
    json_object_end(&json);
    reply_with(disk->call, &body, &json);
}

static const struct host_output_events output_events = {.on_room = export_room,
                                                        .done = output_done};

static void export(struct call *call, const void *arg)
{
    const struct export_input *input = arg;
    struct workspace *workspace;
    struct disk_call *disk = disk_call_new(call, input, input->workspace_id, &workspace);
    if (!disk || !output_or_fail(call, input->output_path, HINT))
        return;
    if (input->output_path)
        host_output_open(&disk->output, call_supervisor(call), call_principal(call),
                         input->output_path, HOST_OUTPUT_FILE, &output_events, disk);
    disk_export(workspace, &export_events, disk, &disk->job);
}

/* list */

struct list_input {
    const char *workspace_id, *path;
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
     .description = "Directory anywhere on the disk; relative paths are under /workspace.",
     .offset = offsetof(struct list_input, path)},
    {.name = "recursive",
     .type = FIELD_BOOLEAN,
     .place = PLACE_QUERY,
     .default_json = "false",
     .description = "List all below it too.",
     .offset = offsetof(struct list_input, recursive)},
    {.name = "limit",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 1,
     .maximum = DISK_ENTRIES_MAX,
     .default_json = "1000",
     .description = "Entries at most.",
     .offset = offsetof(struct list_input, limit)},
    {0},
};
static const struct field list_output[] = {
    RESULT_ID_FIELD,
    {.name = "path", .type = FIELD_STRING, .description = "What was listed."},
    {.name = "recursive", .type = FIELD_BOOLEAN, .description = "All below it too."},
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .description = "In the order of names.",
     .fields = file_entry_fields},
    {.name = "truncated", .type = FIELD_BOOLEAN, .description = "There are more than are listed."},
    {0},
};

static void listed(void *arg, int error, const struct hearth_failure *failure, const char *path,
                   const struct file_entry *entries, size_t count, bool more)
{
    struct disk_call *disk = arg;
    const struct list_input *input = disk->input;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    disk->job = NULL;
    if (error) {
        call_fail(disk->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", disk->workspace_id);
    json_string(&json, "path", path);
    json_boolean(&json, "recursive", input->recursive);
    json_array_begin(&json, "entries");
    for (size_t i = 0; i < count; i++)
        write_file_entry(&json, &entries[i]);
    json_array_end(&json);
    json_boolean(&json, "truncated", more);
    json_object_end(&json);
    reply_with(disk->call, &body, &json);
}

static void list(struct call *call, const void *arg)
{
    const struct list_input *input = arg;
    struct workspace *workspace;
    struct disk_call *disk = disk_call_new(call, input, input->workspace_id, &workspace);
    if (disk)
        disk_list(workspace, input->path, input->recursive, (unsigned)input->limit, listed, disk,
                  &disk->job);
}

/* read */

struct read_input {
    const char *workspace_id, *path, *encoding;
    int64_t max_bytes, offset;
};

static const struct field read_input[] = {
    WORKSPACE_ID_FIELD(read_input),
    {.name = "path",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .flags = FIELD_REQUIRED,
     .maximum = 4095,
     .description = "File anywhere on the disk; relative paths are under /workspace.",
     .offset = offsetof(struct read_input, path)},
    {.name = "max_bytes",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 1,
     .maximum = READ_MAX,
     .default_json = "65536",
     .description = "Bytes to read at most.",
     .offset = offsetof(struct read_input, max_bytes)},
    {.name = "offset",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 0,
     .maximum = INT64_C(1) << 50,
     .default_json = "0",
     .description = "Byte to begin at.",
     .offset = offsetof(struct read_input, offset)},
    ENCODING_FIELD(read_input, PLACE_QUERY),
    {0},
};
static const struct field read_output[] = {
    RESULT_ID_FIELD,
    {.name = "path", .type = FIELD_STRING, .description = "Path in the guest."},
    {.name = "size_bytes", .type = FIELD_INTEGER, .description = "Size of the whole file."},
    {.name = "max_bytes", .type = FIELD_INTEGER, .description = "As asked for."},
    {.name = "offset", .type = FIELD_INTEGER, .description = "As asked for."},
    {.name = "content",
     .type = FIELD_STRING,
     .description = "The content in the encoding asked for."},
    {.name = "truncated", .type = FIELD_BOOLEAN, .description = "There is more after this."},
    {0},
};

static void read_done(void *arg, int error, const struct hearth_failure *failure, const char *path,
                      uint64_t size, const char *content, size_t length)
{
    struct disk_call *disk = arg;
    const struct read_input *input = disk->input;
    struct buf body = {0};
    auto_buf struct buf shown = {.limit = SIZE_MAX};
    struct json_writer json = JSON_WRITER(&body);
    struct hearth_failure own;
    size_t before = call_redact_before(disk->call, (uint64_t)input->offset), got = 0;
    disk->job = NULL;
    if (!error && (buf_append(&shown, content, length) ||
                   call_redact_part(disk->call, &shown, before, (size_t)input->max_bytes, &got))) {
        error = hearth_fail(&own, HEARTH_ENOMEMORY, NULL, "out of memory");
        failure = &own;
    }
    if (error) {
        call_fail(disk->call, failure);
        return;
    }
    content = shown.data ? shown.data : "";
    length = shown.length;
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", disk->workspace_id);
    json_string(&json, "path", path);
    json_unsigned(&json, "size_bytes", size);
    json_integer(&json, "max_bytes", input->max_bytes);
    json_integer(&json, "offset", input->offset);
    bool cut = write_content(&json, content, length, encoding_of(input->encoding),
                             call_text_room(disk->call));
    json_boolean(&json, "truncated", cut || (uint64_t)input->offset + got < size);
    json_object_end(&json);
    reply_with(disk->call, &body, &json);
}

static void read_(struct call *call, const void *arg)
{
    const struct read_input *input = arg;
    struct workspace *workspace;
    struct disk_call *disk = disk_call_new(call, input, input->workspace_id, &workspace);
    if (!disk)
        return;
    size_t before = call_redact_before(call, (uint64_t)input->offset);
    disk_read(workspace, input->path, (uint64_t)input->offset - before,
              before + (size_t)input->max_bytes + call_redact_reach(call), read_done, disk,
              &disk->job);
}

static const char *const export_errors[] = {"workspace_not_found",
                                            "workspace_not_stopped",
                                            "workspace_busy",
                                            "host_path_forbidden",
                                            "host_path_unwritable",
                                            "output_exists",
                                            "forbidden",
                                            "too_many_disk_jobs",
                                            "disk_unreadable",
                                            NULL};
static const char *const view_errors[] = {"workspace_not_found", "workspace_not_stopped",
                                          "workspace_busy",      "bad_path",
                                          "file_not_found",      "wrong_file_type",
                                          "too_many_disk_jobs",  "disk_unreadable",
                                          "disk_timed_out",      NULL};

const struct operation_entry disk_operations[] = {
    {
        .name = "workspace_disk_export",
        .family = "disk",
        .title = "Export a disk",
        .summary = "Gives a stopped workspace's root as one raw ext4 image.",
        .description = "Writes the whole root of a stopped workspace to output_path as one raw "
                       "ext4 image, which can be mounted or booted elsewhere. Stop the workspace "
                       "first. Over REST the image is the reply's body. Does not count as "
                       "activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/disk",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_STREAMS | OPERATION_LONG,
        .status = 200,
        .input = export_input,
        .input_size = sizeof(struct export_input),
        .output = export_output,
        .errors = export_errors,
        .handler = export,
    },
    {
        .name = "workspace_disk_list",
        .family = "disk",
        .title = "List files on a disk",
        .summary = "Lists a directory on a stopped workspace's disk.",
        .description = "Lists any directory of a stopped workspace's root with type, size, mode "
                       "and time, without starting it; truncated says whether there was more than "
                       "limit. Stop the workspace first. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/disk/list",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = list_input,
        .input_size = sizeof(struct list_input),
        .output = list_output,
        .errors = view_errors,
        .handler = list,
    },
    {
        .name = "workspace_disk_read",
        .family = "disk",
        .title = "Read a file on a disk",
        .summary = "Reads a file on a stopped workspace's disk, or a part of it.",
        .description = "Reads a text file anywhere in a stopped workspace's root, without "
                       "starting it; truncated says whether there is more, and offset reads on. "
                       "encoding base64 gives bytes that are no text. Stop the workspace first. "
                       "Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/disk/read",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = read_input,
        .input_size = sizeof(struct read_input),
        .output = read_output,
        .errors = view_errors,
        .handler = read_,
    },
    {0},
};
