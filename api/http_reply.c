#include "api/http_internal.h"

#include "api/problem.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_AFTER_S "1"

/* Calls visit for each header of the reply but those that frame it. */
static void each_header(const struct http_request *request, int status, const char *content_type,
                        void (*visit)(void *arg, const char *name, const char *value), void *arg)
{
    bool own = !request || !request->relayed;
    if (content_type)
        visit(arg, "Content-Type", content_type);
    if (own) {
        visit(arg, "Cache-Control", "no-store");
        visit(arg, "X-Content-Type-Options", "nosniff");
    }
    if (own && status == 401)
        visit(arg, "WWW-Authenticate", "Bearer");
    if (own && (status == 429 || status == 503))
        visit(arg, "Retry-After", RETRY_AFTER_S);
    if (!request)
        return;
    visit(arg, "X-Request-Id", request->id);
    const struct buf *out = &request->headers_out;
    for (size_t at = 0; at < out->length;) {
        const char *name = out->data + at, *value = name + strlen(name) + 1;
        visit(arg, name, value);
        at = (size_t)(value - out->data) + strlen(value) + 1;
    }
}

static void add_to_response(void *arg, const char *name, const char *value)
{
    MHD_add_response_header(arg, name, value);
}

static void add_to_text(void *arg, const char *name, const char *value)
{
    buf_printf(arg, "%s: %s\r\n", name, value);
}

static void problem_body(struct buf *out, const struct hearth_failure *failure,
                         const char *request_id)
{
    struct json_writer json = JSON_WRITER(out);
    problem_write(&json, NULL, failure, request_id);
}

static bool send_whole(int fd, const struct buf *text)
{
    return send(fd, text->data, text->length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)text->length;
}

static void raw_text(struct buf *out, const struct http_request *request, int status,
                     const char *content_type, const char *body, size_t length)
{
    const char *reason = MHD_get_reason_phrase_for((unsigned)status);
    buf_printf(out, "HTTP/1.1 %d %s\r\n", status, reason ? reason : "Error");
    each_header(request, status, content_type, add_to_text, out);
    buf_printf(out, "Content-Length: %zu\r\nConnection: close\r\n\r\n", length);
    buf_append(out, body, length);
}

void http_reply_raw(struct http_connection *connection, struct http_request *request, int status,
                    const char *content_type, const char *body, size_t length)
{
    auto_buf struct buf text = {0};
    raw_text(&text, request, status, content_type, body, length);
    bool sent = send_whole(connection->fd, &text);
    if (request) {
        request->status = status;
        request->bytes_out = length;
        request->handler_done = true;
        request->stage = HTTP_STAGE_DEAD;
        http_request_resume(request);
    }
    if (!sent) {
        http_connection_cut(connection);
        return;
    }
    /* The client may be writing still and would lose the reply to a reset: its bytes are dropped
     * for a while. */
    shutdown(connection->fd, SHUT_WR);
    connection->phase = HTTP_PHASE_LINGER;
    http_connection_set_deadline(connection, clock_monotonic_us() + HTTP_LINGER_US);
}

void http_reply_raw_problem(struct http_connection *connection, struct http_request *request,
                            const struct hearth_failure *failure)
{
    auto_buf struct buf body = {0};
    problem_body(&body, failure, request ? request->id : NULL);
    connection->server->stats.refused++;
    http_reply_raw(connection, request, problem_status(failure), PROBLEM_MEDIA_TYPE, body.data,
                   body.length);
}

void http_reply_refuse(int fd, const struct hearth_failure *failure)
{
    auto_buf struct buf body = {0}, text = {0};
    char sink[4096];
    problem_body(&body, failure, NULL);
    raw_text(&text, NULL, problem_status(failure), PROBLEM_MEDIA_TYPE, body.data, body.length);
    send_whole(fd, &text);
    /* Closing with unread bytes is a reset. */
    shutdown(fd, SHUT_WR);
    while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) == (ssize_t)sizeof sink)
        ;
    close(fd);
}

void http_request_header_out(struct http_request *request, const char *name, const char *value)
{
    /* Bytes that end a line would let a value write headers of its own. */
    if (strpbrk(value, "\r\n"))
        return;
    buf_append(&request->headers_out, name, strlen(name) + 1);
    buf_append(&request->headers_out, value, strlen(value) + 1);
}

void http_reply_take_response(struct http_request *request, int status, const char *content_type,
                              struct MHD_Response *response)
{
    if (!response) {
        http_connection_cut(request->connection);
        return;
    }
    each_header(request, status, content_type, add_to_response, response);
    if (!request->upgrade.events && (request->close || request->connection->server->draining))
        MHD_add_response_header(response, "Connection", "close");
    request->status = status;
    request->response = response;
    http_request_resume(request);
}

enum MHD_Result http_reply_queue(struct http_request *request)
{
    request->stage = HTTP_STAGE_REPLYING;
    struct MHD_Response *response = request->response;
    request->response = NULL;
    enum MHD_Result result =
        MHD_queue_response(request->connection->mhd, (unsigned)request->status, response);
    MHD_destroy_response(response);
    return result;
}

/* Takes body's bytes. */
static void reply(struct http_request *request, int status, const char *content_type,
                  struct buf *body)
{
    request->handler_done = true;
    if (request->stage == HTTP_STAGE_BODY && !request->in_head_callback) {
        http_reply_raw(request->connection, request, status, content_type, body->data,
                       body->length);
        buf_free(body);
        return;
    }
    if (request->is_long) {
        /* What is left is to send it, and that has an end. */
        request->is_long = false;
        request->total_deadline_us =
            clock_monotonic_us() + request->connection->server->request_timeout_us;
        http_request_step(request, false);
    }
    size_t length = request->bytes_out = body->length;
    char *data = buf_steal(body);
    struct MHD_Response *response =
        data ? MHD_create_response_from_buffer(length, data, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response)
        free(data);
    http_reply_take_response(request, status, content_type, response);
}

void http_reply(struct http_request *request, int status, const char *content_type,
                struct buf *body)
{
    if (request->handler_done) {
        log_error("http_reply_twice", "request_id=%s", request->id);
        buf_free(body);
        return;
    }
    reply(request, status, content_type, body);
}

void http_reply_problem(struct http_request *request, const struct hearth_failure *failure)
{
    struct buf body = {0};
    problem_body(&body, failure, request->id);
    http_reply(request, problem_status(failure), PROBLEM_MEDIA_TYPE, &body);
}

void http_reply_own_problem(struct http_request *request, const struct hearth_failure *failure)
{
    struct buf body = {0};
    problem_body(&body, failure, request->id);
    request->connection->server->stats.refused++;
    reply(request, problem_status(failure), PROBLEM_MEDIA_TYPE, &body);
}
