/* Ports of guests: listeners on the host's loopback that lead to one, for services, and single
 * connections for whoever serves a client in another way. Bytes go to the guest's loopback (see
 * port_internal.h), so no guest needs a network for it. Loop thread. */
#pragma once

#include "supervisord/service.h"

#define PORT_HOST "127.0.0.1"
#define PORT_CONNECTIONS_MAX 512 /* of one workspace, of all its ports */

struct published;

/* Listens for all of these, or for none. Where resumed is set a port that cannot be had yet is
 * waited for: it was promised by a daemon before this one. HEARTH_EINVALID `ports_not_allowed`,
 * `bad_ports`; HEARTH_ECONFLICT `port_taken`. Gives what ports_close frees. */
int ports_publish(struct published **ret_published, struct workspace *workspace,
                  const struct port_pair *ports, size_t count, bool resumed,
                  struct hearth_failure *failure);
/* Connections that are open are reset. NULL is fine. */
void ports_close(struct published *published);
const struct port_pair *ports_list(const struct published *published, size_t *ret_count);
/* The link is up again: connections are taken on. */
void ports_link_up(struct published *published);

/* As text for a row, and back; parse gives how many, at most SERVICE_PORTS_MAX. */
#define PORTS_TEXT_SIZE (SERVICE_PORTS_MAX * 12 + 1)
void ports_write(const struct published *published, char text[PORTS_TEXT_SIZE]);
size_t ports_parse(const char *text, struct port_pair ports[SERVICE_PORTS_MAX]);

/* One connection to a port of the guest. done comes once, never before this returns; where error is
 * 0 it gets a stream socket (given, non-blocking). HEARTH_EUNAVAILABLE `port_not_listening`,
 * `port_unreachable`; HEARTH_EQUOTA `too_many_port_connections`. */
typedef void (*port_connected)(void *arg, int error, const struct hearth_failure *failure, int fd);
void port_connect(struct workspace *workspace, unsigned port, port_connected done, void *arg);
