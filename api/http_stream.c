/* Replies that are written bit by bit: what is sent is queued here, and libmicrohttpd's reader
 * takes it as the client does. With nothing queued the connection is suspended: a reader that
 * gives nothing without it would be asked again at once, for ever. */
#include "api/http_internal.h"

#include <string.h>
#include <sys/socket.h>

#define BLOCK_SIZE 65536

/* A reader's own way to break off leaves libmicrohttpd 0.9.75 with a connection that it closes and
 * does not free before all older ones have gone. One that cannot be written to it frees at once. */
static ssize_t break_off(const struct http_request *request, char *out)
{
    shutdown(request->connection->fd, SHUT_RDWR);
    *out = '\0';
    return 1;
}

static ssize_t read_queue(void *arg, uint64_t position, char *out, size_t size)
{
    (void)position;
    struct http_request *request = arg;
    struct http_stream *stream = &request->stream;
    if (request->stage == HTTP_STAGE_DEAD)
        return break_off(request, out);
    size_t left = stream->queue.length - stream->sent;
    if (left) {
        size_t taken = left < size ? left : size;
        memcpy(out, stream->queue.data + stream->sent, taken);
        stream->sent += taken;
        request->bytes_out += taken;
        request->connection->server->moved += taken;
        if (stream->sent == stream->queue.length) {
            buf_clear(&stream->queue);
            stream->sent = 0;
        }
        http_request_step(request, true);
        if (stream->full && left - taken <= HTTP_STREAM_LOW) {
            stream->full = false;
            if (!request->handler_done && stream->events && stream->events->on_writable)
                stream->events->on_writable(stream->arg);
        }
        return (ssize_t)taken;
    }
    if (stream->ended)
        return stream->ok ? MHD_CONTENT_READER_END_OF_STREAM : break_off(request, out);
    if (request->connection->peer_gone || request->connection->peer_half_closed) {
        http_request_tell_gone(request);
        return break_off(request, out);
    }
    http_request_step(request, false);
    http_request_suspend(request);
    return 0;
}

void http_stream_free(struct http_stream *stream)
{
    buf_free(&stream->queue);
}

void http_stream_begin(struct http_request *request, int status, const char *content_type,
                       int64_t length, const struct http_stream_events *events, void *arg)
{
    struct http_stream *stream = &request->stream;
    if (request->handler_done || request->response || stream->started)
        return;
    stream->started = true;
    stream->events = events;
    stream->arg = arg;
    http_request_long(request);
    http_reply_take_response(
        request, status, content_type,
        MHD_create_response_from_callback(length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)length,
                                          BLOCK_SIZE, read_queue, request, NULL));
}

bool http_stream_send(struct http_request *request, const void *data, size_t length)
{
    struct http_stream *stream = &request->stream;
    if (request->handler_done || stream->ended)
        return false;
    if (stream->sent > stream->queue.length / 2) {
        buf_consume(&stream->queue, stream->sent);
        stream->sent = 0;
    }
    if (buf_append(&stream->queue, data, length) < 0) {
        http_connection_cut(request->connection);
        return false;
    }
    if (request->stage == HTTP_STAGE_REPLYING)
        http_request_resume(request);
    stream->full = stream->queue.length - stream->sent >= HTTP_STREAM_HIGH;
    return !stream->full;
}

void http_stream_end(struct http_request *request, bool ok)
{
    struct http_stream *stream = &request->stream;
    if (request->handler_done)
        return;
    request->handler_done = true;
    stream->ended = true;
    stream->ok = ok;
    if (request->stage == HTTP_STAGE_REPLYING)
        http_request_resume(request);
}
