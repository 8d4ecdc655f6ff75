/* tools/list and tools/call: the operation table's entries of the peer's profile. */
#include "api/mcp.h"

#include "api/decode.h"
#include "api/problem.h"
#include "api/schema.h"

#include <stdio.h>
#include <string.h>

/* What a client that repeats a call gives both times. */
#define META_IDEMPOTENCY "hearth/idempotency_key"

bool mcp_no_cursor(struct mcp_request *request, const cJSON *params)
{
    const cJSON *cursor = cJSON_GetObjectItemCaseSensitive(params, "cursor");
    if (!cursor || cJSON_IsNull(cursor))
        return true;
    mcp_fail(request, MCP_INVALID_PARAMS, "no page has this cursor");
    return false;
}

static void list(struct mcp_request *request, const cJSON *params)
{
    struct json_writer json;
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    if (!mcp_no_cursor(request, params))
        return;
    mcp_result_begin(request, &json, MCP_TTL_STATIC_MS);
    json_array_begin(&json, "tools");
    for (size_t i = 0; i < count; i++)
        if (optable_in_profile(table[i], request->peer->profile))
            tools_write_mcp(&json, table[i], request->peer->profile);
    json_array_end(&json);
    mcp_result_end(request, &json);
}

static void write_content(struct json_writer *json, const char *text, size_t length)
{
    json_array_begin(json, "content");
    json_object_begin(json, NULL);
    json_string(json, "type", "text");
    json_bytes(json, "text", text, length);
    json_object_end(json);
    json_array_end(json);
}

static void write_call_result(struct mcp_request *request, struct json_writer *json,
                              const struct buf *body, const char *text, size_t length)
{
    mcp_result_begin(request, json, MCP_TTL_NONE);
    write_content(json, text, length);
    json_raw(json, "structuredContent", body->data);
    json_boolean(json, "isError", false);
}

static void end_with_problem(struct mcp_request *request, const char *text, size_t length)
{
    struct json_writer json;
    mcp_result_begin(request, &json, MCP_TTL_NONE);
    write_content(&json, text, length);
    json_boolean(&json, "isError", true);
    mcp_result_end(request, &json);
}

static void end_too_large(struct mcp_request *request, size_t length)
{
    auto_buf struct buf text = {0};
    struct json_writer json = JSON_WRITER(&text);
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_ETOOLARGE, "reply_too_large",
                "the result has %zu bytes, more than an event of this connection may", length);
    hearth_failure_hint(&failure, "Ask for less: a smaller max_output_bytes or max_bytes; what a "
                                  "command printed is in workspace_logs.");
    problem_write(&json, NULL, &failure, NULL);
    end_with_problem(request, text.data, text.length);
}

static void called(struct mcp_request *request, int status, const struct buf *body)
{
    static const char elsewhere[] = "The result is in structuredContent.";
    struct json_writer json;
    size_t most = request->peer->transport->answer_max(request);
    if (status >= 300) {
        end_with_problem(request, body->data ? body->data : "", body->length);
        return;
    }
    write_call_result(request, &json, body, body->data, body->length);
    if (!json.error && request->out.length > most)
        write_call_result(request, &json, body, elsewhere, sizeof elsewhere - 1);
    if (!json.error && request->out.length > most)
        end_too_large(request, body->length);
    else
        mcp_result_end(request, &json);
}

/* What the tool's definition does not show is unknown, as on every surface for models, unless it
 * asks for nothing. */
static bool check_arguments(struct mcp_request *request, const struct operation_entry *entry,
                            const cJSON *arguments)
{
    const struct field *field = entry->input;
    while (field->name &&
           (schema_in_tool(field, request->peer->profile) ||
            decode_is_default(field, cJSON_GetObjectItemCaseSensitive(arguments, field->name))))
        field++;
    if (!field->name)
        return true;
    auto_buf struct buf text = {0};
    struct json_writer json = JSON_WRITER(&text);
    struct hearth_failure failure;
    char pointer[80];
    snprintf(pointer, sizeof pointer, "/%.64s", field->name);
    hearth_fail(&failure, HEARTH_EINVALID, "unknown_argument",
                "%s: the tool has no such argument in profile %s", pointer,
                optable_profile_name(request->peer->profile));
    hearth_failure_field(&failure, pointer);
    problem_write(&json, NULL, &failure, NULL);
    end_with_problem(request, text.data, text.length);
    return false;
}

static void call(struct mcp_request *request, const cJSON *params)
{
    const char *name = mcp_text(params, "name");
    const cJSON *arguments = cJSON_GetObjectItemCaseSensitive(params, "arguments");
    const struct operation_entry *entry = name ? optable_find(name) : NULL;
    if (!name) {
        mcp_fail(request, MCP_INVALID_PARAMS, "params.name must name a tool");
        return;
    }
    if (!entry || !optable_in_profile(entry, request->peer->profile)) {
        char text[160];
        snprintf(text, sizeof text, "Unknown tool: %.120s", name);
        mcp_fail(request, MCP_INVALID_PARAMS, text);
        return;
    }
    if (arguments && !cJSON_IsObject(arguments) && !cJSON_IsNull(arguments)) {
        mcp_fail(request, MCP_INVALID_PARAMS, "params.arguments must be an object");
        return;
    }
    cJSON *none = cJSON_IsObject(arguments) ? NULL : cJSON_CreateObject();
    if (none)
        arguments = none;
    if (check_arguments(request, entry, arguments)) {
        request->finish = called;
        if (entry->flags & OPERATION_LONG)
            mcp_progress_start(request);
        mcp_call(request, entry, arguments,
                 mcp_text(cJSON_GetObjectItemCaseSensitive(params, "_meta"), META_IDEMPOTENCY));
    }
    cJSON_Delete(none);
}

const struct mcp_method mcp_tool_methods[] = {
    {"tools/list", MCP_ERA_SESSION | MCP_ERA_MODERN, list},
    {"tools/call", MCP_ERA_SESSION | MCP_ERA_MODERN, call},
    {0},
};
