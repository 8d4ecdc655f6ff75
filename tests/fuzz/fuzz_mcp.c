/* api/mcp.c and api/mcp_resources.c: what a stranger's line or resource URI is taken for. The first
 * byte says which. */
#include "fuzz.h"

#include "api/json_read.h"
#include "api/mcp_resource.h"

#include <string.h>

static void take_message(const char *text, size_t size)
{
    struct mcp_message message = {0};
    mcp_message_parse(&message, text, size);
    bool enveloped = mcp_message_enveloped(&message);
    if (message.kind == MCP_UNREADABLE)
        PROMISE(message.code && message.fault && message.fault[0]);
    if (message.kind == MCP_REQUEST)
        PROMISE(message.id && message.method && !message.code == !message.fault);
    if (message.kind == MCP_NOTIFICATION)
        PROMISE(!message.id && message.method);
    PROMISE(!enveloped || message.params);
    if (message.id) { /* it goes into answers as it is */
        PROMISE(json_check(message.id, strlen(message.id), NULL) == 0);
        PROMISE(!strchr(message.id, '\n'));
    }
    mcp_message_free(&message);
}

static void take_uri(char *text)
{
    struct mcp_resource resource;
    if (!mcp_resource_parse(text, &resource))
        return;
    PROMISE(strlen(resource.workspace_id) < sizeof resource.workspace_id);
    PROMISE(!strchr(resource.workspace_id, '/'));
    if (resource.kind == MCP_RESOURCE_FILE)
        PROMISE(strlen(resource.path) < strlen(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    /* A copy of the exact size, so that a read past the end is seen. */
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    if (data[0] & 1) {
        take_message(text, size - 1);
    } else {
        text[size - 1] = '\0';
        take_uri(text);
    }
    free(text);
    return 0;
}
