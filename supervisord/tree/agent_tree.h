/* Whole trees between hearthd and an agent: scans, contents, and putting a tree in place. Bytes
 * pass the loop unread; what they mean is worked out on the workers. What the agent says is a
 * stranger's: bounded here, checked there. Each call's done comes once, on the loop, never before
 * the call returns, and not while a worker is busy with it. A link that breaks ends it. */
#pragma once

#include "agent.pb-c.h"
#include "base/buf.h"
#include "supervisord/agentlink.h"
#include "supervisord/tree/stores.h"

/* messages: TreeScanReply messages, each behind its length (uint32_t, the host's order); empty on
 * error; the callee may take the bytes. */
typedef void (*agent_scanned)(void *arg, int error, const struct hearth_failure *failure,
                              struct buf *messages);
void agent_scan(struct agentlink *link, const char *base_id, agent_scanned done, void *arg);

struct agent_read_events {
    /* On a worker, in the order of the paths: a piece of the file at index; with the last one
     * (end set) its status, and entry where that is OK or CHANGED. A negative error ends it. */
    int (*on_item)(void *arg, size_t index, const Hearth__Agent__V1__TreeReadItem *item,
                   struct hearth_failure *failure);
    void (*done)(void *arg, int error, const struct hearth_failure *failure);
};
/* paths and the texts are borrowed until done. */
void agent_read(struct agentlink *link, struct stores *stores, const char *const *paths,
                size_t count, const struct agent_read_events *events, void *arg);

struct agent_put_events {
    /* On a worker: appends whole TreeItem messages, each behind its length (as above), about
     * AGENT_PUT_BYTES of them; *ret_end when there are no more. */
    int (*fill)(void *arg, struct buf *out, bool *ret_end, struct hearth_failure *failure);
    void (*done)(void *arg, int error, const struct hearth_failure *failure);
};
#define AGENT_PUT_BYTES ((size_t)1 << 20)
/* Puts what fill gives into /workspace, with its modes, owners and times just so. */
void agent_put(struct agentlink *link, struct stores *stores, const struct agent_put_events *events,
               void *arg);

/* Messages behind their lengths. */
int agent_message_append(struct buf *out, const void *data, size_t length);
/* The next one at *at, which moves on; false at the end. */
bool agent_message_next(const struct buf *messages, size_t *at, const uint8_t **ret_data,
                        size_t *ret_length);
