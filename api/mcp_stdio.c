/* The stream behind `hearth mcp serve`: one message a line, in over the body of one request and out
 * over the reply of another, so that the command only pumps bytes between them and its standard
 * input and output. POST /mcp/streams?profile= opens it; its first line names the stream;
 * POST /mcp/streams/{stream_id} with a chunked body feeds it. The first request fixes the era. */
#include "api/mcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRACE_US (1 * US_PER_S) /* for what is under way when the input has ended */
#define STREAM_ID_LENGTH 26
#define LINE_TYPE "application/x-ndjson"

struct mcp_stream {
    struct mcp_peer peer;
    struct request_owner output_owner, input_owner;
    struct http_request *output, *input; /* NULL: ended, gone or not there yet */
    char id[STREAM_ID_LENGTH + 1];
    struct list link; // api::mcp_streams
    struct buf lines; /* not served yet: the client reads too slowly, or the last has no end yet */
    size_t scanned;   /* of lines: no end of a line */
    size_t line_max;
    bool skipping; /* the rest of a line that is too long */
    bool over;     /* no more input comes */
    bool ended;    /* and what came is served */
    bool full;     /* enough is queued for the client */
    struct timer timer;
};

static struct mcp_stream *stream_of(const struct mcp_request *request)
{
    return container_of(request->peer, struct mcp_stream, peer);
}

static void send_line(struct mcp_stream *stream, const struct buf *message)
{
    if (!stream->output)
        return;
    http_stream_send(stream->output, message->data, message->length);
    stream->full = !http_stream_send(stream->output, "\n", 1);
    if (stream->input && stream->full)
        http_request_pause_body(stream->input, true);
}

/* The peer's transport. */

static void answer(struct mcp_request *request, enum mcp_code code, struct buf *message)
{
    struct mcp_stream *stream = stream_of(request);
    (void)code;
    send_line(stream, message);
    if (stream->ended && stream->peer.request_count == 1) /* this one was the last */
        timer_set(&stream->timer, clock_monotonic_us());
}

static void announce(struct mcp_peer *peer, const struct buf *message)
{
    struct mcp_stream *stream = container_of(peer, struct mcp_stream, peer);
    if (!stream->full) /* who does not read needs no news */
        send_line(stream, message);
}

static void tell(struct mcp_request *request, const struct buf *message)
{
    announce(request->peer, message);
}

static void drop(struct mcp_request *request)
{
    (void)request; /* by the protocol a cancelled request has no answer */
}

static size_t answer_max(const struct mcp_request *request)
{
    (void)request;
    return SIZE_MAX;
}

static const struct mcp_transport transport = {answer, tell, announce, drop, answer_max};

/* The end. */

static void reply_input(struct mcp_stream *stream)
{
    struct buf empty = {0};
    struct http_request *input = stream->input;
    stream->input = NULL;
    if (!input)
        return;
    http_request_set_data(input, NULL);
    http_reply(input, 204, NULL, &empty);
}

static void finish(struct mcp_stream *stream)
{
    struct http_request *output = stream->output;
    mcp_peer_close(&stream->peer);
    stream->output = NULL;
    if (output) {
        http_request_set_data(output, NULL);
        http_stream_end(output, true);
    }
    reply_input(stream);
    list_remove(&stream->link);
    timer_free(&stream->timer);
    buf_free(&stream->lines);
    free(stream);
}

static void on_timer(void *arg)
{
    finish(arg);
}

static void end_input(struct mcp_stream *stream, int64_t grace_us)
{
    stream->over = stream->ended = true;
    timer_set(&stream->timer, clock_monotonic_us() + (stream->peer.request_count ? grace_us : 0));
}

static void on_output_gone(struct request_owner *owner)
{
    struct mcp_stream *stream = container_of(owner, struct mcp_stream, output_owner);
    stream->output = NULL;
    /* Not from here: the edge is in the midst of it. */
    end_input(stream, 0);
}

static void on_input_gone(struct request_owner *owner)
{
    struct mcp_stream *stream = container_of(owner, struct mcp_stream, input_owner);
    stream->input = NULL;
    end_input(stream, 0);
}

/* Lines. */

static void refuse_line(struct mcp_stream *stream, const char *id, enum mcp_code code,
                        const char *text)
{
    auto_buf struct buf out = {0};
    mcp_write_error(&out, id, code, text, NULL);
    if (out.length)
        send_line(stream, &out);
}

static void take_line(struct mcp_stream *stream, const char *text, size_t length)
{
    struct mcp_message message = {0};
    if (strspn(text, " \t\r") >= length)
        return;
    mcp_message_parse(&message, text, length);
    if (message.kind == MCP_REQUEST && stream->peer.era == MCP_ERA_OPEN)
        stream->peer.era =
            strcmp(message.method, "initialize") != 0 && mcp_message_enveloped(&message)
                ? MCP_ERA_MODERN
                : MCP_ERA_SESSION;
    if (message.kind == MCP_UNREADABLE)
        refuse_line(stream, message.id, message.code, message.fault);
    else
        mcp_serve(&stream->peer, &message, NULL);
    mcp_message_free(&message);
}

/* Serves the next whole line; false: there is none. */
static bool next_line(struct mcp_stream *stream)
{
    const char *text = stream->lines.data;
    size_t length = stream->lines.length;
    const char *newline = length > stream->scanned
                              ? memchr(text + stream->scanned, '\n', length - stream->scanned)
                              : NULL;
    if (!newline) {
        stream->scanned = length;
        return false;
    }
    size_t line = (size_t)(newline - text);
    if (stream->skipping || line > stream->line_max)
        refuse_line(stream, NULL, MCP_INVALID_REQUEST, "the message is longer than it may be");
    else
        take_line(stream, text, line);
    stream->skipping = false;
    stream->scanned = 0;
    buf_consume(&stream->lines, line + 1);
    return true;
}

