/* A shell's output with its times, as asciinema's format has it (asciicast v2,
 * https://docs.asciinema.org/manual/asciicast/v2/): a header line, then one line for each piece. */
#include "api/operations/families.h"
#include "api/operations/views.h"

#include "base/text.h"
#include "supervisord/shell.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const cast_types[] = {"application/x-asciicast", NULL};

struct recording_input {
    const char *workspace_id, *shell_id;
};

static const struct field recording_input[] = {
    WORKSPACE_ID_FIELD(recording_input),
    SHELL_ID_FIELD(recording_input),
    {0},
};

static void write_header(struct buf *body, const struct shell_status *status)
{
    struct json_writer json = JSON_WRITER(body);
    const struct shell_mark *first = status->mark_count ? status->marks : NULL;
    json_object_begin(&json, NULL);
    json_integer(&json, "version", 2);
    json_unsigned(&json, "width", first && first->cols ? first->cols : status->cols);
    json_unsigned(&json, "height", first && first->rows ? first->rows : status->rows);
    json_integer(&json, "timestamp", status->started_at / US_PER_S);
    json_string(&json, "title", status->shell_id);
    json_unsigned(&json, "hearth_lost_characters", status->cursor);
    json_object_end(&json);
    buf_char(body, '\n');
}

static void write_event(struct buf *body, int64_t time_us, const char *kind, const char *data,
                        size_t length)
{
    char time[32];
    struct json_writer json = JSON_WRITER(body);
    snprintf(time, sizeof time, "%" PRId64 ".%06" PRId64, time_us / US_PER_S, time_us % US_PER_S);
    json_array_begin(&json, NULL);
    json_raw(&json, NULL, time);
    json_string(&json, NULL, kind);
    json_bytes(&json, NULL, data, length);
    json_array_end(&json);
    buf_char(body, '\n');
}

/* The guest tells the times: they are taken in order, whatever it says. */
static void write_events(struct buf *body, const struct shell_status *status)
{
    size_t at = 0;
    uint64_t character = status->cursor;
    int64_t time_us = 0;
    unsigned cols = status->mark_count ? status->marks[0].cols : 0;
    unsigned rows = status->mark_count ? status->marks[0].rows : 0;
    for (size_t i = 0; i < status->mark_count && at < status->output_length; i++) {
        const struct shell_mark *mark = &status->marks[i];
        bool last = i + 1 == status->mark_count;
        uint64_t next = last ? UINT64_MAX : mark[1].character;
        char size[32];
        if (mark->time_us > time_us)
            time_us = mark->time_us;
        if (mark->cols != cols || mark->rows != rows) {
            cols = mark->cols;
            rows = mark->rows;
            int length = snprintf(size, sizeof size, "%ux%u", cols, rows);
            write_event(body, time_us, "r", size, (size_t)length);
        }
        if (next <= character)
            continue;
        size_t end = utf8_skip(status->output, status->output_length, at, next - character);
        write_event(body, time_us, "o", status->output + at, end - at);
        at = end;
        character = next;
    }
    if (at < status->output_length)
        write_event(body, time_us, "o", status->output + at, status->output_length - at);
}

static void nothing_more(void *arg)
{
    (void)arg;
}

static void was_read(void *arg, int error, const struct hearth_failure *failure,
                     const struct shell_status *status)
{
    struct call *call = arg;
    auto_buf struct buf body = {0};
    if (error) {
        call_fail(call, failure);
        return;
    }
    write_header(&body, status);
    write_events(&body, status);
    call_stream_begin(call, 200, cast_types[0], (int64_t)body.length, nothing_more, call);
    call_stream_send(call, body.data, body.length);
    call_stream_end(call, true);
}

static void record(struct call *call, const void *arg)
{
    const struct recording_input *input = arg;
    const struct shell_read_spec spec = {.max_characters = SHELL_CHARACTERS_MAX, .marks = true};
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        shell_read(workspace, input->shell_id, &spec, was_read, call);
}

static const char *const record_errors[] = {GUEST_ERRORS, "shell_not_found", NULL};
static const char *const attach_errors[] = {GUEST_ERRORS, "shell_not_found", "upgrade_required",
                                            "agent_unreachable", NULL};

const struct operation_entry shell_stream_operations[] = {
    {
        .name = "shell_recording",
        .family = "shell",
        .title = "Export a shell's recording",
        .summary = "Gives what a shell wrote, with its times, as an asciicast v2.",
        .description = "Answers with lines of JSON as asciinema plays them: what is kept of the "
                       "shell's output, about its newest million bytes, when it came, and changes "
                       "of the terminal's size. The header's hearth_lost_characters tells how many "
                       "before are gone.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/shells/{shell_id}/recording",
        .profile = PROFILE_NONE,
        .surfaces = SURFACE_REST,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG |
                 OPERATION_STREAMS,
        .status = 200,
        .input = recording_input,
        .input_size = sizeof(struct recording_input),
        .output = no_fields,
        .stream_types = cast_types,
        .errors = record_errors,
        .handler = record,
    },
    {
        .name = "shell_attach",
        .family = "shell",
        .title = "Attach to a shell",
        .summary = "Makes the connection a terminal on a shell, by an upgrade to hearth-shell.",
        .description = "With `Connection: Upgrade` and `Upgrade: hearth-shell` the connection "
                       "carries frames of a shell's input, output and size from then on "
                       "(docs/shells.md). The shell goes on when the connection ends.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/shells/{shell_id}/attach",
        .profile = PROFILE_NONE,
        .surfaces = SURFACE_REST,
        .flags = OPERATION_UPGRADE | OPERATION_LONG | OPERATION_STREAMS | OPERATION_OPEN_WORLD,
        .status = 101,
        .input = recording_input,
        .input_size = sizeof(struct recording_input),
        .output = no_fields,
        .errors = attach_errors,
    },
    {0},
};
