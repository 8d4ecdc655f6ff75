/* What a handler may ask a request. */
#include "api/http_internal.h"

#include <string.h>

enum http_method http_request_method(const struct http_request *request)
{
    return request->method;
}

const char *http_request_path(const struct http_request *request)
{
    return request->target.path;
}

const struct http_pair *http_request_query(const struct http_request *request, size_t *ret_count)
{
    *ret_count = request->target.query_count;
    return request->target.query;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection->mhd, MHD_HEADER_KIND, name);
}

const char *http_request_id(const struct http_request *request)
{
    return request->id;
}

const struct principal *http_request_principal(const struct http_request *request)
{
    return request->identified ? &request->principal : NULL;
}

const struct buf *http_request_body(const struct http_request *request)
{
    return &request->body;
}

void http_request_drop_body(struct http_request *request)
{
    buf_free(&request->body);
}

const char *http_request_target(const struct http_request *request)
{
    return request->target_text + request->target_length + 1;
}

const char *http_request_method_text(const struct http_request *request)
{
    return request->method_text;
}

struct header_visit {
    void (*visit)(void *arg, const char *name, const char *value);
    void *arg;
};

static enum MHD_Result visit_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    const struct header_visit *visitor = arg;
    (void)kind;
    visitor->visit(visitor->arg, name, value ? value : "");
    return MHD_YES;
}

void http_request_each_header(const struct http_request *request,
                              void (*visit)(void *arg, const char *name, const char *value),
                              void *arg)
{
    struct header_visit visitor = {visit, arg};
    MHD_get_connection_values(request->connection->mhd, MHD_HEADER_KIND, visit_header, &visitor);
}

void http_request_relay(struct http_request *request)
{
    request->relayed = true;
}

void http_request_set_data(struct http_request *request, void *data)
{
    request->data = data;
}

void *http_request_data(const struct http_request *request)
{
    return request->data;
}

void http_request_pause_body(struct http_request *request, bool paused)
{
    if (request->body_paused == paused)
        return;
    request->body_paused = paused;
    if (request->stage != HTTP_STAGE_BODY)
        return;
    http_request_step(request, !paused);
    if (!paused)
        http_request_resume(request);
}

void http_request_long(struct http_request *request)
{
    request->is_long = true;
    http_request_step(request, request->stage == HTTP_STAGE_BODY && !request->body_paused &&
                                   guard_body_length(&request->head) > 0);
}
