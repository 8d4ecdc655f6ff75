/* A request from its first line to its reply. libmicrohttpd calls on_access for the whole head,
 * for each piece of body, and for the end; see http_internal.h for what is allowed when. */
#include "api/http_internal.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char edge_methods[] = "GET, HEAD, POST, PUT, PATCH, DELETE";

void *http_request_on_uri(void *arg, const char *uri, struct MHD_Connection *mhd)
{
    struct http_server *server = arg;
    struct http_connection *connection =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    size_t length = uri ? strlen(uri) : 0;
    struct http_request *request = calloc(1, sizeof *request + 2 * (length + 1));
    if (!request)
        return NULL;
    request->connection = connection;
    list_init(&request->body_link);
    request->target_length = length;
    if (length) {
        memcpy(request->target_text, uri, length);
        memcpy(request->target_text + length + 1, uri, length);
    }
    int64_t now = clock_monotonic_us();
    request->started_us = now;
    request->total_deadline_us = now + server->request_timeout_us;
    snprintf(request->id, sizeof request->id, "%s%" PRIx64, server->id_prefix, ++server->id_count);
    if (connection->phase != HTTP_PHASE_HEAD) {
        connection->phase = HTTP_PHASE_HEAD;
        http_connection_set_deadline(connection, now + server->head_timeout_us);
    }
    connection->request = request;
    server->stats.requests++;
    return request;
}

static enum http_method method_of(const char *text)
{
    static const struct {
        const char *text;
        enum http_method method;
    } methods[] = {
        {"GET", HTTP_GET}, {"POST", HTTP_POST},   {"HEAD", HTTP_HEAD},
        {"PUT", HTTP_PUT}, {"PATCH", HTTP_PATCH}, {"DELETE", HTTP_DELETE},
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (!strcmp(text, methods[i].text))
            return methods[i].method;
    }
    return HTTP_OTHER;
}

struct header_walk {
    struct guard_head *head;
    struct hearth_failure *failure;
    int error;
};

static enum MHD_Result visit_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                    size_t name_length, const char *value, size_t value_length)
{
    (void)kind;
    struct header_walk *walk = arg;
    /* Both lie in the received line. A folded line breaks that, and shows as an odd distance. */
    uintptr_t name_end = (uintptr_t)name + name_length;
    size_t blanks = value ? (size_t)((uintptr_t)value - name_end) : 0;
    walk->error = guard_head_add(walk->head, name, name_length, value ? value : "", value_length,
                                 blanks, walk->failure);
    return walk->error ? MHD_NO : MHD_YES;
}

/* Everything that makes a head unfit to be read at all. */
static int check_head(struct http_request *request, const char *method, const char *version,
                      struct hearth_failure *failure)
{
    struct http_connection *connection = request->connection;
    struct header_walk walk = {.head = &request->head, .failure = failure};
    MHD_get_connection_values_n(connection->mhd, MHD_HEADER_KIND, visit_header, &walk);
    if (request->head.request_id && guard_request_id_valid(request->head.request_id))
        snprintf(request->id, sizeof request->id, "%s", request->head.request_id);
    if (walk.error)
        return walk.error;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t line_length = strlen(method) + 1 + request->target_length + 1 + strlen(version);
    int error = guard_head_check(&request->head, version, line_length, info->header_size, failure);
    if (error)
        return error;
    if (request->method == HTTP_OTHER && request->target_text[0] != '/') {
        /* CONNECT and OPTIONS * have no path to route. */
        http_request_header_out(request, "Allow", edge_methods);
        return hearth_fail(failure, HEARTH_EMALFORMED, "method_not_allowed",
                           "this method is not served here");
    }
    return guard_path_parse(request->target_text, &request->target, &request->query_text, failure);
}

