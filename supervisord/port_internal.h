/* What port.c, port_connect.c and port_dial.c share. */
#pragma once

#include "guestagent/forward.h"
#include "supervisord/port.h"
#include "supervisord/supervisor_internal.h"

/* Counts a connection of the workspace; HEARTH_EQUOTA `too_many_port_connections`. */
int port_connection_begin(struct workspace *workspace, struct hearth_failure *failure);
/* By ID: the workspace may have gone before it. */
void port_connection_end(struct supervisor *supervisor, const char *workspace_id);

/* One connection to a port of the guest's loopback, by the shortest way that its driver has: a
 * socket of ours in its network, or the agent's relay. Takes fd, which is not read before the
 * connection is made. Gives a dial that lives until its on_end, which comes never before this
 * returns; the events are those of a forward (statuses too: FAILED_PRECONDITION where nobody
 * listens). It ends with the guest, however long the client stays. */
struct port_dial;
struct port_dial *port_dial(struct sandbox *sandbox, int fd, unsigned port,
                            const struct forward_events *events, void *arg);
/* Resets both ends; on_end does not come. */
void port_dial_free(struct port_dial *dial);
