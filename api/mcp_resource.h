/* What a resource's URI names, and who wants to hear of its changes. Loop thread. */
#pragma once

#include "api/mcp.h"

enum mcp_resource_kind { MCP_RESOURCE_FILE, MCP_RESOURCE_LOGS };
struct mcp_resource {
    enum mcp_resource_kind kind;
    char workspace_id[ID_SIZE];
    char path[4096]; /* below /workspace; a file's */
};

/* hearth://workspaces/ID/files/PATH and hearth://workspaces/ID/logs. Pure. */
bool mcp_resource_parse(const char *uri, struct mcp_resource *ret_resource);
/* params.uri, kept as the request's subject; false: the request has been failed. */
bool mcp_resource_of(struct mcp_request *request, const cJSON *params,
                     struct mcp_resource *ret_resource);

/* mcp_subscription.c */
void mcp_subscribe(struct mcp_request *request, const cJSON *params);
void mcp_unsubscribe(struct mcp_request *request, const cJSON *params);
void mcp_listen(struct mcp_request *request, const cJSON *params);
