/* The era of the initialize handshake: 2024-11-05 to 2025-11-25. */
#include "api/mcp.h"

#include <stdio.h>
#include <string.h>

static const char *const versions[] = {"2024-11-05", "2025-03-26", "2025-06-18",
                                       MCP_VERSION_SESSION, NULL};

bool mcp_session_version(const char *version)
{
    for (const char *const *known = versions; *known; known++)
        if (strcmp(*known, version) == 0)
            return true;
    return false;
}

bool mcp_session_admit(struct mcp_request *request, const struct mcp_message *message, bool served)
{
    bool first = strcmp(message->method, "initialize") == 0;
    if (!first && mcp_message_enveloped(message)) {
        mcp_fail(request, MCP_INVALID_REQUEST,
                 "this connection is of the handshake era: it takes no requests with the "
                 "envelope of " MCP_VERSION_MODERN);
        return false;
    }
    if (served && !first && !request->peer->initialized && strcmp(message->method, "ping") != 0) {
        mcp_fail(request, MCP_INVALID_REQUEST, "initialize comes first");
        return false;
    }
    return true;
}

void mcp_write_server_info(struct json_writer *json, const char *key)
{
    json_object_begin(json, key);
    json_string(json, "name", "hearth");
    json_string(json, "title", "hearth");
    json_string(json, "version", HEARTH_VERSION);
    json_object_end(json);
}

static void write_capability(struct json_writer *json, const char *name, bool subscribe)
{
    json_object_begin(json, name);
    json_boolean(json, "listChanged", false);
    if (subscribe)
        json_boolean(json, "subscribe", true);
    json_object_end(json);
}

static const char *instructions(enum profile profile)
{
    if (profile == PROFILE_VM_RUN)
        return "hearth runs a command in a fresh, isolated Linux sandbox that is deleted right "
               "after. Use vm_run; a non-zero exit code is a result, not a failure.";
    return "hearth gives isolated Linux workspaces that live between calls, sessions and "
           "restarts. Create one with workspace_create (or find one with workspace_list), run "
           "commands in it, read and write its files under /workspace, and delete it when it is "
           "no longer needed. A non-zero exit code is a result, not a failure; an error says in "
           "code, field and hint what to do next.";
}

void mcp_write_server(struct mcp_request *request, struct json_writer *json)
{
    enum profile profile = request->peer->profile;
    json_object_begin(json, "capabilities");
    write_capability(json, "tools", false);
    if (profile != PROFILE_VM_RUN) {
        write_capability(json, "resources", true);
        write_capability(json, "prompts", false);
    }
    json_object_end(json);
    json_string(json, "instructions", instructions(profile));
}

static void initialize(struct mcp_request *request, const cJSON *params)
{
    struct mcp_peer *peer = request->peer;
    struct json_writer json;
    const char *version = mcp_text(params, "protocolVersion");
    if (!version) {
        mcp_fail(request, MCP_INVALID_PARAMS, "params.protocolVersion must be a string");
        return;
    }
    snprintf(peer->version, sizeof peer->version, "%s",
             mcp_session_version(version) ? version : MCP_VERSION_SESSION);
    peer->initialized = true;
    mcp_result_begin(request, &json, MCP_TTL_NONE);
    json_string(&json, "protocolVersion", peer->version);
    mcp_write_server_info(&json, "serverInfo");
    mcp_write_server(request, &json);
    mcp_result_end(request, &json);
}

static void ping(struct mcp_request *request, const cJSON *params)
{
    struct json_writer json;
    (void)params;
    mcp_result_begin(request, &json, MCP_TTL_NONE);
    mcp_result_end(request, &json);
}

const struct mcp_method mcp_session_methods[] = {
    {"initialize", MCP_ERA_SESSION, initialize},
    {"ping", MCP_ERA_SESSION, ping},
    {0},
};