static int authenticate(struct http_request *request, struct hearth_failure *failure)
{
    struct http_connection *connection = request->connection;
    struct http_server *server = connection->server;
    if (!request->head.authorization && connection->local) {
        int error = tenant_authenticate_peer(server->supervisor, connection->uid,
                                             &request->principal, failure);
        request->identified = !error;
        return error;
    }
    const char *token =
        request->head.authorization ? guard_bearer(request->head.authorization) : NULL;
    int error =
        tenant_authenticate(server->supervisor, token ? token : "", &request->principal, failure);
    if (error)
        return error;
    request->identified = true;
    if (!http_bucket_enter(server, &connection->token_bucket, request->principal.token_id)) {
        request->close = true;
        return hearth_fail(failure, HEARTH_EQUOTA, "too_many_connections",
                           "this token has as many connections as it may have");
    }
    return 0;
}

static int check_body(struct http_request *request, uint64_t length, struct hearth_failure *failure)
{
    if (request->plan.body == HTTP_BODY_NONE && length)
        return hearth_fail(failure, HEARTH_EMALFORMED, "unexpected_body",
                           "this request takes no body");
    if (length != UINT64_MAX && length > request->plan.body_limit)
        return hearth_fail(failure, HEARTH_ETOOLARGE, "body_too_large",
                           "the body has %" PRIu64 " bytes and may have %" PRIu64, length,
                           request->plan.body_limit);
    return 0;
}

static int admit(struct http_request *request, struct hearth_failure *failure)
{
    struct http_server *server = request->connection->server;
    int error = guard_origin(&request->head, request->connection->port, server->allowed_hosts,
                             server->allowed_origins, failure);
    if (!error)
        error = server->handler->on_head(server->handler_arg, request, &request->plan, failure);
    if (!error && request->query_text && !request->plan.raw_query) {
        error = guard_query_parse(request->query_text, &request->target, failure);
        request->close = request->close || error;
    }
    if (!error && !request->plan.anonymous)
        error = authenticate(request, failure);
    if (!error)
        error = check_body(request, guard_body_length(&request->head), failure);
    return error;
}

/* There is a reply at the end of the head. Queued at once it ends the connection, so where the
 * rest is short it is read first. */
static enum MHD_Result reply_at_head(struct http_request *request)
{
    uint64_t length = guard_body_length(&request->head);
    if (!request->response)
        return MHD_NO;
    if (!request->close && length <= HTTP_DISCARD_MAX && !(length && request->head.expect)) {
        request->stage = HTTP_STAGE_DISCARD;
        http_request_step(request, length > 0);
        return MHD_YES;
    }
    return http_reply_queue(request);
}

static enum MHD_Result take_head(struct http_request *request, const char *method,
                                 const char *version)
{
    struct http_connection *connection = request->connection;
    struct http_server *server = connection->server;
    struct hearth_failure failure;
    request->method = method_of(method);
    request->method_text = method;
    connection->phase = HTTP_PHASE_REQUEST;
    request->in_head_callback = true;
    int error = check_head(request, method, version, &failure);
    if (error) {
        request->close = true; /* where the next request begins is anybody's guess */
    } else {
        error = admit(request, &failure);
    }
    bool too_large = error == HEARTH_ETOOLARGE && !request->close && !request->head.expect;
    if (too_large) { /* its client writes still, and would not see a reply before a reset */
        http_reply_raw_problem(connection, request, &failure);
    } else if (error) {
        http_reply_own_problem(request, &failure);
    } else {
        request->stage = HTTP_STAGE_BODY;
        request->body.secret = request->plan.secret_body;
        http_request_step(request, guard_body_length(&request->head) > 0);
        if (request->plan.body == HTTP_BODY_STREAM) {
            request->called = true;
            server->handler->on_request(server->handler_arg, request);
        }
    }
    request->in_head_callback = false;
    if (request->stage == HTTP_STAGE_DEAD)
        return too_large ? MHD_YES : MHD_NO;
    return error || (request->response && request->handler_done && !request->stream.started)
               ? reply_at_head(request)
               : MHD_YES;
}

/* Hands on what has come of a streamed body; the handler may pause it. */
static void give_body(struct http_request *request)
{
    const struct http_server *server = request->connection->server;
    list_remove(&request->body_link);
    if (request->body.length && request->stage == HTTP_STAGE_BODY && !request->handler_done)
        server->handler->on_body(server->handler_arg, request, request->body.data,
                                 request->body.length);
    buf_clear(&request->body);
}

