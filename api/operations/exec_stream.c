#include "api/operations/exec_stream.h"

#include "api/operations/stream_object.h"
#include "api/operations/views.h"
#include "api/problem.h"
#include "base/clock.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define READ_WAIT_MS 30000

/* One read is asked at a time, and the next only when the client has taken what came: its credit.
 */
struct streaming {
    struct call *call;
    struct exec_wait *wait;
    char workspace_id[ID_SIZE], exec_id[ID_SIZE], cursor[48];
    int64_t until_us; /* by the monotonic clock; 0: the command's end */
    bool events;      /* server-sent */
    bool bytes;       /* base64 was asked for */
    bool begun, full, paused;
    bool lost; /* a gap was told */
};

/* Milliseconds that the client still waits for the command's end. */
static int64_t wait_left(const struct streaming *streaming)
{
    int64_t left =
        streaming->until_us ? (streaming->until_us - clock_monotonic_us()) / 1000 : READ_WAIT_MS;
    return left < 0 ? 0 : left < READ_WAIT_MS ? left : READ_WAIT_MS;
}

static void send_event(struct streaming *streaming, const char *type, struct buf *body)
{
    streaming->full = !stream_object(streaming->call, streaming->events, type, NULL, body);
}

static void send_piece(struct streaming *streaming, const char *type, const char *data,
                       size_t length)
{
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (!length)
        return;
    json_object_begin(&json, NULL);
    json_string(&json, "type", type);
    if (!streaming->bytes && utf8_valid(data, length)) {
        json_bytes(&json, "data", data, length);
    } else {
        json_string(&json, "encoding", "base64");
        json_base64(&json, "data", data, length);
    }
    json_object_end(&json);
    send_event(streaming, type, &body);
}

/* Where a hole or the end has cut a character, what is left of it goes by itself: the text beside
 * it stays text. */
static void send_output(struct streaming *streaming, const char *type, const char *data,
                        size_t length)
{
    size_t begun = utf8_begun(data, length), rest = 0;
    while (rest < 3 && rest < length - begun && ((unsigned char)data[rest] & 0xc0) == 0x80)
        rest++;
    if (streaming->bytes || !utf8_valid(data + rest, length - rest - begun)) {
        send_piece(streaming, type, data, length);
        return;
    }
    send_piece(streaming, type, data, rest);
    send_piece(streaming, type, data + rest, length - rest - begun);
    send_piece(streaming, type, data + (length - begun), begun);
}

static void send_gap(struct streaming *streaming, const char *stream, uint64_t omitted)
{
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (!omitted)
        return;
    streaming->lost = true;
    json_object_begin(&json, NULL);
    json_string(&json, "type", "gap");
    json_string(&json, "stream", stream);
    json_unsigned(&json, "lost_bytes", omitted);
    json_object_end(&json);
    send_event(streaming, "gap", &body);
}

static void send_stream(struct streaming *streaming, const char *type, const char *data,
                        size_t length, size_t head, uint64_t omitted)
{
    send_output(streaming, type, data, head);
    send_gap(streaming, type, omitted);
    send_output(streaming, type, data + head, length - head);
}

static void send_problem(struct streaming *streaming, const struct hearth_failure *failure)
{
    auto_buf struct buf problem = {0}, body = {0};
    struct json_writer json = JSON_WRITER(&problem);
    problem_write(&json, NULL, failure, call_request_id(streaming->call));
    /* The problem's members, but for its own type: that is the event's here. */
    const char *rest = json.error ? NULL : strchr(problem.data, ',');
    if (!rest || buf_printf(&body, "{\"type\":\"error\"%s", rest) ||
        call_redact_json(streaming->call, &body))
        return;
    send_event(streaming, "error", &body);
}

static void send_status(struct streaming *streaming, const char *type, struct workspace *workspace,
                        const struct exec_status *status)
{
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    json_object_begin(&json, NULL);
    json_string(&json, "type", type);
    write_exec(&json, workspace, status, ENCODING_UTF8, 0);
    json_object_end(&json);
    if (!json.error && !call_redact_json(streaming->call, &body))
        send_event(streaming, type, &body);
}

static void read_on(struct streaming *streaming);

