#include "cli/mcp_message.h"

#include "base/json_digits.h"
#include "cli/output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_MAX 9007199254740992.0 /* 2^53: whole numbers below it are their own doubles */

void mcp_keep_digits(cJSON *item, const char *const *path, const char *line, size_t length)
{
    const char *digits;
    size_t count;
    if (!cJSON_IsNumber(item) || fabs(item->valuedouble) < EXACT_MAX ||
        !json_digits(line, length, path, &digits, &count))
        return;
    item->valuestring = strndup(digits, count);
    if (item->valuestring)
        item->type = cJSON_Raw;
}

void mcp_keep_ids(cJSON *message, const char *line, size_t length)
{
    static const char *const id[] = {"id", NULL}, *const cancelled[] = {"params", "requestId",
                                                                        NULL};
    cJSON *params = cJSON_GetObjectItemCaseSensitive(message, "params");
    mcp_keep_digits(cJSON_GetObjectItemCaseSensitive(message, "id"), id, line, length);
    mcp_keep_digits(cJSON_GetObjectItemCaseSensitive(params, "requestId"), cancelled, line, length);
}

bool mcp_is_id(const cJSON *id)
{
    return cJSON_IsString(id) || cJSON_IsNumber(id) || cJSON_IsRaw(id);
}

bool mcp_same_id(const cJSON *one, const cJSON *other)
{
    if (cJSON_IsNumber(one))
        return cJSON_IsNumber(other) && one->valuedouble == other->valuedouble;
    bool same_kind = cJSON_IsString(one) ? cJSON_IsString(other) : cJSON_IsRaw(other);
    return same_kind && strcmp(one->valuestring, other->valuestring) == 0;
}

bool mcp_is_modern(const cJSON *params)
{
    return cJSON_HasObjectItem(json_member(params, "_meta"),
                               "io.modelcontextprotocol/protocolVersion");
}

cJSON *mcp_answer(const cJSON *id)
{
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "jsonrpc", "2.0");
    cJSON_AddItemToObject(answer, "id", id ? cJSON_Duplicate(id, true) : cJSON_CreateNull());
    return answer;
}

void mcp_add_tool_result(cJSON *answer, bool modern, const char *text, cJSON *structured)
{
    cJSON *result = cJSON_AddObjectToObject(answer, "result"), *block = cJSON_CreateObject();
    if (modern)
        cJSON_AddStringToObject(result, "resultType", "complete");
    cJSON_AddStringToObject(block, "type", "text");
    cJSON_AddStringToObject(block, "text", text);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(result, "content"), block);
    if (structured)
        cJSON_AddItemToObject(result, "structuredContent", structured);
    cJSON_AddBoolToObject(result, "isError", !structured);
}

void mcp_append(struct buf *out, const cJSON *message)
{
    char *text = cJSON_PrintUnformatted(message);
    if (text && !buf_text(out, text))
        buf_char(out, '\n');
    cJSON_free(text);
}