void http_request_give_bodies(struct http_server *server)
{
    while (!list_empty(&server->bodies))
        give_body(container_of(server->bodies.next, struct http_request, body_link));
}

static enum MHD_Result take_body(struct http_request *request, const char *data, size_t *length)
{
    struct http_server *server = request->connection->server;
    if (request->body_paused) {
        http_request_suspend(request);
        return MHD_YES; /* nothing taken: it comes again */
    }
    size_t taken = *length;
    *length = 0;
    request->bytes_in += taken;
    server->stats.bytes_in += taken;
    if (request->is_long)
        http_request_step(request, true);
    if (request->bytes_in > request->plan.body_limit) {
        /* Only chunks get here: a Content-Length was judged at the head. */
        struct hearth_failure failure;
        hearth_fail(&failure, HEARTH_ETOOLARGE, "body_too_large",
                    "the body is larger than %" PRIu64 " bytes", request->plan.body_limit);
        http_request_tell_gone(request);
        http_reply_own_problem(request, &failure);
        return MHD_YES;
    }
    int error = buf_append(&request->body, data, taken);
    /* libmicrohttpd's own buffer, of which this part is done with. */
    if (request->plan.secret_body)
        explicit_bzero((char *)(uintptr_t)data, taken);
    if (request->plan.body == HTTP_BODY_BUFFER) {
        if (!error)
            return MHD_YES;
        struct hearth_failure failure;
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "no memory for the body");
        http_reply_own_problem(request, &failure);
        return MHD_YES;
    }
    server->moved += taken;
    if (error) {
        http_connection_cut(request->connection);
        return MHD_YES;
    }
    list_remove(&request->body_link);
    list_append(&server->bodies, &request->body_link);
    if (request->body.length >= HTTP_BODY_PIECE)
        give_body(request);
    if (request->body_paused && request->stage == HTTP_STAGE_BODY)
        http_request_suspend(request);
    return MHD_YES;
}

/* The handler owes the reply: sends it if it is there, else waits. */
static enum MHD_Result wait_or_reply(struct http_request *request)
{
    const struct http_connection *connection = request->connection;
    if (request->stage == HTTP_STAGE_DEAD)
        return MHD_NO;
    if (request->response)
        return http_reply_queue(request);
    if (connection->peer_gone || connection->peer_half_closed) {
        http_request_tell_gone(request);
        return MHD_NO;
    }
    http_request_suspend(request);
    return MHD_YES;
}

static enum MHD_Result take_end(struct http_request *request)
{
    struct http_server *server = request->connection->server;
    if (request->plan.body == HTTP_BODY_STREAM)
        give_body(request);
    if (request->stage != HTTP_STAGE_BODY)
        return wait_or_reply(request);
    if (request->body_paused) {
        http_request_suspend(request);
        return MHD_YES; /* called again once the handler wants to hear of the end */
    }
    request->stage = HTTP_STAGE_WAITING;
    http_request_step(request, false);
    if (request->plan.body == HTTP_BODY_STREAM) {
        if (!request->handler_done)
            server->handler->on_body_end(server->handler_arg, request);
    } else {
        request->called = true;
        server->handler->on_request(server->handler_arg, request);
    }
    return wait_or_reply(request);
}

enum MHD_Result http_request_on_access(void *arg, struct MHD_Connection *mhd, const char *url,
                                       const char *method, const char *version,
                                       const char *upload_data, size_t *upload_data_size,
                                       void **context)
{
    (void)arg;
    (void)mhd;
    (void)url;
    struct http_request *request = *context;
    if (!request)
        return MHD_NO;
    bool has_data = *upload_data_size > 0;
    switch (request->stage) {
    case HTTP_STAGE_HEAD:
        return take_head(request, method, version);
    case HTTP_STAGE_BODY:
        return has_data ? take_body(request, upload_data, upload_data_size) : take_end(request);
    case HTTP_STAGE_DISCARD:
        if (!has_data)
            return http_reply_queue(request);
        *upload_data_size = 0;
        return MHD_YES;
    case HTTP_STAGE_DEAD:
        /* What lingers is dropped, up to the deadline. */
        *upload_data_size = 0;
        return has_data ? MHD_YES : MHD_NO;
    case HTTP_STAGE_WAITING:
        return wait_or_reply(request);
    case HTTP_STAGE_REPLYING:
        break;
    }
    return MHD_NO;
}

