/* What a client has said over stdio and a daemon that is started anew has to be told again: the
 * handshake, the subscriptions, and the requests that are not answered yet. Lines are whole
 * messages without their end; those of the daemon are its own compact JSON. One thread. */
#pragma once

#include "base/buf.h"
#include "base/failure.h"

#include <stdbool.h>
#include <stdint.h>

struct mcp_replay;

/* NULL where memory ran out. */
struct mcp_replay *mcp_replay_new(void);

/* A line of the client. sent: it goes to the daemon now; otherwise it is kept until
 * mcp_replay_again, and a notification that it is cancelled takes it away. */
void mcp_replay_take(struct mcp_replay *replay, const char *line, size_t length, bool sent);
/* Answers a line of the client that is longer than the daemon takes, where it has an ID with that.
 */
void mcp_replay_too_long(const char *line, size_t length, struct buf *to_client);
/* A line of the daemon. False: it answers what mcp_replay_again said, and is not for the client;
 * what the client should know all the same is appended. */
bool mcp_replay_answer(struct mcp_replay *replay, const char *line, size_t length,
                       struct buf *to_client);

/* The connection is lost: calls that may have been made, and cannot be made twice, are answered
 * with a problem. */
void mcp_replay_lost(struct mcp_replay *replay, struct buf *to_client);
/* The lines that a new connection begins with. */
void mcp_replay_again(struct mcp_replay *replay, struct buf *to_daemon);
/* Answers what has waited since before a time (clock_monotonic_us) with the failure. */
void mcp_replay_refuse(struct mcp_replay *replay, int64_t before_us,
                       const struct hearth_failure *failure, struct buf *to_client);

/* Does somebody wait for an answer, or for news of what it subscribed to? */
bool mcp_replay_waits(const struct mcp_replay *replay);
/* How many bytes are kept. */
size_t mcp_replay_size(const struct mcp_replay *replay);
