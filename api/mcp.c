#include "api/mcp.h"

#include "api/json_read.h"
#include "base/json_digits.h"
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRESS_FIRST_US (300 * US_PER_MS)
#define PROGRESS_EVERY_US (500 * US_PER_MS)
#define EXACT_MAX 9007199254740992.0 /* 2^53: whole numbers below it are their own doubles */
#define META_VERSION "io.modelcontextprotocol/protocolVersion"

/* Messages. */

/* An ID (or a progress token) as JSON text, the same for the same value; NULL where it is none. */
static char *id_text(const cJSON *item)
{
    int64_t number;
    char *text = NULL;
    if (cJSON_IsRaw(item))
        return strdup(item->valuestring);
    if (cJSON_IsString(item) || (cJSON_IsNumber(item) && !json_integer_of(item, &number) &&
                                 item->valuedouble == floor(item->valuedouble)))
        return cJSON_PrintUnformatted(item);
    if (cJSON_IsNumber(item) && json_integer_of(item, &number) &&
        asprintf(&text, "%lld", (long long)number) < 0)
        return NULL;
    return text;
}

/* What goes back to the client as it came: numbers that a double does not hold are texts from here
 * on.
 */
static void keep_digits(cJSON *tree, const char *text, size_t length)
{
    static const char *const paths[][4] = {
        {"id"}, {"params", "requestId"}, {"params", "_meta", "progressToken"}};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        cJSON *item = tree;
        const char *digits;
        size_t count;
        for (const char *const *name = paths[i]; *name; name++)
            item = cJSON_GetObjectItemCaseSensitive(item, *name);
        if (!cJSON_IsNumber(item) || fabs(item->valuedouble) < EXACT_MAX ||
            !json_digits(text, length, paths[i], &digits, &count))
            continue;
        item->valuestring = strndup(digits, count);
        if (item->valuestring)
            item->type = cJSON_Raw;
    }
}

static void unreadable(struct mcp_message *message, enum mcp_code code, const char *fault)
{
    message->kind = MCP_UNREADABLE;
    message->code = code;
    message->fault = fault;
}

static void classify(struct mcp_message *message)
{
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(message->tree, "jsonrpc");
    const cJSON *method = cJSON_GetObjectItemCaseSensitive(message->tree, "method");
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(message->tree, "id");
    const cJSON *params = cJSON_GetObjectItemCaseSensitive(message->tree, "params");
    message->id = id_text(id);
    if (!cJSON_IsString(version) || strcmp(version->valuestring, "2.0") != 0) {
        unreadable(message, MCP_INVALID_REQUEST, "jsonrpc must be \"2.0\"");
    } else if (id && !message->id) {
        unreadable(message, MCP_INVALID_REQUEST, "an id is a string or a whole number");
    } else if (cJSON_IsString(method)) {
        message->kind = id ? MCP_REQUEST : MCP_NOTIFICATION;
        message->method = method->valuestring;
        message->params = cJSON_IsObject(params) ? params : NULL;
        if (params && !message->params && !cJSON_IsNull(params)) {
            message->code = MCP_INVALID_PARAMS;
            message->fault = "params must be an object";
        }
    } else if (!method && id &&
               (cJSON_HasObjectItem(message->tree, "result") ||
                cJSON_HasObjectItem(message->tree, "error"))) {
        message->kind = MCP_RESPONSE;
    } else {
        unreadable(message, MCP_INVALID_REQUEST, "neither a request nor a notification");
    }
}

void mcp_message_parse(struct mcp_message *message, const char *text, size_t length)
{
    int error = json_parse_envelope(&message->tree, text, length, &message->failure);
    if (!message->tree) {
        unreadable(message, MCP_PARSE_ERROR, message->failure.detail);
    } else if (!cJSON_IsObject(message->tree)) {
        unreadable(message, MCP_INVALID_REQUEST,
                   "a message is one JSON object; there are no batches");
    } else {
        keep_digits(message->tree, text, length);
        classify(message);
        /* Past the fault nothing was looked at: an ID there may be no text to send back. */
        if (error && message->id && json_check(message->id, strlen(message->id), NULL)) {
            free(message->id);
            message->id = NULL;
            unreadable(message, MCP_PARSE_ERROR, message->failure.detail);
        } else if (error && message->kind == MCP_REQUEST) {
            message->code = MCP_INVALID_PARAMS;
            message->fault = message->failure.detail;
        } else if (error) {
            unreadable(message, MCP_PARSE_ERROR, message->failure.detail);
        }
    }
}

void mcp_message_free(struct mcp_message *message)
{
    cJSON_Delete(message->tree);
    free(message->id);
    *message = (struct mcp_message){0};
}

bool mcp_message_enveloped(const struct mcp_message *message)
{
    return cJSON_HasObjectItem(cJSON_GetObjectItemCaseSensitive(message->params, "_meta"),
                               META_VERSION);
}

