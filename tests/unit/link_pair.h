/* Two links face to face in one event loop, and what a test's caller saw of a call. */
#pragma once

#include "echo_service.h"
#include "guestagent/link.h"

#include <event2/event.h>

struct relay {
    struct event *readable, *writable;
    int from, to;
    size_t chop, length, sent;
    char bytes[65536];
};

struct link_pair {
    struct event_base *base;
    struct link *client, *server; /* NULL: freed, or none was asked for */
    struct echo_service echo;
    struct relay *relays[2];
    int relay_fds[2];
    unsigned client_downs, server_downs;
    struct hearth_failure client_why;
};

/* What a caller saw. Zero-initialise it; the hooks are optional. */
struct caller {
    struct link_call *call; /* NULL after the end */
    unsigned messages, half_closed, writable, ended;
    size_t bytes;
    char last[64];
    enum link_status status;
    char text[128];
    void (*at_message)(struct caller *caller);
    void (*at_end)(struct caller *caller);
    struct link_pair *pair;
};

extern const struct link_call_events caller_events;

/* chop: the relay between the two passes so many bytes a turn; 0: they share one socket pair. */
void link_pair_open(struct link_pair *pair, size_t chop);
void link_pair_close(struct link_pair *pair);
/* One turn that waits for an event; one that does not. */
void link_pair_turn(struct link_pair *pair);
void link_pair_poll(struct link_pair *pair);
#define RUN_UNTIL(pair, condition)                                                                 \
    do {                                                                                           \
        while (!(condition))                                                                       \
            link_pair_turn(pair);                                                                  \
    } while (0)

/* Opens a call to the echo service; sends text (NULL: nothing), which ends the sending if finish.
 */
void caller_start(struct caller *caller, struct link_pair *pair, const char *method,
                  const char *text, bool finish, unsigned timeout_ms);
