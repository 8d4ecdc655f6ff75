/* gRPC over one connected byte stream: HTTP/2 frames by nghttp2, either end, so that any stock gRPC
 * client can call an agent
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). Streams, flow control,
 * cancellation and keepalive are HTTP/2's; a message is length-prefixed, uncompressed, at most
 * LINK_MESSAGE_MAX. Used by hearthd (client) and the agent (server). All of it belongs to the
 * thread of its event_base. Callbacks come from the loop only, never from within a call into here
 * (save on_end of link_call_cancel and link_free); a callback may free or cancel anything, its own
 * call too. The peer is hostile: what breaks a rule of HTTP/2 brings the link down, what breaks one
 * of gRPC ends the call. */
#pragma once

#include "base/cleanup.h"
#include "base/failure.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#define LINK_MESSAGE_MAX ((size_t)8 << 20)
#define LINK_WINDOW ((size_t)4 << 20) /* of a stream and of the connection, each way */
#define LINK_SEND_LOW_WATER ((size_t)512 << 10)
#define LINK_CALLS_MAX 4096 /* side by side on one link */
#define AGENT_PROTOCOL 1
#define AGENT_SERVICE "/hearth.agent.v1.Agent/"

struct event_base;
struct link;
struct link_call;

/* gRPC's status codes, the ones that we use. */
enum link_status {
    LINK_STATUS_OK = 0,
    LINK_STATUS_CANCELLED = 1,
    LINK_STATUS_UNKNOWN = 2,
    LINK_STATUS_INVALID_ARGUMENT = 3,
    LINK_STATUS_DEADLINE_EXCEEDED = 4,
    LINK_STATUS_NOT_FOUND = 5,
    LINK_STATUS_ALREADY_EXISTS = 6,
    LINK_STATUS_PERMISSION_DENIED = 7,
    LINK_STATUS_RESOURCE_EXHAUSTED = 8,
    LINK_STATUS_FAILED_PRECONDITION = 9,
    LINK_STATUS_ABORTED = 10,
    LINK_STATUS_OUT_OF_RANGE = 11,
    LINK_STATUS_UNIMPLEMENTED = 12,
    LINK_STATUS_INTERNAL = 13,
    LINK_STATUS_UNAVAILABLE = 14,
    LINK_STATUS_DATA_LOSS = 15,
};

struct link_call_events {
    /* One whole message; data is borrowed for the call. Not called while paused. */
    void (*on_message)(struct link_call *call, void *arg, const uint8_t *data, size_t length);
    /* What was queued has gone below LINK_SEND_LOW_WATER. May be NULL. */
    void (*on_writable)(struct link_call *call, void *arg);
    /* The peer sends no more messages (server side: the request is complete). May be NULL on a
     * client. */
    void (*on_half_closed)(struct link_call *call, void *arg);
    /* The end, exactly once and last; the call is freed after it. On a server: also when the client
     * went away. */
    void (*on_end)(struct link_call *call, void *arg, enum link_status status, const char *message);
};

struct link_events {
    /* The stream broke, closed, or the peer broke the protocol. Every call has had its on_end
     * (UNAVAILABLE) before. Exactly once, unless the link is freed first; the owner then frees the
     * link. */
    void (*on_down)(struct link *link, void *arg, const struct hearth_failure *why);
    /* Server only: a new call with this path ("/hearth.agent.v1.Agent/Hello"). Set its events by
     * link_call_accept or end it by link_call_end, before this returns. */
    void (*on_call)(struct link *link, void *arg, struct link_call *call, const char *path);
};

/* Takes fd, also where it fails, and makes it non-blocking. Gives a link. */
int link_new_client(struct link **ret_link, struct event_base *base, int fd,
                    const struct link_events *events, void *arg,
                    struct hearth_failure *failure) must_check;
int link_new_server(struct link **ret_link, struct event_base *base, int fd,
                    const struct link_events *events, void *arg,
                    struct hearth_failure *failure) must_check;
/* Closes the stream; each open call gets its on_end (CANCELLED) first, on_down is not called. */
void link_free(struct link *link);
/* HTTP/2 PING every interval_ms of silence; no answer within timeout_ms brings the link down. 0
 * turns it off. */
void link_set_keepalive(struct link *link, unsigned interval_ms, unsigned timeout_ms);

/* Client: opens a call. timeout_ms (0: none) is sent as grpc-timeout and kept here too: past it
 * on_end comes with DEADLINE_EXCEEDED. Gives a borrowed call that lives until its on_end; events is
 * borrowed for its life. */
int link_call_start(struct link_call **ret_call, struct link *link, const char *path,
                    unsigned timeout_ms, const struct link_call_events *events, void *arg,
                    struct hearth_failure *failure) must_check;
/* The most common call, one message each way: sends request and ends the sending. on_message comes
 * at most once. */
int link_call_unary(struct link_call **ret_call, struct link *link, const char *path,
                    unsigned timeout_ms, const ProtobufCMessage *request,
                    const struct link_call_events *events, void *arg,
                    struct hearth_failure *failure) must_check;

/* Server: takes part in a call that on_call announced. Either end: its events are another's now. */
void link_call_accept(struct link_call *call, const struct link_call_events *events, void *arg);

/* Either end: queues one message (copied), written at the end of the loop's turn. Anything may be
 * queued; a polite sender waits for on_writable when link_call_queued is above LINK_SEND_LOW_WATER.
 * HEARTH_ETOOLARGE, HEARTH_ENOMEMORY, or HEARTH_ECANCELLED where the call takes no more. */
int link_call_send(struct link_call *call, const ProtobufCMessage *message) must_check;
int link_call_send_bytes(struct link_call *call, const void *data, size_t length) must_check;
/* The same without a copy: room for a message, and the message that was put there, which is taken,
 * also where that fails. NULL: no memory. link_message_free: it is not sent after all. */
uint8_t *link_message_new(size_t room);
void link_message_free(uint8_t *message);
int link_call_send_message(struct link_call *call, uint8_t *message, size_t length) must_check;
/* Server: of what was answered here nothing is left to be sent. */
bool link_answers_sent(const struct link *link);
/* Calls that have not ended. */
unsigned link_calls(const struct link *link);
size_t link_call_queued(const struct link_call *call);
/* Client: no more messages from here. */
void link_call_finish(struct link_call *call);
/* Server: the end, after what is queued; trailers with status and message (may be NULL). on_end
 * follows. */
void link_call_end(struct link_call *call, enum link_status status, const char *message);
/* Server, the usual answer: one message, then OK. */
void link_call_reply(struct link_call *call, const ProtobufCMessage *message);
/* Either end: gives up (RST_STREAM); on_end (CANCELLED) is called before this returns. */
void link_call_cancel(struct link_call *call);
/* While paused no on_message comes and no window is returned, so the peer stops sending after
 * LINK_WINDOW. Other calls go on. */
void link_call_pause(struct link_call *call, bool paused);
struct link *link_call_link(struct link_call *call);

/* A failure that says what a status means to the caller. Gives the error. */
int link_status_failure(enum link_status status, const char *message,
                        struct hearth_failure *failure);
