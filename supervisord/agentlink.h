/* The link to one guest's agent: connects, greets, watches, and connects again when it breaks, for
 * as long as it is open. Above it calls are typed: one request message, one reply message, one
 * completion. Loop thread. */
#pragma once

#include "base/failure.h"
#include "base/list.h"
#include "guestagent/link.h"
#include "supervisord/loop.h"

#include <protobuf-c/protobuf-c.h>

struct sandbox;
struct agent_call;

enum agentlink_state {
    AGENTLINK_CLOSED,
    AGENTLINK_WAITING,
    AGENTLINK_CONNECTING,
    AGENTLINK_GREETING,
    AGENTLINK_UP
};

struct agentlink {
    struct sandbox *sandbox;
    enum agentlink_state state;
    struct link *link; /* NULL unless greeting or up */
    uint64_t attempt;  /* what a late connect or hello belongs to */
    unsigned failures; /* since it was last up */
    struct timer retry;
    struct list waiters; // agentlink_waiter::link
    char boot_id[64];
    struct hearth_failure last_failure;
    struct hearth_failure cut_off; /* what calls are told that its end cuts off */
};

typedef void (*agentlink_done)(void *arg, int error, const struct hearth_failure *failure);

void agentlink_init(struct agentlink *link, struct sandbox *sandbox);
/* Begins to connect; goes on until agentlink_close. */
void agentlink_open(struct agentlink *link);
/* Hangs up. Waiters and calls under way end with HEARTH_EUNAVAILABLE, calls with what
 * agentlink_cuts_off has said since it was opened. */
void agentlink_close(struct agentlink *link);
void agentlink_cuts_off(struct agentlink *link, enum hearth_error error, const char *code,
                        const char *detail);
void agentlink_free(struct agentlink *link);
/* One to a guest that is paused: its silence means nothing. */
void agentlink_pause(struct agentlink *link, bool paused);
/* done once, when the link is up (maybe at once, but never before this returns) or at the deadline
 * (HEARTH_EUNAVAILABLE `agent_unreachable`). */
void agentlink_when_up(struct agentlink *link, int64_t deadline_us, agentlink_done done, void *arg);
/* "up", "connecting", "down" */
const char *agentlink_state_name(const struct agentlink *link);

/* reply is NULL on error and borrowed else. status tells NOT_FOUND and the like apart. */
typedef void (*agent_replied)(void *arg, enum link_status status,
                              const struct hearth_failure *failure, const ProtobufCMessage *reply);

/* Asks; replied comes once, never before this returns; NULL: nobody needs to know. method is the
 * bare name ("ExecRead"). timeout_ms 0: none. Gives a call that agent_call_cancel takes back
 * (replied is then not called), borrowed until replied. */
struct agent_call *agent_call(struct agentlink *link, const char *method,
                              const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *reply_type, unsigned timeout_ms,
                              agent_replied replied, void *arg);
void agent_call_cancel(struct agent_call *call);
