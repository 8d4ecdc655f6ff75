#include "api/operations/file_read.h"

#include "api/operations/views.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES (1 << 20)
#define MASKED_PIECE ((size_t)1 << 20) /* of a download with secrets to be looked for */

const struct field file_read_input[] = {
    WORKSPACE_ID_FIELD(file_read_input),
    {.name = "path",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .flags = FIELD_REQUIRED,
     .maximum = 4095,
     .description = "File to read; relative paths are under /workspace.",
     .offset = offsetof(struct file_read_input, path)},
    {.name = "max_bytes",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 1,
     .maximum = MAX_BYTES,
     .default_json = "65536",
     .description = "Bytes to read at most.",
     .offset = offsetof(struct file_read_input, max_bytes)},
    {.name = "offset",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 0,
     .maximum = INT64_C(1) << 50,
     .default_json = "0",
     .description = "Byte to begin at.",
     .offset = offsetof(struct file_read_input, offset)},
    ENCODING_FIELD(file_read_input, PLACE_QUERY),
    {0},
};

const struct field file_read_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "path", .type = FIELD_STRING, .description = "Path in the guest."},
    {.name = "size_bytes", .type = FIELD_INTEGER, .description = "Size of the whole file."},
    {.name = "max_bytes", .type = FIELD_INTEGER, .description = "As asked for."},
    {.name = "offset", .type = FIELD_INTEGER, .description = "As asked for."},
    {.name = "content",
     .type = FIELD_STRING,
     .description = "The content in the encoding asked for."},
    {.name = "truncated", .type = FIELD_BOOLEAN, .description = "There is more after this."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    {0},
};

struct reading {
    struct call *call;
    struct file_transfer *transfer; /* NULL once ended */
    const struct file_read_input *input;
    const char *execution_mode;
    struct buf content; /* with what is around it, until it is told */
    size_t before;      /* bytes of content before what was asked for */
    uint64_t size;
    char path[4200];
    int error; /* of ours */
    /* As bytes. */
    bool raw, begun, ranged;
    uint64_t first, length; /* length 0: to the end */
    uint64_t left;          /* to be sent */
    size_t seen;            /* bytes of content that are there only to be looked through */
};

static void out_of_memory(struct reading *reading)
{
    struct hearth_failure failure;
    buf_free(&reading->content);
    hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    call_fail(reading->call, &failure);
}