/* A client that does not read is not served on: its lines wait, and then its input does. */
static void serve_lines(struct mcp_stream *stream)
{
    while (!stream->full && next_line(stream))
        ;
    if (stream->full || stream->ended)
        return;
    if (stream->lines.length > stream->line_max) {
        stream->skipping = true;
        stream->scanned = 0;
        buf_clear(&stream->lines);
    }
    if (stream->over)
        end_input(stream, GRACE_US);
}

static void on_writable(void *arg)
{
    struct mcp_stream *stream = arg;
    stream->full = false;
    serve_lines(stream);
    if (stream->input && !stream->full)
        http_request_pause_body(stream->input, false);
}

static const struct http_stream_events stream_events = {.on_writable = on_writable};

static void on_body(struct request_owner *owner, const void *data, size_t length)
{
    struct mcp_stream *stream = container_of(owner, struct mcp_stream, input_owner);
    if (buf_append(&stream->lines, data, length)) { /* no memory: the message is as if too long */
        stream->skipping = true;
        stream->scanned = 0;
        buf_free(&stream->lines);
    }
    serve_lines(stream);
}

static void on_body_end(struct request_owner *owner)
{
    struct mcp_stream *stream = container_of(owner, struct mcp_stream, input_owner);
    reply_input(stream);
    stream->over = true;
    /* The last line may have no end of its own. */
    if (stream->lines.length)
        buf_char(&stream->lines, '\n');
    serve_lines(stream);
}

/* The routes. */

int mcp_find_profile(struct http_request *request, enum profile *ret_profile,
                     struct hearth_failure *failure)
{
    size_t count;
    const struct http_pair *query = http_request_query(request, &count);
    *ret_profile = PROFILE_CORE;
    for (size_t i = 0; i < count; i++) {
        int error = 0;
        if (strcmp(query[i].name, "profile") != 0)
            error = hearth_fail(failure, HEARTH_EINVALID, "unknown_argument",
                                "profile is what there is");
        else if ((*ret_profile = optable_profile_parse(query[i].value)) == PROFILE_NONE)
            error = hearth_fail(failure, HEARTH_EINVALID, "bad_choice",
                                "/profile: vm-run, workspace-core or workspace-full is wanted");
        if (error) {
            hearth_failure_field(failure, "/profile");
            return error;
        }
    }
    return 0;
}

void mcp_stream_open(struct api *api, struct http_request *request)
{
    struct hearth_failure failure;
    enum profile profile;
    auto_buf struct buf hello = {0};
    struct mcp_stream *stream = NULL;
    int error = mcp_find_profile(request, &profile, &failure);
    if (!error && api->draining)
        error = hearth_fail(&failure, HEARTH_EUNAVAILABLE, NULL, "the daemon is ending");
    if (!error && !(stream = calloc(1, sizeof *stream)))
        error = hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (error) {
        http_reply_problem(request, &failure);
        return;
    }
    mcp_peer_open(&stream->peer, api, &transport, http_request_principal(request), profile);
    stream->output = request;
    stream->output_owner = (struct request_owner){.on_gone = on_output_gone};
    stream->input_owner = (struct request_owner){on_body, on_body_end, on_input_gone};
    stream->line_max = supervisor_config(api->supervisor)->max_body_bytes;
    stream->lines.secret = true;
    id_random_text(stream->id, STREAM_ID_LENGTH);
    timer_init(&stream->timer, supervisor_loop(api->supervisor), on_timer, stream);
    list_init(&stream->link);
    list_append(&api->mcp_streams, &stream->link);
    http_request_set_data(request, &stream->output_owner);
    http_stream_begin(request, 200, LINE_TYPE, -1, &stream_events, stream);
    buf_printf(&hello, "{\"stream_id\":\"%s\",\"line_max\":%zu}", stream->id, stream->line_max);
    send_line(stream, &hello);
}

static struct mcp_stream *find_stream(const struct api *api, const struct principal *principal,
                                      const char *id)
{
    list_for_each(cursor, next, &api->mcp_streams)
    {
        struct mcp_stream *stream = container_of(cursor, struct mcp_stream, link);
        const struct principal *owner = &stream->peer.principal;
        if (strcmp(stream->id, id) == 0 && owner->tenant == principal->tenant &&
            strcmp(owner->token_id, principal->token_id) == 0)
            return stream;
    }
    return NULL;
}

void mcp_stream_feed(struct api *api, struct http_request *request, const char *stream_id)
{
    struct hearth_failure failure;
    struct mcp_stream *stream = find_stream(api, http_request_principal(request), stream_id);
    if (!stream || stream->over) {
        hearth_fail(&failure, HEARTH_ENOTFOUND, "stream_not_found", "there is no such stream");
        http_reply_problem(request, &failure);
    } else if (stream->input) {
        hearth_fail(&failure, HEARTH_ECONFLICT, "stream_is_fed", "the stream is fed already");
        http_reply_problem(request, &failure);
    } else {
        stream->input = request;
        http_request_long(request);
        http_request_set_data(request, &stream->input_owner);
    }
}

void mcp_streams_drain(struct api *api)
{
    list_for_each(cursor, next, &api->mcp_streams)
        finish(container_of(cursor, struct mcp_stream, link));
}
