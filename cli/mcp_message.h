/* Messages of MCP that are written here and not by the daemon. */
#pragma once

#include "base/buf.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

/* Does a request with these params (NULL: none) want answers of the protocol without a session? */
bool mcp_is_modern(const cJSON *params);

/* Whole numbers that a double does not hold become the digits that stand in the line (cJSON_Raw),
 * so that they go back as they came: the item behind path; a message's id, and that of what it
 * cancels.
 */
void mcp_keep_digits(cJSON *item, const char *const *path, const char *line, size_t length);
void mcp_keep_ids(cJSON *message, const char *line, size_t length);
bool mcp_is_id(const cJSON *id);
bool mcp_same_id(const cJSON *one, const cJSON *other);

/* An answer without its result: {"jsonrpc": "2.0", "id": a copy of id}, null for a NULL id. The
 * caller deletes it. */
cJSON *mcp_answer(const cJSON *id);
/* A tool's result, added to its answer: text is its only block; structured (taken) is what it
 * gives, NULL: the call has failed. */
void mcp_add_tool_result(cJSON *answer, bool modern, const char *text, cJSON *structured);

/* Appends the message and the end of its line. */
void mcp_append(struct buf *out, const cJSON *message);