static void told(void *arg, int error, const struct hearth_failure *failure,
                 const struct exec_status *status)
{
    struct streaming *streaming = arg;
    struct call *call = streaming->call;
    struct hearth_failure gone;
    struct workspace *workspace =
        error ? NULL : workspace_find(call_principal(call), streaming->workspace_id, &gone);
    streaming->wait = NULL;
    if (!error && !workspace)
        failure = &gone;
    if (!workspace && !streaming->begun) { /* as good as an answer without a stream */
        call_on_gone(call, NULL, NULL);
        call_fail(call, failure);
        return;
    }
    if (!workspace) {
        send_problem(streaming, failure);
        call_stream_end(call, true);
        return;
    }
    if (!streaming->begun) {
        struct exec_status first = *status;
        memcpy(first.cursor, "0.0", sizeof "0.0"); /* what there is already follows */
        send_status(streaming, "started", workspace, &first);
    }
    streaming->begun = true;
    send_stream(streaming, "stdout", status->stdout_data, status->stdout_length,
                status->stdout_head, status->stdout_omitted);
    send_stream(streaming, "stderr", status->stderr_data, status->stderr_length,
                status->stderr_head, status->stderr_omitted);
    memcpy(streaming->cursor, status->cursor, sizeof streaming->cursor);
    if (!status->running || !wait_left(streaming)) {
        struct exec_status last = *status; /* past the cursor: whether all before it was told */
        last.truncated |= streaming->lost;
        send_status(streaming, status->running ? "running" : "exit", workspace, &last);
        call_stream_end(call, true);
        return;
    }
    if (streaming->full)
        streaming->paused = true;
    else
        read_on(streaming);
}

static void read_on(struct streaming *streaming)
{
    struct hearth_failure failure;
    struct workspace *workspace =
        workspace_find(call_principal(streaming->call), streaming->workspace_id, &failure);
    if (!workspace) {
        send_problem(streaming, &failure);
        call_stream_end(streaming->call, true);
        return;
    }
    exec_read(workspace, streaming->exec_id, streaming->cursor, (int)wait_left(streaming), false,
              told, streaming, &streaming->wait);
}

static void room(void *arg)
{
    struct streaming *streaming = arg;
    streaming->full = false;
    if (!streaming->paused)
        return;
    streaming->paused = false;
    read_on(streaming);
}

static void nobody_waits(void *arg, int error, const struct hearth_failure *failure,
                         const struct exec_status *status)
{
    (void)arg;
    (void)error;
    (void)failure;
    (void)status;
}

void exec_cancel_for_nobody(struct call *call, const char *workspace_id, const char *exec_id)
{
    struct hearth_failure failure;
    if (call_is_cut_off(call))
        return; /* it goes on, as when the daemon is killed */
    struct workspace *workspace = workspace_find(call_principal(call), workspace_id, &failure);
    if (workspace)
        exec_cancel(workspace, NULL, NULL, exec_id, nobody_waits, NULL);
}

static void gone(void *arg)
{
    struct streaming *streaming = arg;
    if (!streaming->until_us)
        exec_cancel_for_nobody(streaming->call, streaming->workspace_id, streaming->exec_id);
    if (streaming->wait)
        exec_wait_cancel(streaming->wait);
    call_stream_end(streaming->call, false);
}

/* The first answer says whether it could be begun: only then is the reply's status known. */
static void begun(void *arg, int error, const struct hearth_failure *failure,
                  const struct exec_status *status)
{
    struct streaming *streaming = arg;
    if (!error)
        call_stream_begin(streaming->call, 200, stream_types[streaming->events], -1, room,
                          streaming);
    told(streaming, error, failure, status);
}

void exec_stream(struct call *call, struct workspace *workspace, const char *workspace_id,
                 const struct exec_spec *spec, enum text_encoding encoding, int wait_ms)
{
    struct streaming *streaming = call_allocate_or_fail(call, sizeof *streaming);
    const char *type = call_accepts(call, stream_types);
    if (!streaming)
        return;
    streaming->call = call;
    streaming->events = type == stream_types[1];
    streaming->bytes = encoding == ENCODING_BASE64;
    streaming->until_us = wait_ms < 0 ? 0 : clock_monotonic_us() + (int64_t)wait_ms * 1000;
    memcpy(streaming->workspace_id, workspace_id, strlen(workspace_id) + 1);
    call_on_gone(call, gone, streaming);
    exec_start(workspace, call_principal(call), spec, 0, begun, streaming, &streaming->wait);
    memcpy(streaming->exec_id, exec_wait_id(streaming->wait), sizeof streaming->exec_id);
}
