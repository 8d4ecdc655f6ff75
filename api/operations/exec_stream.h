/* A command whose output is sent as it comes: NDJSON lines or server-sent events. */
#pragma once

#include "api/call.h"
#include "api/operations/output.h"

/* Ends the call. wait_ms -1: streams until the command's end, and a client that leaves ends it;
 * else for so long, then the last event says that it runs still. */
void exec_stream(struct call *call, struct workspace *workspace, const char *workspace_id,
                 const struct exec_spec *spec, enum text_encoding encoding, int wait_ms);
/* The call's client has gone: its command is ended, and nobody waits for that. */
void exec_cancel_for_nobody(struct call *call, const char *workspace_id, const char *exec_id);
