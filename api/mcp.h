/* The Model Context Protocol (docs/mcp.md), printed from the operation table. mcp.c frames JSON-RPC
 * and keeps requests; mcp_session.c serves the era of the initialize handshake, mcp_modern.c that
 * of stateless requests; mcp_tools.c, mcp_resources.c and mcp_prompts.c answer in both. A transport
 * (mcp_stdio.c, mcp_http.c) owns a peer, gives it messages and carries away what it says. No state
 * that matters is here: workspaces live in the daemon, whoever speaks. Loop thread. */
#pragma once

#include "api/call_internal.h"

#define MCP_REQUESTS_MAX 128     /* under way for one peer */
#define MCP_SUBSCRIPTIONS_MAX 64 /* of one peer */
#define MCP_VERSION_MODERN "2026-07-28"
#define MCP_VERSION_SESSION "2025-11-25" /* what an unknown version is answered with */

enum mcp_code {
    MCP_OK = 0,
    MCP_PARSE_ERROR = -32700,
    MCP_INVALID_REQUEST = -32600,
    MCP_METHOD_NOT_FOUND = -32601,
    MCP_INVALID_PARAMS = -32602,
    MCP_INTERNAL_ERROR = -32603,
    MCP_OVERLOADED = -32000,
    MCP_SESSION_NOT_FOUND = -32001,
    MCP_RESOURCE_NOT_FOUND = -32002, /* the handshake era's; -32602 in the modern one */
    MCP_HEADER_MISMATCH = -32020,
    MCP_UNSUPPORTED_VERSION = -32022,
    MCP_CANCELLED = -32800,
};

enum mcp_era { MCP_ERA_OPEN, MCP_ERA_SESSION = 1, MCP_ERA_MODERN = 2 };

struct mcp_peer;
struct mcp_request;

/* Messages are borrowed, but answer may take the bytes; the request is freed right after answer and
 * drop. */
struct mcp_transport {
    void (*answer)(struct mcp_request *request, enum mcp_code code, struct buf *message);
    /* A notification on behalf of the request, before its answer. */
    void (*tell)(struct mcp_request *request, const struct buf *message);
    /* A notification on nobody's behalf; dropped where none listens. */
    void (*announce)(struct mcp_peer *peer, const struct buf *message);
    /* The request was cancelled by notification: there will be no answer. */
    void (*drop)(struct mcp_request *request);
    /* How long its answer may be. */
    size_t (*answer_max)(const struct mcp_request *request);
};

/* The other side, as long as its connection, session or (stateless HTTP) its one request. Embedded
 * in what the transport keeps. */
struct mcp_peer {
    struct api *api;
    const struct mcp_transport *transport;
    struct principal principal;
    enum profile profile;
    enum mcp_era era;
    char version[16]; /* the handshake era's negotiated one */
    bool initialized; /* initialize was answered */
    unsigned request_count;
    struct list requests;      // mcp_request::link
    struct list subscriptions; // mcp_subscription::link
    struct list link;          // api::mcp_peers
};
void mcp_peer_open(struct mcp_peer *peer, struct api *api, const struct mcp_transport *transport,
                   const struct principal *principal, enum profile profile);
/* Abandons what is under way: commands that nobody else waits for end. Nothing is answered. */
void mcp_peer_close(struct mcp_peer *peer);

/* A message, parsed. Zero-initialise; mcp_message_free when done. */
enum mcp_kind { MCP_UNREADABLE, MCP_REQUEST, MCP_NOTIFICATION, MCP_RESPONSE };
struct mcp_message {
    enum mcp_kind kind;
    cJSON *tree;
    const char *method;
    const cJSON *params; /* an object, or NULL */
    char *id;            /* JSON text; NULL where there is none */
    enum mcp_code code;  /* MCP_UNREADABLE, or a request that is wrong all the same */
    const char *fault;
    struct hearth_failure failure;
};
void mcp_message_parse(struct mcp_message *message, const char *text, size_t length);
void mcp_message_free(struct mcp_message *message);
/* Does the message carry the modern era's envelope (params._meta with a protocol version)? */
bool mcp_message_enveloped(const struct mcp_message *message);

/* Serves a request or notification in the peer's era. exchange is the transport's, kept in the
 * request; the answer may come before this returns. A notification, a response: nothing comes. */
