#include "api/mcp_http.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define META_VERSION "io.modelcontextprotocol/protocolVersion"
#define META_CAPABILITIES "io.modelcontextprotocol/clientCapabilities"
#define JSON_TYPE "application/json"

void mcp_http_reply(struct http_request *http, int status, struct buf *message)
{
    http_request_set_data(http, NULL);
    http_reply(http, status, JSON_TYPE, message);
}

static void refuse_data(struct http_request *http, int status, const char *id, enum mcp_code code,
                        const char *text, const char *data)
{
    struct buf out = {0};
    mcp_write_error(&out, id, code, text, data);
    mcp_http_reply(http, status, &out);
}

void mcp_http_refuse(struct http_request *http, int status, const char *id, enum mcp_code code,
                     const char *text)
{
    refuse_data(http, status, id, code, text, NULL);
}

static void refuse_version(struct http_request *http, const char *id, const char *version)
{
    auto_buf struct buf data = {0};
    mcp_write_versions(&data, version);
    refuse_data(http, 400, id, MCP_UNSUPPORTED_VERSION, "Unsupported protocol version", data.data);
}

static void refuse_method(struct http_request *http, const char *allow)
{
    http_request_header_out(http, "Allow", allow);
    mcp_http_refuse(http, 405, NULL, MCP_INVALID_REQUEST, "the method is not served here");
}

static void accept_quietly(struct http_request *http)
{
    struct buf empty = {0};
    http_reply(http, 202, NULL, &empty);
}

/* Does an Accept header take the media type? None takes all. */
static bool accepts(const struct http_request *http, const char *type)
{
    const char *accept = http_request_header(http, "Accept");
    size_t major = strcspn(type, "/");
    if (!accept)
        return true;
    while (*accept) {
        accept += strspn(accept, " \t,");
        size_t length = strcspn(accept, ",; \t");
        if ((length == strlen(type) && strncasecmp(accept, type, length) == 0) ||
            (length == major + 2 && strncasecmp(accept, type, major + 1) == 0 &&
             accept[length - 1] == '*') ||
            (length == 3 && strncmp(accept, "*/*", 3) == 0))
            return true;
        accept += strcspn(accept, ",");
    }
    return false;
}

/* A header without the blanks around it; NULL where it is absent. The caller frees it. */
static char *header(const struct http_request *http, const char *name)
{
    const char *value = http_request_header(http, name);
    if (!value)
        return NULL;
    value += strspn(value, " \t");
    size_t length = strlen(value);
    while (length && (value[length - 1] == ' ' || value[length - 1] == '\t'))
        length--;
    return strndup(value, length);
}

/* The modern era's headers say what the body says, so that what stands in between may route by
 * them. */

/* A header's value as it is meant: "=?base64?…?=" is decoded. NULL where it is malformed. */
static char *meant(char *value)
{
    static const char start[] = "=?base64?", end[] = "?=";
    size_t length = strlen(value), used = 0;
    if (length < sizeof start + sizeof end - 2 || strncmp(value, start, sizeof start - 1) != 0 ||
        strcmp(value + length - 2, end) != 0)
        return value;
    size_t size = length - (sizeof start - 1) - 2;
    char *out = malloc(size + 1);
    if (out && sodium_base642bin((unsigned char *)out, size, value + sizeof start - 1, size, NULL,
                                 &used, NULL, sodium_base64_VARIANT_ORIGINAL) == 0) {
        out[used] = '\0';
        if (strlen(out) == used) {
            free(value);
            return out;
        }
    }
    free(out);
    free(value);
    return NULL;
}

static bool says(const struct http_request *http, const char *name, const char *wanted)
{
    char *value = header(http, name);
    if (value)
        value = meant(value);
    bool same = value && strcmp(value, wanted) == 0;
    free(value);
    return same;
}

/* The header that does not match; NULL: all do. */
static const char *mismatch(const struct http_request *http, const struct mcp_message *message,
                            const char *version)
{
    static const struct {
        const char *method, *member;
    } named[] = {{"tools/call", "name"}, {"prompts/get", "name"}, {"resources/read", "uri"}};
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(message->params, "_meta");
    const char *body_version = mcp_text(meta, META_VERSION);
    if (!version || !body_version || strcmp(version, body_version) != 0)
        return "MCP-Protocol-Version";
    if (!says(http, "Mcp-Method", message->method))
        return "Mcp-Method";
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        const char *name = strcmp(named[i].method, message->method) == 0
                               ? mcp_text(message->params, named[i].member)
                               : NULL;
        if (name && !says(http, "Mcp-Name", name))
            return "Mcp-Name";
    }
    return NULL;
}

static bool envelope_whole(const struct mcp_message *message)
{
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(message->params, "_meta");
    return cJSON_HasObjectItem(meta, META_VERSION) && cJSON_HasObjectItem(meta, META_CAPABILITIES);
}

