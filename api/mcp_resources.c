/* Resources: a workspace's files and its log, as templates; the logs of the workspaces that are
 * there as a list. Reading one is the operation that reads it. mcp_subscription.c tells of changes.
 */
#include "api/mcp_resource.h"

#include "api/json_read.h"
#include "base/text.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME "hearth://workspaces/"
#define TEXT_MAX 1048576 /* bytes of a file that one read gives */

/* Percent-decodes text into out; false for a bad escape, a NUL, or too much. */
static bool decode(const char *text, char *out, size_t size)
{
    size_t used = 0;
    for (; *text; text++) {
        char byte = *text;
        if (byte == '%') {
            int high = text_hex_digit(text[1]), low = high < 0 ? -1 : text_hex_digit(text[2]);
            if (low < 0 || (high == 0 && low == 0))
                return false;
            byte = (char)(high << 4 | low);
            text += 2;
        }
        if (used + 1 >= size)
            return false;
        out[used++] = byte;
    }
    out[used] = '\0';
    return true;
}

bool mcp_resource_parse(const char *uri, struct mcp_resource *ret_resource)
{
    if (!uri || !text_starts_with(uri, SCHEME))
        return false;
    const char *id = uri + sizeof SCHEME - 1;
    size_t length = strcspn(id, "/");
    if (length >= sizeof ret_resource->workspace_id)
        return false;
    memcpy(ret_resource->workspace_id, id, length);
    ret_resource->workspace_id[length] = '\0';
    const char *rest = id + length;
    if (strcmp(rest, "/logs") == 0) {
        ret_resource->kind = MCP_RESOURCE_LOGS;
        return true;
    }
    ret_resource->kind = MCP_RESOURCE_FILE;
    return text_starts_with(rest, "/files/") && rest[7] &&
           decode(rest + 7, ret_resource->path, sizeof ret_resource->path);
}

bool mcp_resource_of(struct mcp_request *request, const cJSON *params,
                     struct mcp_resource *ret_resource)
{
    const char *uri = mcp_text(params, "uri");
    if (uri && mcp_resource_parse(uri, ret_resource) && (request->subject = text_copy(uri)))
        return true;
    mcp_fail(request,
             uri && request->peer->era == MCP_ERA_SESSION ? MCP_RESOURCE_NOT_FOUND
                                                          : MCP_INVALID_PARAMS,
             uri ? "Resource not found" : "params.uri must be a string");
    return false;
}

/* Templates. */

static void write_template(struct json_writer *json, const char *tail, const char *name,
                           const char *title, const char *description, const char *type)
{
    char uri[96];
    snprintf(uri, sizeof uri, SCHEME "{workspace_id}/%s", tail);
    json_object_begin(json, NULL);
    json_string(json, "uriTemplate", uri);
    json_string(json, "name", name);
    json_string(json, "title", title);
    json_string(json, "description", description);
    if (type)
        json_string(json, "mimeType", type);
    json_object_end(json);
}

static void list_templates(struct mcp_request *request, const cJSON *params)
{
    struct json_writer json;
    if (!mcp_no_cursor(request, params))
        return;
    mcp_result_begin(request, &json, MCP_TTL_STATIC_MS);
    json_array_begin(&json, "resourceTemplates");
    write_template(&json, "files/{+path}", "workspace_file", "Workspace file",
                   "A file of a workspace; its path is below /workspace. Its first MiB is given.",
                   NULL);
    write_template(&json, "logs", "workspace_logs", "Workspace log",
                   "The commands that were run in a workspace, with exit codes and output.",
                   "application/json");
    json_array_end(&json);
    mcp_result_end(request, &json);
}

/* The list. */

static void write_log_resource(struct json_writer *json, const cJSON *row)
{
    const char *id = mcp_text(row, "workspace_id"), *name = mcp_text(row, "name");
    char text[192];
    json_object_begin(json, NULL);
    snprintf(text, sizeof text, SCHEME "%s/logs", id ? id : "");
    json_string(json, "uri", text);
    snprintf(text, sizeof text, "%s/logs", id ? id : "");
    json_string(json, "name", text);
    snprintf(text, sizeof text, "Log of %.120s", name ? name : id ? id : "");
    json_bytes(json, "title", text, strlen(text));
    json_string(json, "mimeType", "application/json");
    json_object_end(json);
}

