/* Bytes both ways between a connected socket and a PortDial call: what the agent does with a
 * connection to a port of its guest, and hearthd with one that it accepted for it. How much may be
 * under way is counted here, by credit, so that a slow reader holds at most FORWARD_WINDOW a
 * direction and stops no other call of the link. The peer is not believed: what goes past its
 * credit ends the forward. Loop thread. */
#pragma once

#include "guestagent/link.h"

#define FORWARD_WINDOW ((size_t)256 << 10) /* bytes under way, each way, of one connection */
#define FORWARD_ITEM_MAX ((size_t)64 << 10)

struct forward;

struct forward_events {
    /* Client: the agent has made the connection. May be NULL. */
    void (*on_open)(void *arg);
    /* Once, the forward is gone after it; not after forward_free. OK: both sides came to their
     * end. The socket is closed; where the end was not OK its peer sees a reset. */
    void (*on_end)(void *arg, enum link_status status, const char *message);
};

/* Client: asks the link's agent for a connection to the port of its guest. Takes fd, which is not
 * read before the connection is made, also where it fails. Gives a forward that lives until its
 * on_end. */
int forward_dial(struct forward **ret_forward, struct link *link, struct event_base *base, int fd,
                 unsigned port, const struct forward_events *events, void *arg,
                 struct hearth_failure *failure) must_check;
/* Server: takes over an accepted call and fd, and says that the connection is made. NULL: no
 * memory; fd is closed then, the call not ended. */
struct forward *forward_serve(struct link_call *call, struct event_base *base, int fd,
                              const struct forward_events *events, void *arg);
/* Resets both ends. */
void forward_free(struct forward *forward);
