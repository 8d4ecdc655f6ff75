/* HTTP requests become calls, and the API's own life. */
#include "api/api.h"
#include "api/call_internal.h"
#include "api/decode.h"
#include "api/json_read.h"
#include "api/mcp.h"
#include "api/port_proxy.h"
#include "api/problem.h"
#include "api/shell_attach.h"
#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *method_name(enum http_method method)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OTHER"};
    return names[method];
}

/* Is the body declared as type? Parameters (charset) are looked over. */
static bool declared(const char *content_type, const char *type)
{
    size_t length = strlen(type);
    return content_type && strncasecmp(content_type, type, length) == 0 &&
           (content_type[length] == '\0' || content_type[length] == ';' ||
            content_type[length] == ' ');
}

static const char *const raw_types[] = {
    "application/octet-stream", "application/x-tar",  "application/tar",
    "application/gzip",         "application/x-gzip", "application/zstd",
    "application/x-zstd",       "text/plain",         NULL};

static bool declared_raw(const char *content_type)
{
    for (const char *const *type = raw_types; *type; type++)
        if (declared(content_type, *type))
            return true;
    return false;
}

static bool has_body(const struct http_request *request)
{
    const char *length = http_request_header(request, "Content-Length");
    return http_request_header(request, "Transfer-Encoding") ||
           (length && strcmp(length, "0") != 0);
}

/* Is the body content? An empty one is where it is declared, and where nothing else makes sense. */
static bool takes_content(const struct http_request *request, const struct operation_entry *entry)
{
    const char *type = http_request_header(request, "Content-Type");
    return entry && (entry->flags & OPERATION_RAW_BODY) && !declared(type, "application/json") &&
           (type || has_body(request) || !(entry->flags & OPERATION_IDEMPOTENT));
}

/* Has the operation arguments that JSON could bring? */
static bool takes_json(const struct operation_entry *entry)
{
    for (const struct field *field = entry->input; field->name; field++)
        if (field->place == PLACE_BODY)
            return true;
    return false;
}

static int wrong_type(struct hearth_failure *failure, const char *wanted)
{
    return hearth_fail(failure, HEARTH_EMEDIATYPE, "unsupported_media_type", "the body must be %s",
                       wanted);
}

static int plan_body(struct api *api, struct http_request *request, const struct route *route,
                     struct http_plan *plan, struct hearth_failure *failure)
{
    const struct config *config = supervisor_config(api->supervisor);
    const char *type = http_request_header(request, "Content-Type");
    bool body = has_body(request), json = declared(type, "application/json");
    enum http_method method = http_request_method(request);
    plan->body = HTTP_BODY_NONE;
    if (route->kind == ROUTE_MCP_STREAM_INPUT) {
        /* As long as the session: a client may think for days. */
        plan->body = HTTP_BODY_STREAM;
        plan->secret_body = true;
        plan->body_limit = UINT64_MAX;
        plan->body_timeout_ms = UINT32_MAX;
        return 0;
    }
    if (route->entry && (route->entry->flags & OPERATION_RELAY)) {
        plan->raw_query = true;
        plan->body = HTTP_BODY_STREAM;
        plan->body_limit = config->max_upload_bytes;
        return 0;
    }
    bool mcp_post = route->kind == ROUTE_MCP && method == HTTP_POST;
    if (mcp_post && !json)
        return wrong_type(failure, "application/json");
    if (!mcp_post && route->kind != ROUTE_TOOL_CALL &&
        (!route->entry || method == HTTP_GET || method == HTTP_HEAD))
        return 0;
    if (route->entry && (route->entry->flags & OPERATION_RAW_BODY) && !takes_json(route->entry) &&
        !declared_raw(type))
        return wrong_type(failure, "content as application/octet-stream or a tar type");
    if (takes_content(request, route->entry)) {
        if (!declared_raw(type))
            return wrong_type(
                failure, "application/json, or content as application/octet-stream or a tar type");
        plan->body = HTTP_BODY_STREAM;
        plan->body_limit = config->max_upload_bytes;
        return 0;
    }
    if (body && !json)
        return wrong_type(failure, "application/json");
    plan->body = HTTP_BODY_BUFFER;
    plan->secret_body = true;
    plan->body_limit = config->max_body_bytes;
    return 0;
}

