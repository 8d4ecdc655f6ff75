/* Host paths in MCP's tool calls. Over stdio they are this user's own: what a call names is packed
 * and uploaded from here, as the other commands do, before the daemon sees the call; what a call is
 * to write is written by those commands. Each such call
 * has a thread of its own, so that the rest of the connection goes on. */
#pragma once

#include "base/buf.h"
#include "cli/http.h"

struct mcp_files;

/* endpoint (until another is used) and profile are borrowed. done_fd is written to when something
 * can be taken. */
int mcp_files_open(struct mcp_files **ret_files, const struct endpoint *endpoint,
                   const char *profile, int done_fd);
void mcp_files_use(struct mcp_files *files, const struct endpoint *endpoint);

/* Takes the line where it is a call that names a path here; false: it goes to the daemon as it is.
 */
bool mcp_files_take(struct mcp_files *files, const char *line, size_t length);

/* Moves what is ready: lines for the daemon, and answers of our own. */
void mcp_files_collect(struct mcp_files *files, struct buf *to_daemon, struct buf *to_client);
