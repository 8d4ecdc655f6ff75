/* Messages of MCP that are written here and not by the daemon. */
#pragma once

#include "base/buf.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

/* Does a request with these params (NULL: none) want answers of the protocol without a session? */
bool mcp_is_modern(const cJSON *params);

/* An answer without its result: {"jsonrpc": "2.0", "id": a copy of id}, null for a NULL id. The
 * caller deletes it. */
cJSON *mcp_answer(const cJSON *id);
/* A tool's result, added to its answer: text is its only block; structured (taken) is what it
 * gives, NULL: the call has failed. */
void mcp_add_tool_result(cJSON *answer, bool modern, const char *text, cJSON *structured);

/* Appends the message and the end of its line. */
void mcp_append(struct buf *out, const cJSON *message);
