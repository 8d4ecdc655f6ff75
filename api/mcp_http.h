/* Streamable HTTP: what its files share. mcp_http.c has the rules of POST, GET and DELETE at /mcp;
 * mcp_exchange.c carries one request's answer, as JSON or as an event stream; mcp_http_session.c
 * keeps the handshake era's sessions and what their streams said, for a client that comes back.
 * Loop thread. */
#pragma once

#include "api/mcp.h"
#include "base/map.h"

#define MCP_SESSION_ID_LENGTH 32
#define MCP_EVENTS_MAX 1024                   /* kept of a session */
#define MCP_EVENT_BYTES_MAX ((size_t)8 << 20) /* kept of a session */
#define MCP_EVENT_MAX ((size_t)1000 * 1000)   /* one: real clients take no more than 1 MiB */
#define MCP_SESSIONS_MAX 1024                 /* in all */
#define MCP_SESSIONS_PER_TOKEN 128
#define MCP_SESSION_IDLE_US (INT64_C(3600) * US_PER_S)
#define MCP_ANNOUNCE_STREAM 0 /* the stream of a session that GET opens */

struct mcp_event {
    struct list link; // mcp_session::events
    unsigned stream;
    uint64_t sequence;
    struct buf message;
};

struct mcp_exchange;

struct mcp_session {
    struct mcp_peer peer;
    struct map_entry entry; // mcp_sessions::by_id
    struct list link;       // mcp_sessions::all, the longest unused first
    char id[MCP_SESSION_ID_LENGTH + 1];
    int64_t used_us;
    struct list exchanges;         // mcp_exchange::link
    struct mcp_exchange *listener; /* GET's; NULL: none */
    struct list events;            // mcp_event::link
    unsigned event_count, stream_count;
    size_t event_bytes;
    uint64_t announced; /* the last sequence on the stream that GET opens */
};

/* One HTTP request that is answered with a message or a stream of them. Freed at the end of the
 * turn in which it is done. */
struct mcp_exchange {
    struct request_owner owner;
    struct api *api;
    struct http_request *http;   /* NULL: gone */
    struct mcp_session *session; /* NULL: of the modern era */
    struct mcp_peer own;         /* the modern era's peer */
    struct list link;            // mcp_session::exchanges
    bool takes_events;           /* the client accepts an event stream */
    bool streaming;
    bool full; /* enough is queued */
    bool done;
    unsigned stream;
    uint64_t sequence;  /* of the stream's last event */
    struct timer timer; /* to a stream, then to its next sign of life */
};

extern const struct mcp_transport mcp_http_transport;

/* Of an HTTP request that is to be answered; NULL: replied for want of memory. */
struct mcp_exchange *mcp_exchange_new(struct api *api, struct http_request *http,
                                      struct mcp_session *session, bool takes_events);
/* Turns the reply into an event stream. */
void mcp_exchange_stream(struct mcp_exchange *exchange);
/* A message with this place in its stream; not kept. */
void mcp_exchange_send(struct mcp_exchange *exchange, uint64_t sequence, const struct buf *message);
/* Ends the reply: a stream that may end, else (no answer was made) with an error. */
void mcp_exchange_end(struct mcp_exchange *exchange);
/* Another HTTP request takes over what the exchange has to say. */
void mcp_exchange_adopt(struct mcp_exchange *exchange, struct http_request *http);

/* NULL and the failure `too_many_sessions`, or out of memory. */
struct mcp_session *mcp_session_new(struct api *api, const struct principal *principal,
                                    enum profile profile, struct hearth_failure *failure);
/* The token's session of that ID, used now; NULL where there is none. */
struct mcp_session *mcp_session_find(struct api *api, const struct principal *principal,
                                     const char *id);
/* Ends it with all that is under way. */
void mcp_session_end(struct mcp_session *session);
void mcp_session_keep(struct mcp_session *session, unsigned stream, uint64_t sequence,
                      const struct buf *message);
/* GET: listens, or goes on after the event that last names. */
void mcp_session_listen(struct mcp_session *session, struct http_request *http, const char *last);

void mcp_http_reply(struct http_request *http, int status, struct buf *message);
void mcp_http_refuse(struct http_request *http, int status, const char *id, enum mcp_code code,
                     const char *text);