static void serve_modern(struct api *api, struct http_request *http, struct mcp_message *message,
                         const char *version, enum profile profile)
{
    char text[96];
    if (message->kind == MCP_NOTIFICATION) {
        if (version && strcmp(version, MCP_VERSION_MODERN) == 0)
            accept_quietly(http);
        else
            refuse_version(http, NULL, version);
        return;
    }
    if (message->kind != MCP_REQUEST) {
        mcp_http_refuse(http, 400, message->id, MCP_INVALID_REQUEST,
                        "a request or a notification is wanted");
        return;
    }
    const char *wrong = envelope_whole(message) ? mismatch(http, message, version) : NULL;
    if (wrong) {
        snprintf(text, sizeof text, "%s does not say what the body says", wrong);
        mcp_http_refuse(http, 400, message->id, MCP_HEADER_MISMATCH, text);
        return;
    }
    struct mcp_exchange *exchange = mcp_exchange_new(api, http, NULL, true);
    if (!exchange)
        return;
    mcp_peer_open(&exchange->own, api, &mcp_http_transport, http_request_principal(http), profile);
    exchange->own.era = MCP_ERA_MODERN;
    mcp_serve(&exchange->own, message, exchange);
}

/* The handshake era. */

static struct mcp_session *find_session(struct api *api, struct http_request *http, const char *id)
{
    char *session_id = header(http, "Mcp-Session-Id");
    struct mcp_session *session =
        session_id ? mcp_session_find(api, http_request_principal(http), session_id) : NULL;
    if (!session_id)
        mcp_http_refuse(http, 400, id, MCP_INVALID_REQUEST,
                        "Mcp-Session-Id is wanted; initialize gives one");
    else if (!session)
        mcp_http_refuse(http, 404, id, MCP_SESSION_NOT_FOUND, "Session not found");
    free(session_id);
    return session;
}

static void serve_initialize(struct api *api, struct http_request *http,
                             struct mcp_message *message, enum profile profile)
{
    struct hearth_failure failure;
    struct mcp_session *session =
        mcp_session_new(api, http_request_principal(http), profile, &failure);
    if (!session) {
        http_reply_problem(http, &failure);
        return;
    }
    struct mcp_exchange *exchange = mcp_exchange_new(api, http, session, true);
    if (exchange) {
        http_request_header_out(http, "Mcp-Session-Id", session->id);
        mcp_serve(&session->peer, message, exchange);
    }
    if (!session->peer.initialized)
        mcp_session_end(session);
}

static void serve_session(struct api *api, struct http_request *http, struct mcp_message *message,
                          enum profile profile)
{
    if (message->kind == MCP_REQUEST && strcmp(message->method, "initialize") == 0) {
        serve_initialize(api, http, message, profile);
        return;
    }
    struct mcp_session *session = find_session(api, http, message->id);
    if (!session)
        return;
    if (message->kind != MCP_REQUEST) {
        mcp_serve(&session->peer, message, NULL);
        accept_quietly(http);
        return;
    }
    struct mcp_exchange *exchange = mcp_exchange_new(api, http, session, true);
    if (exchange)
        mcp_serve(&session->peer, message, exchange);
}

static void post(struct api *api, struct http_request *http, const char *version,
                 enum profile profile)
{
    const struct buf *body = http_request_body(http);
    struct mcp_message message = {0};
    if (!accepts(http, JSON_TYPE) || !accepts(http, "text/event-stream")) {
        mcp_http_refuse(http, 406, NULL, MCP_INVALID_REQUEST,
                        "Accept must take application/json and text/event-stream");
        return;
    }
    mcp_message_parse(&message, body && body->data ? body->data : "", body ? body->length : 0);
    http_request_drop_body(http);
    bool enveloped = mcp_message_enveloped(&message) &&
                     !(message.method && strcmp(message.method, "initialize") == 0);
    bool known = version && mcp_session_version(version);
    if (message.kind == MCP_UNREADABLE)
        mcp_http_refuse(http, 400, message.id, message.code, message.fault);
    else if ((version && strcmp(version, MCP_VERSION_MODERN) == 0) || (enveloped && !known))
        serve_modern(api, http, &message, version, profile);
    else if (version && !known)
        refuse_version(http, message.id, version);
    else
        serve_session(api, http, &message, profile);
    mcp_message_free(&message);
}

static void get(struct api *api, struct http_request *http)
{
    if (!accepts(http, "text/event-stream")) {
        mcp_http_refuse(http, 406, NULL, MCP_INVALID_REQUEST, "Accept must take text/event-stream");
        return;
    }
    struct mcp_session *session = find_session(api, http, NULL);
    char *last = header(http, "Last-Event-ID");
    if (session)
        mcp_session_listen(session, http, last);
    free(last);
}

static void delete (struct api *api, struct http_request *http)
{
    struct buf empty = {0};
    struct mcp_session *session = find_session(api, http, NULL);
    if (!session)
        return;
    mcp_session_end(session);
    http_reply(http, 204, NULL, &empty);
}

void mcp_http_serve(struct api *api, struct http_request *http)
{
    struct hearth_failure failure;
    enum profile profile;
    enum http_method method = http_request_method(http);
    char *version = header(http, "MCP-Protocol-Version");
    if (mcp_find_profile(http, &profile, &failure))
        http_reply_problem(http, &failure);
    else if (method == HTTP_POST)
        post(api, http, version, profile);
    else if (method == HTTP_HEAD)
        refuse_method(http, "POST, GET, DELETE");
    else if (version && strcmp(version, MCP_VERSION_MODERN) == 0)
        refuse_method(http, "POST");
    else if (version && !mcp_session_version(version))
        refuse_version(http, NULL, version);
    else if (method == HTTP_GET)
        get(api, http);
    else
        delete (api, http);
    free(version);
}
