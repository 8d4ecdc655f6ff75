#include "cli/mcp_message.h"

#include "cli/output.h"

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