void mcp_serve(struct mcp_peer *peer, struct mcp_message *message, void *exchange);
/* The text of an error without a request to answer. id NULL: null. */
void mcp_write_error(struct buf *out, const char *id, enum mcp_code code, const char *text,
                     const char *data);

struct mcp_request {
    struct mcp_peer *peer;
    void *exchange;
    struct list link;     // mcp_peer::requests
    char *id;             /* JSON text */
    char *progress_token; /* JSON text; NULL: none */
    struct call *call;    /* the operation under way */
    /* Makes the answer of the operation's: it leads to exactly one mcp_result_end or mcp_fail. */
    void (*finish)(struct mcp_request *request, int status, const struct buf *body);
    char *subject;      /* finish's own: a URI; freed with the request */
    struct timer timer; /* progress */
    int64_t began_us;
    struct buf out; /* the answer as it is written */
};

/* {"jsonrpc":…,"id":…,"result":{ and what its era wants in it; the caller writes the members and
 * ends it, which answers. ttl_ms is how long the modern era's clients may keep it. */
#define MCP_TTL_STATIC_MS 300000 /* what does not change while the daemon runs */
#define MCP_TTL_NONE (-1)        /* no cacheable result */
void mcp_result_begin(struct mcp_request *request, struct json_writer *json, int ttl_ms);
void mcp_result_end(struct mcp_request *request, struct json_writer *json);
void mcp_fail(struct mcp_request *request, enum mcp_code code, const char *text);
void mcp_fail_data(struct mcp_request *request, enum mcp_code code, const char *text,
                   const char *data /* JSON text */);
/* The answer of a failed operation that is no tool call. */
void mcp_fail_problem(struct mcp_request *request, int status, const struct buf *problem);
/* Calls an operation on the request's behalf; finish gets its answer. Takes nothing. key is the
 * client's Idempotency-Key; NULL: none. */
void mcp_call(struct mcp_request *request, const struct operation_entry *entry,
              const cJSON *arguments, const char *key);
/* Starts telling of progress, where the request has a token. */
void mcp_progress_start(struct mcp_request *request);
/* Ends a request that nobody waits for: what it runs is cancelled, nothing is said. */
void mcp_request_abandon(struct mcp_request *request);

/* A method: in which eras, and what serves it. params may be NULL. */
struct mcp_method {
    const char *name;
    unsigned eras;
    void (*serve)(struct mcp_request *request, const cJSON *params);
};
extern const struct mcp_method mcp_session_methods[], mcp_modern_methods[], mcp_tool_methods[],
    mcp_resource_methods[], mcp_prompt_methods[]; /* each ended by a NULL name */

/* mcp_session.c and mcp_modern.c: may the request be served? False: it has been failed. served: the
 * era has such a method. */
bool mcp_session_admit(struct mcp_request *request, const struct mcp_message *message, bool served);
bool mcp_modern_admit(struct mcp_request *request, const struct mcp_message *message);
/* capabilities and instructions, alike in both eras' first answers. */
void mcp_write_server(struct mcp_request *request, struct json_writer *json);
void mcp_write_server_info(struct json_writer *json, const char *key);
/* {"supported": [...], "requested": …} */
void mcp_write_versions(struct buf *out, const char *requested);
/* Is it a version of the handshake era? */
bool mcp_session_version(const char *version);

/* mcp_tools.c: a list's page is all of it; false: the request has been failed for its cursor. */
bool mcp_no_cursor(struct mcp_request *request, const cJSON *params);
const char *mcp_text(const cJSON *object, const char *name); /* NULL where it is no string */

/* mcp_resources.c */
void mcp_subscriptions_close(struct mcp_peer *peer);
void mcp_request_unsubscribe(struct mcp_request *request);
/* Something in the workspace may have changed. */
void mcp_workspace_touched(struct api *api, const char *workspace_id);

/* mcp_http.c and mcp_stdio.c: the routes. */
void mcp_http_serve(struct api *api, struct http_request *request);
void mcp_stream_open(struct api *api, struct http_request *request);
void mcp_stream_feed(struct api *api, struct http_request *request, const char *stream_id);
/* The query's profile (workspace-core where it names none), or the failure. */
int mcp_find_profile(struct http_request *request, enum profile *ret_profile,
                     struct hearth_failure *failure);
/* End what is open, so that the edge can drain. */
void mcp_streams_drain(struct api *api);
void mcp_sessions_drain(struct api *api);
void mcp_sessions_end_token(struct api *api, const char *token_id);
void mcp_sessions_free(struct api *api);