const char *mcp_text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* Peers. */

void mcp_peer_open(struct mcp_peer *peer, struct api *api, const struct mcp_transport *transport,
                   const struct principal *principal, enum profile profile)
{
    *peer = (struct mcp_peer){
        .api = api, .transport = transport, .principal = *principal, .profile = profile};
    list_init(&peer->requests);
    list_init(&peer->subscriptions);
    list_init(&peer->link);
    list_append(&api->mcp_peers, &peer->link);
}

void mcp_peer_close(struct mcp_peer *peer)
{
    mcp_subscriptions_close(peer);
    list_for_each(cursor, next, &peer->requests)
        mcp_request_abandon(container_of(cursor, struct mcp_request, link));
    list_remove(&peer->link);
}

/* Requests. */

static void request_free(struct mcp_request *request)
{
    mcp_request_unsubscribe(request);
    timer_free(&request->timer);
    list_remove(&request->link);
    request->peer->request_count--;
    free(request->id);
    free(request->progress_token);
    free(request->subject);
    buf_free(&request->out);
    free(request);
}

void mcp_request_abandon(struct mcp_request *request)
{
    struct call *call = request->call;
    request_free(request);
    if (call)
        call_abandon(call);
}

static void on_progress(void *arg)
{
    struct mcp_request *request = arg;
    auto_buf struct buf out = {0};
    struct json_writer json = JSON_WRITER(&out);
    char text[48];
    int64_t now = clock_monotonic_us();
    double seconds = (double)(now - request->began_us) / US_PER_S;
    json_object_begin(&json, NULL);
    json_string(&json, "jsonrpc", "2.0");
    json_string(&json, "method", "notifications/progress");
    json_object_begin(&json, "params");
    json_raw(&json, "progressToken", request->progress_token);
    snprintf(text, sizeof text, "%.3f", seconds);
    json_raw(&json, "progress", text);
    snprintf(text, sizeof text, "running for %.1f s", seconds);
    json_string(&json, "message", text);
    json_object_end(&json);
    json_object_end(&json);
    timer_set(&request->timer, now + PROGRESS_EVERY_US);
    if (!json.error)
        request->peer->transport->tell(request, &out);
}

void mcp_progress_start(struct mcp_request *request)
{
    if (request->progress_token)
        timer_set(&request->timer, request->began_us + PROGRESS_FIRST_US);
}

/* Takes the message's ID. Aborts where a few bytes cannot be had. */
static struct mcp_request *request_new(struct mcp_peer *peer, struct mcp_message *message,
                                       void *exchange)
{
    struct mcp_request *request = calloc(1, sizeof *request);
    if (!request)
        abort();
    request->peer = peer;
    request->exchange = exchange;
    request->id = message->id;
    message->id = NULL;
    request->progress_token = id_text(cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(message->params, "_meta"), "progressToken"));
    request->began_us = clock_monotonic_us();
    timer_init(&request->timer, supervisor_loop(peer->api->supervisor), on_progress, request);
    list_init(&request->link);
    return request;
}

static struct mcp_request *find_request(const struct mcp_peer *peer, const char *id)
{
    list_for_each(cursor, next, &peer->requests)
    {
        struct mcp_request *request = container_of(cursor, struct mcp_request, link);
        if (strcmp(request->id, id) == 0)
            return request;
    }
    return NULL;
}

/* Operations. */

static void answered(void *arg, int status, struct buf *body)
{
    struct mcp_request *request = arg;
    request->call = NULL;
    timer_unset(&request->timer);
    request->finish(request, status, body);
}

void mcp_call(struct mcp_request *request, const struct operation_entry *entry,
              const cJSON *arguments, const char *key)
{
    struct hearth_failure failure;
    struct call *call = call_new(request->peer->api, NULL, entry);
    if (!call) {
        mcp_fail(request, MCP_INTERNAL_ERROR, "out of memory");
        return;
    }
    call->principal = request->peer->principal;
    memcpy(call->request_id, "rq_", 3);
    id_random_text(call->request_id + 3, 13);
    call->tool = true;
    call->on_answer = answered;
    call->answer_arg = request;
    request->call = call;
    if (call_take_key(call, key, &failure))
        call_fail(call, &failure);
    else
        call_dispatch(call, arguments);
}

/* Answers. */

void mcp_write_error(struct buf *out, const char *id, enum mcp_code code, const char *text,
                     const char *data)
{
    struct json_writer json = JSON_WRITER(out);
    json_object_begin(&json, NULL);
    json_string(&json, "jsonrpc", "2.0");
    json_raw(&json, "id", id ? id : "null");
    json_object_begin(&json, "error");
    json_integer(&json, "code", code);
    json_string(&json, "message", text);
    if (data)
        json_raw(&json, "data", data);
    json_object_end(&json);
    json_object_end(&json);
}