static int on_head(void *arg, struct http_request *request, struct http_plan *ret_plan,
                   struct hearth_failure *failure)
{
    struct api *api = arg;
    struct route route;
    char allow[64];
    api->requests++;
    int error = route_find(method_name(http_request_method(request)), http_request_path(request),
                           &route, allow, failure);
    if (error) {
        if (*allow)
            http_request_header_out(request, "Allow", allow);
        return error;
    }
    *ret_plan =
        (struct http_plan){.anonymous = route.kind == ROUTE_LIVEZ || route.kind == ROUTE_READYZ ||
                                        route.kind == ROUTE_OPENAPI};
    return plan_body(api, request, &route, ret_plan, failure);
}

static void reply_json(struct http_request *request, struct buf *body, int error)
{
    struct hearth_failure failure;
    if (!error) {
        http_reply(request, 200, "application/json", body);
        return;
    }
    hearth_fail(&failure, (enum hearth_error)error, NULL, "the answer could not be made");
    http_reply_problem(request, &failure);
}

static void reply_root(struct http_request *request)
{
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    static const char *const features[] = {"tools", "uploads", "exec_stream", "idempotency"};
    json_object_begin(&json, NULL);
    json_string(&json, "name", "hearth");
    json_string(&json, "version", HEARTH_VERSION);
    json_array_begin(&json, "features");
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        json_string(&json, NULL, features[i]);
    json_array_end(&json);
    json_object_end(&json);
    reply_json(request, &body, json.error);
}

int rights_check(const struct principal *principal, const struct operation_entry *entry,
                 struct hearth_failure *failure)
{
    unsigned needed = entry->flags & OPERATION_ADMIN ? RIGHT_ADMIN
                      : entry->flags & OPERATION_READ_ONLY
                          ? RIGHT_READ | RIGHT_OPERATE | RIGHT_ADMIN
                          : RIGHT_OPERATE | RIGHT_ADMIN;
    if (principal->rights & needed)
        return 0;
    int error = hearth_fail(failure, HEARTH_EFORBIDDEN, "forbidden", "the token may not do this");
    hearth_failure_hint(failure, "An operator can issue a token with %s rights.",
                        needed == RIGHT_ADMIN ? "admin" : "operate");
    return error;
}

void call_dispatch(struct call *call, const cJSON *object)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    const struct operation_entry *entry = call->entry;
    void *input = call_allocate(call, entry->input_size ? entry->input_size : 1);
    int error = input ? rights_check(&call->principal, entry, &failure)
                      : hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (error == HEARTH_EFORBIDDEN && !(entry->flags & OPERATION_READ_ONLY))
        supervisor_audit(call->api->supervisor, &call->principal, call->request_id, entry->name,
                         NULL, failure.code);
    if (!error)
        error = decode_input(call, entry, object, input, &failure);
    if (error) {
        call_fail(call, &failure);
        return;
    }
    const char *touched =
        entry->flags & OPERATION_ACTIVITY ? mcp_text(object, "workspace_id") : NULL;
    if (touched)
        snprintf(call->touches, sizeof call->touches, "%s", touched);
    call->input = input;
    idempotency_run(call, object);
}

/* Body, query and path in one object: the decoder has one kind of input. */
static int gather(struct call *call, const struct route *route, cJSON **ret_object,
                  struct hearth_failure *failure)
{
    size_t count;
    const struct http_pair *query = http_request_query(call->request, &count);
    const struct buf *body = http_request_body(call->request);
    cJSON *object = NULL;
    int error = 0;
    if (!call->raw_body && body && body->length)
        error = json_parse(&object, body->data, body->length, failure);
    if (!error && object && !cJSON_IsObject(object))
        error = hearth_fail(failure, HEARTH_EMALFORMED, "malformed_json",
                            "the body must be a JSON object");
    if (!error && !object && !(object = cJSON_CreateObject()))
        error = hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    for (unsigned i = 0; !error && i < route->parameter_count; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(route->parameters[i].name, "}"),
                 route->parameters[i].name);
        const cJSON *said = cJSON_GetObjectItemCaseSensitive(object, name);
        if (said && cJSON_IsString(said) &&
            strcmp(said->valuestring, route->parameters[i].value) == 0)
            continue; /* a client that sends a tool's whole arguments */
        if (said) {
            char pointer[sizeof name + 1];
            snprintf(pointer, sizeof pointer, "/%s", name);
            error = hearth_fail(failure, HEARTH_EINVALID, "conflicting_arguments",
                                "the path says another %s than the body", name);
            hearth_failure_field(failure, pointer);
            hearth_failure_hint(failure, "Leave %s out of the body.", name);
        } else if (!cJSON_AddStringToObject(object, name, route->parameters[i].value)) {
            error = hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        }
    }
    if (!error)
        error = decode_query(call->entry, query, count, object, failure);
    *ret_object = object;
    return error;
}

