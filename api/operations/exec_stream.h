/* A command whose output is sent as it comes: NDJSON lines or server-sent events. */
#pragma once

#include "api/call.h"

/* Ends the call. With cancel_if_gone a client that leaves ends its command. */
void exec_stream(struct call *call, struct workspace *workspace, const char *workspace_id,
                 const struct exec_spec *spec, bool cancel_if_gone);
/* The call's client has gone: its command is ended, and nobody waits for that. */
void exec_cancel_for_nobody(struct call *call, const char *workspace_id, const char *exec_id);