static void as_text(struct reading *reading)
{
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    size_t got;
    if (call_redact_part(reading->call, &reading->content, reading->before,
                         (size_t)reading->input->max_bytes, &got)) {
        out_of_memory(reading);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", reading->input->workspace_id);
    json_string(&json, "path", reading->path);
    json_unsigned(&json, "size_bytes", reading->size);
    json_integer(&json, "max_bytes", reading->input->max_bytes);
    json_integer(&json, "offset", reading->input->offset);
    bool cut = write_content(&json, reading->content.data ? reading->content.data : "",
                             reading->content.length, encoding_of(reading->input->encoding),
                             call_text_room(reading->call));
    json_boolean(&json, "truncated", cut || (uint64_t)reading->input->offset + got < reading->size);
    json_string(&json, "execution_mode", reading->execution_mode);
    json_object_end(&json);
    buf_free(&reading->content);
    reply_with(reading->call, &body, &json);
}

static void begin_raw(struct reading *reading)
{
    char text[96];
    reading->begun = true;
    call_header(reading->call, "Accept-Ranges", "bytes");
    if (reading->ranged) {
        snprintf(text, sizeof text, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, reading->first,
                 reading->first + reading->length - 1, reading->size);
        call_header(reading->call, "Content-Range", text);
    }
}

static void on_room(void *arg)
{
    struct reading *reading = arg;
    if (reading->transfer)
        file_transfer_pause(reading->transfer, false);
}

static void on_entry(void *arg, const struct file_entry *entry)
{
    struct reading *reading = arg;
    reading->size = entry->size;
    snprintf(reading->path, sizeof reading->path, "%s", entry->path);
    if (!reading->raw)
        return;
    if (reading->ranged && reading->first >= entry->size) {
        reading->error = HEARTH_EINVALID;
        return;
    }
    uint64_t left = entry->size - reading->first;
    if (!reading->ranged || reading->length == 0 || reading->length > left)
        reading->length = left;
    reading->left = reading->length;
    begin_raw(reading);
    call_stream_begin(reading->call, reading->ranged ? 206 : 200, "application/octet-stream",
                      (int64_t)reading->length, on_room, reading);
}

static bool send_bytes(struct reading *reading, const char *data, size_t length)
{
    size_t size = length < reading->left ? length : (size_t)reading->left;
    reading->left -= size;
    return !size || call_stream_send(reading->call, data, size);
}

/* Sends what is known of the content, secrets masked: at the end all of it, else what lies so far
 * from where the rest will come that no secret reaches there. What was sent is kept as long as one
 * may begin in it. */
static int send_masked(struct reading *reading, bool end, bool *ret_room)
{
    size_t reach = call_redact_reach(reading->call), length = reading->content.length;
    size_t until = end ? length : length > reach ? length - reach : 0;
    if (until <= reading->seen)
        return 0;
    auto_buf struct buf copy = {.limit = SIZE_MAX};
    int error = buf_append(&copy, reading->content.data, length);
    if (!error)
        error = call_redact_mask(reading->call, copy.data, length);
    if (error)
        return error;
    *ret_room = send_bytes(reading, copy.data + reading->seen, until - reading->seen);
    size_t gone = until > reach ? until - reach : 0;
    buf_consume(&reading->content, gone);
    reading->seen = until - gone;
    return 0;
}

static void on_data(void *arg, const void *data, size_t length)
{
    struct reading *reading = arg;
    bool room = true;
    if (!reading->raw || call_redact_reach(reading->call)) {
        if (!reading->error)
            reading->error = buf_append(&reading->content, data, length);
        if (!reading->raw || reading->error || reading->content.length < MASKED_PIECE)
            return;
        reading->error = send_masked(reading, false, &room);
    } else if (reading->begun) {
        room = send_bytes(reading, data, length);
    }
    if (!room)
        file_transfer_pause(reading->transfer, true);
}

static void on_end(void *arg, int error, const struct hearth_failure *failure)
{
    struct reading *reading = arg;
    struct hearth_failure own;
    reading->transfer = NULL;
    if (reading->begun) {
        bool room;
        if (!error && !reading->error)
            reading->error = send_masked(reading, true, &room);
        buf_free(&reading->content);
        call_stream_end(reading->call, error == 0 && !reading->error);
        return;
    }
    if (!error && reading->error) {
        if (reading->raw) {
            char size[32];
            snprintf(size, sizeof size, "bytes */%" PRIu64, reading->size);
            call_header(reading->call, "Content-Range", size);
            hearth_fail(&own, HEARTH_EINVALID, "range_not_satisfiable",
                        "the file has %" PRIu64 " bytes", reading->size);
        } else {
            hearth_fail(&own, (enum hearth_error)reading->error, NULL, "out of memory");
        }
        error = reading->error;
        failure = &own;
    }
    if (error) {
        buf_free(&reading->content);
        call_fail(reading->call, failure);
    } else {
        as_text(reading);
    }
}

static const struct file_read_events events = {
    .on_entry = on_entry, .on_data = on_data, .on_end = on_end};

static void gone(void *arg)
{
    struct reading *reading = arg;
    struct hearth_failure failure;
    if (!reading->transfer)
        return;
    file_transfer_abort(reading->transfer);
    buf_free(&reading->content);
    if (reading->begun) {
        call_stream_end(reading->call, false);
        return;
    }
    hearth_fail(&failure, HEARTH_ECANCELLED, NULL, "the client went away");
    call_fail(reading->call, &failure);
}

/* One range of bytes, first and maybe last (RFC 9110, 14.2); what is none, or many, is as if not
 * there. */
static bool parse_range(const char *text, uint64_t *ret_first, uint64_t *ret_length)
{
    unsigned long long first, last;
    int used = 0;
    if (!text || strncmp(text, "bytes=", 6) != 0 || !isdigit((unsigned char)text[6]) ||
        strlen(text) > 48)
        return false;
    text += 6;
    if (sscanf(text, "%18llu-%18llu%n", &first, &last, &used) == 2 && !text[used] &&
        last >= first) {
        *ret_first = first;
        *ret_length = last - first + 1;
        return true;
    }
    used = 0;
    if (sscanf(text, "%18llu-%n", &first, &used) == 1 && used && !text[used]) {
        *ret_first = first;
        *ret_length = 0;
        return true;
    }
    return false;
}

static const char *const types[] = {"application/json", "application/octet-stream", NULL};

void file_read(struct call *call, const void *arg)
{
    const struct file_read_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct reading *reading = workspace ? call_allocate(call, sizeof *reading) : NULL;
    if (!workspace)
        return;
    if (!reading) {
        struct hearth_failure failure;
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        call_fail(call, &failure);
        return;
    }
    *reading = (struct reading){
        .call = call, .input = input, .execution_mode = execution_mode_of(workspace)};
    uint64_t offset = (uint64_t)input->offset, length = (uint64_t)input->max_bytes;
    if (call_can_stream(call) && call_accepts(call, types) == types[1]) {
        reading->raw = true;
        /* If-Range names a version that a part is to be of; files have none that could be named. */
        reading->ranged =
            !call_header_in(call, "If-Range") &&
            parse_range(call_header_in(call, "Range"), &reading->first, &reading->length);
        offset = reading->first;
        length = reading->length;
    }
    if (call_shows_nothing(call)) {
        call_fail(call, &HEARTH_FAILURE_NONE);
        return;
    }
    reading->before = call_redact_before(call, offset);
    reading->seen = reading->before;
    if (length)
        length += reading->before + call_redact_reach(call);
    reading->content.limit = SIZE_MAX;
    call_on_gone(call, gone, reading);
    files_read(workspace, input->path, offset - reading->before, length, &events, reading,
               &reading->transfer);
}