int call_take_key(struct call *call, const char *key, struct hearth_failure *failure)
{
    if (!key || (call->entry->flags & OPERATION_READ_ONLY))
        return 0;
    size_t length = strlen(key);
    bool good = length >= 1 && length <= CALL_KEY_MAX;
    for (size_t i = 0; good && i < length; i++)
        good = key[i] >= ' ' && key[i] <= '~';
    if (!good)
        return hearth_fail(failure, HEARTH_EMALFORMED, "bad_idempotency_key",
                           "an Idempotency-Key is 1 to %d printable ASCII characters",
                           CALL_KEY_MAX);
    memcpy(call->key, key, length + 1);
    return 0;
}

static void run(struct call *call, const struct route *route)
{
    struct hearth_failure failure;
    cJSON *object = NULL;
    int error = gather(call, route, &object, &failure);
    if (!call->raw_body)
        http_request_drop_body(call->request);
    if (error)
        call_fail(call, &failure);
    else
        call_dispatch(call, object);
    cJSON_Delete(object);
}

static void reply_metrics(struct api *api, struct http_request *request)
{
    struct hearth_failure failure;
    if (principal_sees_all(http_request_principal(request))) {
        metrics_reply(api, request);
        return;
    }
    hearth_fail(&failure, HEARTH_EFORBIDDEN, "forbidden", "the token may not do this");
    hearth_failure_hint(&failure, "The metrics are of all tenants: take a token of the tenant "
                                  "admin, or one with admin rights.");
    http_reply_problem(request, &failure);
}

static void on_request(void *arg, struct http_request *request)
{
    struct api *api = arg;
    struct route route;
    char allow[64];
    struct hearth_failure failure;
    if (route_find(method_name(http_request_method(request)), http_request_path(request), &route,
                   allow, &failure)) {
        http_reply_problem(request, &failure);
        return;
    }
    auto_buf struct buf body = {0};
    switch (route.kind) {
    case ROUTE_LIVEZ:
        health_live(api, request);
        return;
    case ROUTE_READYZ:
        health_ready(api, request);
        return;
    case ROUTE_METRICS:
        reply_metrics(api, request);
        return;
    case ROUTE_OPENAPI:
        reply_json(request, &body, openapi_write(&body));
        return;
    case ROUTE_ROOT:
        reply_root(request);
        return;
    case ROUTE_TOOLS:
        tools_list(api, request);
        return;
    case ROUTE_MCP:
        mcp_http_serve(api, request);
        return;
    case ROUTE_MCP_STREAM:
        mcp_stream_open(api, request);
        return;
    case ROUTE_MCP_STREAM_INPUT:
        mcp_stream_feed(api, request, route.parameters[0].value);
        return;
    case ROUTE_TOOL_CALL:
    case ROUTE_OPERATION:
        break;
    }
    if (route.kind == ROUTE_TOOL_CALL) {
        route.entry = optable_find(route.parameters[0].value);
        if (!route.entry || route.entry->profile == PROFILE_NONE) {
            hearth_fail(&failure, HEARTH_ENOTFOUND, "unknown_tool", "there is no such tool");
            hearth_failure_hint(&failure, "GET /v1/tools lists them.");
            http_reply_problem(request, &failure);
            return;
        }
    }
    if (route.entry->flags & OPERATION_RELAY) {
        port_proxy_serve(api, request, &route);
        return;
    }
    if (route.entry->flags & OPERATION_UPGRADE) {
        shell_attach_serve(api, request, &route);
        return;
    }
    struct call *call = call_new(api, request, route.entry);
    if (!call) {
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        http_reply_problem(request, &failure);
        return;
    }
    call->principal = *http_request_principal(request);
    snprintf(call->request_id, sizeof call->request_id, "%s", http_request_id(request));
    if (route.entry->flags & OPERATION_LONG)
        http_request_long(request);
    call->tool = route.kind == ROUTE_TOOL_CALL;
    call->raw_body = !call->tool && takes_content(request, route.entry);
    if (call->raw_body)
        http_request_pause_body(request, true); /* until the handler reads it */
    if (call_take_key(call, http_request_header(request, "Idempotency-Key"), &failure))
        call_fail(call, &failure);
    else if (call->tool)
        tools_run(call);
    else
        run(call, &route);
}