void mcp_fail_data(struct mcp_request *request, enum mcp_code code, const char *text,
                   const char *data)
{
    buf_clear(&request->out);
    mcp_write_error(&request->out, request->id, code, text, data);
    request->peer->transport->answer(request, code, &request->out);
    request_free(request);
}

void mcp_fail(struct mcp_request *request, enum mcp_code code, const char *text)
{
    mcp_fail_data(request, code, text, NULL);
}

void mcp_fail_problem(struct mcp_request *request, int status, const struct buf *problem)
{
    cJSON *tree = problem->length ? cJSON_ParseWithLength(problem->data, problem->length) : NULL;
    const char *detail = mcp_text(tree, "detail");
    enum mcp_code code = MCP_INTERNAL_ERROR;
    if (status == 404 && request->peer->era == MCP_ERA_SESSION)
        code = MCP_RESOURCE_NOT_FOUND;
    else if (status >= 400 && status < 500)
        code = MCP_INVALID_PARAMS;
    mcp_fail_data(request, code, detail ? detail : "the operation failed",
                  tree ? problem->data : NULL);
    cJSON_Delete(tree);
}

void mcp_result_begin(struct mcp_request *request, struct json_writer *json, int ttl_ms)
{
    buf_clear(&request->out);
    *json = JSON_WRITER(&request->out);
    json_object_begin(json, NULL);
    json_string(json, "jsonrpc", "2.0");
    json_raw(json, "id", request->id);
    json_object_begin(json, "result");
    if (request->peer->era != MCP_ERA_MODERN)
        return;
    json_string(json, "resultType", "complete");
    json_object_begin(json, "_meta");
    mcp_write_server_info(json, "io.modelcontextprotocol/serverInfo");
    json_object_end(json);
    if (ttl_ms >= 0) {
        json_integer(json, "ttlMs", ttl_ms);
        json_string(json, "cacheScope", "private");
    }
}

void mcp_result_end(struct mcp_request *request, struct json_writer *json)
{
    json_object_end(json);
    json_object_end(json);
    if (json->error) {
        mcp_fail(request, MCP_INTERNAL_ERROR, "the answer could not be made");
        return;
    }
    request->peer->transport->answer(request, MCP_OK, &request->out);
    request_free(request);
}

/* Serving. */

static void on_cancelled(struct mcp_peer *peer, const cJSON *params)
{
    char *id = id_text(cJSON_GetObjectItemCaseSensitive(params, "requestId"));
    struct mcp_request *request = id ? find_request(peer, id) : NULL;
    free(id);
    if (!request)
        return; /* answered already, or never there: no error, by the protocol */
    peer->transport->drop(request);
    mcp_request_abandon(request);
}

static const struct mcp_method *find_method(const struct mcp_peer *peer, const char *name)
{
    static const struct mcp_method *const tables[] = {mcp_tool_methods, mcp_session_methods,
                                                      mcp_modern_methods, mcp_resource_methods,
                                                      mcp_prompt_methods};
    /* Resources and prompts are about workspaces. */
    size_t count = peer->profile == PROFILE_VM_RUN ? 3 : sizeof tables / sizeof *tables;
    for (size_t i = 0; i < count; i++)
        for (const struct mcp_method *method = tables[i]; method->name; method++)
            if ((method->eras & peer->era) && strcmp(method->name, name) == 0)
                return method;
    return NULL;
}

static void fail_method(struct mcp_request *request, const char *name)
{
    auto_buf struct buf data = {0};
    struct json_writer json = JSON_WRITER(&data);
    json_string(&json, NULL, name);
    mcp_fail_data(request, MCP_METHOD_NOT_FOUND, "Method not found", json.error ? NULL : data.data);
}

static void serve_request(struct mcp_request *request, const struct mcp_message *message)
{
    const struct mcp_peer *peer = request->peer;
    const struct mcp_method *method = find_method(peer, message->method);
    if (peer->era == MCP_ERA_MODERN ? !mcp_modern_admit(request, message)
                                    : !mcp_session_admit(request, message, method != NULL))
        return;
    if (message->code)
        mcp_fail(request, message->code, message->fault);
    else if (method)
        method->serve(request, message->params);
    else
        fail_method(request, message->method);
}

void mcp_serve(struct mcp_peer *peer, struct mcp_message *message, void *exchange)
{
    if (message->kind == MCP_NOTIFICATION &&
        strcmp(message->method, "notifications/cancelled") == 0)
        on_cancelled(peer, message->params);
    if (message->kind != MCP_REQUEST)
        return;
    bool twice = find_request(peer, message->id) != NULL;
    struct mcp_request *request = request_new(peer, message, exchange);
    list_append(&peer->requests, &request->link);
    peer->request_count++;
    if (twice)
        mcp_fail(request, MCP_INVALID_REQUEST, "a request with this id is under way");
    else if (peer->request_count > MCP_REQUESTS_MAX)
        mcp_fail(request, MCP_OVERLOADED, "too many requests are under way");
    else
        serve_request(request, message);
}