static void listed(struct mcp_request *request, int status, const struct buf *body)
{
    struct json_writer json;
    if (status >= 300) {
        mcp_fail_problem(request, status, body);
        return;
    }
    cJSON *page = cJSON_ParseWithLength(body->data, body->length);
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(page, "workspaces");
    const char *cursor = mcp_text(page, "next_cursor");
    mcp_result_begin(request, &json, 0);
    json_array_begin(&json, "resources");
    for (const cJSON *row = rows ? rows->child : NULL; row; row = row->next)
        write_log_resource(&json, row);
    json_array_end(&json);
    if (cursor)
        json_string(&json, "nextCursor", cursor);
    mcp_result_end(request, &json);
    cJSON_Delete(page);
}

static void call_with(struct mcp_request *request, const char *operation, cJSON *arguments,
                      void (*finish)(struct mcp_request *, int, const struct buf *))
{
    request->finish = finish;
    mcp_call(request, optable_find(operation), arguments, NULL);
    cJSON_Delete(arguments);
}

static void list(struct mcp_request *request, const cJSON *params)
{
    const cJSON *cursor = cJSON_GetObjectItemCaseSensitive(params, "cursor");
    cJSON *arguments = cJSON_CreateObject();
    if (cursor && !cJSON_IsNull(cursor))
        cJSON_AddItemToObject(arguments, "cursor", cJSON_Duplicate(cursor, true));
    call_with(request, "workspace_list", arguments, listed);
}

/* Reading. */

static void write_contents(struct mcp_request *request, const char *type, const char *text,
                           size_t length, const char *blob, const cJSON *facts)
{
    struct json_writer json;
    mcp_result_begin(request, &json, 0);
    json_array_begin(&json, "contents");
    json_object_begin(&json, NULL);
    json_string(&json, "uri", request->subject);
    json_string(&json, "mimeType", type);
    if (text)
        json_bytes(&json, "text", text, length);
    else
        json_string(&json, "blob", blob);
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(facts, "truncated"))) {
        json_object_begin(&json, "_meta");
        json_boolean(&json, "hearth/truncated", true);
        json_integer(
            &json, "hearth/size_bytes",
            (int64_t)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(facts, "size_bytes")));
        json_object_end(&json);
    }
    json_object_end(&json);
    json_array_end(&json);
    mcp_result_end(request, &json);
}

static void file_read(struct mcp_request *request, int status, const struct buf *body)
{
    if (status >= 300) {
        mcp_fail_problem(request, status, body);
        return;
    }
    cJSON *result = cJSON_ParseWithLength(body->data, body->length);
    const char *blob = mcp_text(result, "content");
    size_t size = blob ? strlen(blob) : 0, length = 0;
    auto_free char *text = malloc(size + 1);
    if (!text || !blob ||
        sodium_base642bin((unsigned char *)text, size, blob, size, NULL, &length, NULL,
                          sodium_base64_VARIANT_ORIGINAL))
        mcp_fail(request, MCP_INTERNAL_ERROR, "the content cannot be told");
    else if (utf8_valid(text, length) && !memchr(text, '\0', length))
        write_contents(request, "text/plain", text, length, NULL, result);
    else
        write_contents(request, "application/octet-stream", NULL, 0, blob, result);
    cJSON_Delete(result);
}

static void logs_read(struct mcp_request *request, int status, const struct buf *body)
{
    if (status >= 300)
        mcp_fail_problem(request, status, body);
    else
        write_contents(request, "application/json", body->data, body->length, NULL, NULL);
}

static void read_(struct mcp_request *request, const cJSON *params)
{
    struct mcp_resource resource;
    if (!mcp_resource_of(request, params, &resource))
        return;
    cJSON *arguments = cJSON_CreateObject();
    cJSON_AddStringToObject(arguments, "workspace_id", resource.workspace_id);
    if (resource.kind == MCP_RESOURCE_LOGS) {
        call_with(request, "workspace_logs", arguments, logs_read);
        return;
    }
    cJSON_AddStringToObject(arguments, "path", resource.path);
    cJSON_AddStringToObject(arguments, "encoding", "base64");
    cJSON_AddNumberToObject(arguments, "max_bytes", TEXT_MAX);
    call_with(request, "workspace_file_read", arguments, file_read);
}

const struct mcp_method mcp_resource_methods[] = {
    {"resources/templates/list", MCP_ERA_SESSION | MCP_ERA_MODERN, list_templates},
    {"resources/list", MCP_ERA_SESSION | MCP_ERA_MODERN, list},
    {"resources/read", MCP_ERA_SESSION | MCP_ERA_MODERN, read_},
    {"resources/subscribe", MCP_ERA_SESSION, mcp_subscribe},
    {"resources/unsubscribe", MCP_ERA_SESSION, mcp_unsubscribe},
    {"subscriptions/listen", MCP_ERA_MODERN, mcp_listen},
    {0},
};