static void on_body(void *arg, struct http_request *request, const void *data, size_t length)
{
    struct request_owner *owner = http_request_data(request);
    (void)arg;
    if (owner && owner->on_body)
        owner->on_body(owner, data, length);
}

static void on_body_end(void *arg, struct http_request *request)
{
    struct request_owner *owner = http_request_data(request);
    (void)arg;
    if (owner && owner->on_body_end)
        owner->on_body_end(owner);
}

static void on_gone(void *arg, struct http_request *request)
{
    struct request_owner *owner = http_request_data(request);
    (void)arg;
    if (owner && owner->on_gone)
        owner->on_gone(owner);
}

static const struct http_handler handler = {.on_head = on_head,
                                            .on_request = on_request,
                                            .on_body = on_body,
                                            .on_body_end = on_body_end,
                                            .on_gone = on_gone};

int api_new(struct api **ret_api, struct supervisor *supervisor, struct hearth_failure *failure)
{
    const struct config *config = supervisor_config(supervisor);
    char socket_path[4200];
    struct api *api = calloc(1, sizeof *api);
    if (!api)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    api->supervisor = supervisor;
    list_init(&api->calls);
    list_init(&api->mcp_peers);
    list_init(&api->mcp_streams);
    list_init(&api->keys);
    snprintf(socket_path, sizeof socket_path, "%s/hearthd.sock", config->runtime_dir);
    struct http_config http = {
        .supervisor = supervisor,
        .socket_path = socket_path,
        .listen = config->listen,
        .max_connections = config->max_connections,
        .max_connections_per_token = config->max_connections_per_token,
        .head_timeout_ms = config->head_timeout_ms,
        .body_timeout_ms = config->body_timeout_ms,
        .request_timeout_ms = config->request_timeout_ms,
        .allowed_hosts = config->allowed_hosts,
        .allowed_origins = config->allowed_origins,
    };
    int error = http_server_new(&api->server, &http, &handler, api, failure);
    if (error) {
        free(api);
        return error;
    }
    const char *url = http_server_url(api->server);
    api->url = text_copy(url ? url : "");
    idempotency_start(api);
    *ret_api = api;
    return 0;
}

void api_drain(struct api *api, unsigned timeout_ms, void (*done)(void *arg), void *arg)
{
    api->draining = true;
    api->ends_sessions = true;
    mcp_streams_drain(api);
    mcp_sessions_drain(api);
    api->ends_sessions = false;
    http_server_drain(api->server, timeout_ms, done, arg);
    list_for_each(cursor, next, &api->calls)
    {
        struct call *call = container_of(cursor, struct call, link);
        if (call->on_drain)
            call->on_drain(call->drain_arg);
    }
}

void call_end_token(struct call *call, const char *token_id)
{
    if (call->orphaned)
        return; /* all of them have ended */
    mcp_sessions_end_token(call->api, token_id);
    http_server_cut_token(call->api->server, token_id, call->request);
}

void api_close(struct api *api)
{
    api->ends_sessions = true;
    mcp_streams_drain(api);
    mcp_sessions_free(api);
    http_server_free(api->server);
    api->server = NULL;
    timer_free(&api->prune);
    list_for_each(cursor, next, &api->calls) call_orphan(container_of(cursor, struct call, link));
}

void api_free(struct api *api)
{
    list_for_each(cursor, next, &api->calls) call_free(container_of(cursor, struct call, link));
    free(api->url);
    free(api);
}

const char *api_url(const struct api *api)
{
    return api->url ? api->url : "";
}

uint64_t api_request_count(const struct api *api)
{
    return api->requests;
}

bool api_in_use(const struct api *api)
{
    return !list_empty(&api->mcp_streams);
}
