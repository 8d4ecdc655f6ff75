/* The era of stateless requests, 2026-07-28: every request carries its version and what its client
 * can do in an envelope. */
#include "api/mcp.h"

#include <stdio.h>
#include <string.h>

#define META_VERSION "io.modelcontextprotocol/protocolVersion"
#define META_CAPABILITIES "io.modelcontextprotocol/clientCapabilities"

void mcp_write_versions(struct buf *out, const char *requested)
{
    struct json_writer json = JSON_WRITER(out);
    json_object_begin(&json, NULL);
    json_array_begin(&json, "supported");
    json_string(&json, NULL, MCP_VERSION_MODERN);
    json_array_end(&json);
    if (requested)
        json_string(&json, "requested", requested);
    json_object_end(&json);
}

static bool refuse_version(struct mcp_request *request, const char *text, const char *requested)
{
    auto_buf struct buf data = {0};
    mcp_write_versions(&data, requested);
    mcp_fail_data(request, MCP_UNSUPPORTED_VERSION, text, data.data);
    return false;
}

static bool refuse(struct mcp_request *request, const char *text)
{
    mcp_fail(request, MCP_INVALID_PARAMS, text);
    return false;
}

bool mcp_modern_admit(struct mcp_request *request, const struct mcp_message *message)
{
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(message->params, "_meta");
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(meta, META_VERSION);
    if (strcmp(message->method, "initialize") == 0)
        return refuse_version(request,
                              "this connection is of " MCP_VERSION_MODERN
                              ": there is no initialize handshake on it",
                              mcp_text(message->params, "protocolVersion"));
    if (!cJSON_IsObject(meta))
        return refuse(request, "params._meta must hold the envelope: " META_VERSION
                               " and " META_CAPABILITIES);
    if (!version || !cJSON_HasObjectItem(meta, META_CAPABILITIES))
        return refuse(request, version ? "params._meta lacks " META_CAPABILITIES
                                       : "params._meta lacks " META_VERSION);
    if (!cJSON_IsString(version))
        return refuse(request, META_VERSION " must be a string");
    if (strcmp(version->valuestring, MCP_VERSION_MODERN) != 0)
        return refuse_version(request, "Unsupported protocol version", version->valuestring);
    return true;
}

static void discover(struct mcp_request *request, const cJSON *params)
{
    struct json_writer json;
    (void)params;
    mcp_result_begin(request, &json, MCP_TTL_STATIC_MS);
    json_array_begin(&json, "supportedVersions");
    json_string(&json, NULL, MCP_VERSION_MODERN);
    json_array_end(&json);
    mcp_write_server(request, &json);
    mcp_result_end(request, &json);
}

const struct mcp_method mcp_modern_methods[] = {
    {"server/discover", MCP_ERA_MODERN, discover},
    {0},
};