static void log_access(const struct http_request *request)
{
    bool read = request->method == HTTP_GET || request->method == HTTP_HEAD;
    enum log_level level = read ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
    if (!log_enabled(level))
        return;
    char path[256], method[32];
    log_line(level, "http", "request_id=%s method=%s path=%s status=%d ms=%.3f tenant=%s",
             request->id,
             log_quote(method, sizeof method, request->method_text ? request->method_text : ""),
             log_quote(path, sizeof path,
                       request->target.path ? request->target.path : request->target_text),
             request->status, (double)(clock_monotonic_us() - request->started_us) / US_PER_MS,
             request->identified ? request->principal.tenant->tenant_id : "-");
}

void http_request_on_completed(void *arg, struct MHD_Connection *mhd, void **context,
                               enum MHD_RequestTerminationCode code)
{
    struct http_server *server = arg;
    (void)mhd;
    struct http_request *request = *context;
    *context = NULL;
    if (!request)
        return;
    struct http_connection *connection = request->connection;
    http_request_tell_gone(request);
    http_upgrade_gone(request);
    log_access(request);
    server->stats.bytes_out += request->bytes_out;
    if (request->suspended)
        server->stats.suspended--;
    connection->request = NULL;
    if (request->response)
        MHD_destroy_response(request->response);
    http_stream_free(&request->stream);
    list_remove(&request->body_link);
    buf_free(&request->body);
    buf_free(&request->headers_out);
    free(request);
    if (connection->phase == HTTP_PHASE_LINGER)
        return;
    http_connection_set_idle(connection);
    if (server->draining && code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        http_connection_cut(connection);
}

void http_request_expired(struct http_request *request)
{
    struct http_connection *connection = request->connection;
    struct hearth_failure failure;
    if (request->stage == HTTP_STAGE_BODY || request->stage == HTTP_STAGE_DISCARD) {
        hearth_fail(&failure, HEARTH_ETIMEDOUT, "request_timeout",
                    "the request's body did not come in time");
        http_request_tell_gone(request);
        http_reply_raw_problem(connection, request, &failure);
    } else if (request->stage == HTTP_STAGE_WAITING && !request->response) {
        hearth_fail(&failure, HEARTH_ETIMEDOUT, NULL, "the request took longer than it may");
        http_request_tell_gone(request);
        request->total_deadline_us = clock_monotonic_us() + connection->server->request_timeout_us;
        http_request_step(request, false);
        http_reply_own_problem(request, &failure);
    } else {
        http_connection_cut(connection);
    }
}

void http_request_peer_left(struct http_request *request)
{
    /* While a body is paused its end may be in the socket already: only a dead peer counts. */
    if (request->suspended && (request->stage != HTTP_STAGE_BODY || request->connection->peer_gone))
        http_connection_cut(request->connection);
}

void http_request_tell_gone(struct http_request *request)
{
    const struct http_server *server = request->connection->server;
    if (!request->called || request->handler_done)
        return;
    request->handler_done = true;
    server->handler->on_gone(server->handler_arg, request);
}

void http_request_suspend(struct http_request *request)
{
    if (request->suspended)
        return;
    request->suspended = true;
    request->connection->server->stats.suspended++;
    MHD_suspend_connection(request->connection->mhd);
}

void http_request_resume(struct http_request *request)
{
    if (!request->suspended)
        return;
    request->suspended = false;
    request->connection->server->stats.suspended--;
    MHD_resume_connection(request->connection->mhd);
    http_server_schedule_run(request->connection->server);
}

void http_request_step(struct http_request *request, bool due)
{
    int64_t deadline = request->is_long ? CLOCK_NEVER : request->total_deadline_us;
    if (due) {
        int64_t idle = request->plan.body_timeout_ms ? request->plan.body_timeout_ms * US_PER_MS
                                                     : request->connection->server->body_timeout_us;
        int64_t step = clock_monotonic_us() + idle;
        if (step < deadline)
            deadline = step;
    }
    http_connection_set_deadline(request->connection, deadline);
}
