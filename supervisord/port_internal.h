/* What port.c and port_connect.c share. */
#pragma once

#include "guestagent/forward.h"
#include "supervisord/port.h"
#include "supervisord/supervisor_internal.h"

/* Counts a connection of the workspace; HEARTH_EQUOTA `too_many_port_connections`. */
int port_connection_begin(struct workspace *workspace, struct hearth_failure *failure);
/* By ID: the workspace may have gone before it. */
void port_connection_end(struct supervisor *supervisor, const char *workspace_id);
