/* A call as the surfaces see it: what call.h's handlers may not know. */
#pragma once

#include "api/api.h"
#include "api/call.h"
#include "api/http.h"
#include "api/optable.h"

#include <cjson/cJSON.h>

struct api {
    struct supervisor *supervisor;
    struct http_server *server;
    char *url;
    struct list calls;     // call::link
    struct list keys;      // idempotent calls under way, call::key_link
    struct timer prune;    /* old idempotent answers */
    struct list mcp_peers; // mcp_peer::link
    struct mcp_sessions *mcp_sessions;
    struct list mcp_streams; // mcp_stream::link
    bool draining;
    bool ends_sessions; /* … those of MCP, as the daemon does */
    uint64_t requests;
    uint64_t outcomes[6]; /* by the status's hundreds */
};

struct chunk;
struct content_hash;

#define CALL_KEY_MAX 255

/* What a request's data points to: who is told of its body and of its client's leaving. NULL
 * members: not told. */
struct request_owner {
    void (*on_body)(struct request_owner *owner, const void *data, size_t length);
    void (*on_body_end)(struct request_owner *owner);
    void (*on_gone)(struct request_owner *owner); /* the request must not be used after it */
};

struct call {
    struct request_owner owner;
    struct api *api;
    struct http_request *request; /* NULL once replied or gone, and where there never was one */
    /* Where the call is not an HTTP request of its own: takes the answer, once, unless the call was
     * abandoned. Takes body's bytes or leaves them. */
    void (*on_answer)(void *arg, int status, struct buf *body);
    void *answer_arg;
    const struct operation_entry *entry;
    struct principal principal;
    char request_id[68];
    char touches[ID_SIZE];        /* the workspace in which it counts as activity; "": none */
    bool active;                  /* … and has begun there */
    struct redact_values *redact; /* what an answer must not show; NULL: nothing */
    bool blind;                   /* … and that could not be found out: no result is shown */
    bool tool;                    /* by the tools endpoint: no streams, no raw bodies */
    bool raw_body;                /* the body is content */
    bool streaming;               /* call_stream_begin was called */
    void (*on_gone)(void *arg);
    void *gone_arg;
    void (*on_drain)(void *arg);
    void *drain_arg;
    void (*on_data)(void *arg, const void *data, size_t length);
    void (*on_body_end)(void *arg);
    void *body_arg;
    void (*on_writable)(void *arg);
    void *writable_arg;
    struct chunk *memory;
    const void *input; /* decoded; lives as long as the call */
    /* Idempotency: key "" for none. The intent is in principal. */
    char key[CALL_KEY_MAX + 1];
    unsigned char fingerprint[32];
    struct content_hash *content; /* of a raw body; NULL: nobody asks for it */
    bool holds_key;
    bool told;     /* by operation_entry::tell: what it tells of has happened */
    bool over;     /* the handler has ended it */
    bool orphaned; /* call_orphan: its end is freed, and no more */
    unsigned retained;
    struct list key_link; // api::keys
    struct list link;     // api::calls
    int64_t began_us;
};

/* Gives a call of the request, whose data it becomes; request NULL: one that answers to on_answer.
 * NULL: out of memory. */
struct call *call_new(struct api *api, struct http_request *request,
                      const struct operation_entry *entry);
void call_free(struct call *call);
/* The daemon ends: nobody hears of it, and nothing more is kept of it. Who works for it may still
 * say that it is over, as long as the supervisor is there. */
void call_orphan(struct call *call);
/* Its memory stays until as many releases. */
void call_retain(struct call *call);
void call_release(struct call *call);
/* call_read_body without a hash. */
void call_take_body(struct call *call, void (*on_data)(void *arg, const void *data, size_t length),
                    void (*on_end)(void *arg), void *arg);
/* Calls the handler, once the guest that it needs is there. */
void call_run(struct call *call);
/* Nobody waits for the answer any more: what the handler does for the caller alone is cancelled.
 * The call may be gone after this. */
void call_abandon(struct call *call);
/* Does nobody wait for the answer? */
bool call_is_gone(const struct call *call);

/* tools.c */
void tools_list(struct api *api, struct http_request *request);
void tools_run(struct call *call);
/* One definition as MCP's tools/list has it. */
void tools_write_mcp(struct json_writer *json, const struct operation_entry *entry,
                     enum profile profile);
/* Gives the call an Idempotency-Key, where there is one and the operation changes something;
 * `bad_idempotency_key`. */
int call_take_key(struct call *call, const char *key, struct hearth_failure *failure);
/* HEARTH_EFORBIDDEN `forbidden`. */
int rights_check(const struct principal *principal, const struct operation_entry *entry,
                 struct hearth_failure *failure);
/* Checks rights, decodes object, minds the idempotency key, calls the handler. Takes nothing. */
void call_dispatch(struct call *call, const cJSON *object);

/* idempotency.c: runs the handler on the call's input, or answers as a call with the same key was.
 * object is what the input was decoded from. */
void idempotency_run(struct call *call, const cJSON *object);
/* For call_read_body of a call that has content: hashes what the handler reads. */
void idempotency_read_body(struct call *call,
                           void (*on_data)(void *arg, const void *data, size_t length),
                           void (*on_end)(void *arg), void *arg);
/* Sends the end of a call: where it holds a key an answer is stored first, and after a failure the
 * key is free again first. Takes body. */
void idempotency_end(struct call *call, bool success, int status, const char *content_type,
                     struct buf *body);
/* Frees a call whose stream has ended, once all that it wrote is durable. */
void idempotency_end_stream(struct call *call);
void idempotency_start(struct api *api);

/* Sends and frees. Takes body. */
void call_send(struct call *call, int status, const char *content_type, struct buf *body);

/* route.c */
enum route_kind {
    ROUTE_OPERATION,
    ROUTE_LIVEZ,
    ROUTE_READYZ,
    ROUTE_METRICS,
    ROUTE_OPENAPI,
    ROUTE_ROOT,
    ROUTE_TOOLS,
    ROUTE_TOOL_CALL,
    ROUTE_MCP,
    ROUTE_MCP_STREAM,
    ROUTE_MCP_STREAM_INPUT,
};
/* service_routes.c: what is served besides the operations. */
struct service_route {
    enum route_kind kind;
    const char *method, *path;
    /* For /openapi.json; name NULL: not described there. */
    const char *name, *summary, *media_type;
    const struct field *input;  /* query and path */
    const struct field *output; /* NULL: any object, or no JSON */
    bool anonymous, may_be_unavailable;
};
const struct service_route *service_routes(size_t *ret_count);

struct route {
    enum route_kind kind;
    const struct operation_entry *entry;
    /* Path parameters, decoded, in the template's order. */
    struct {
        const char *name;
        char value[256];
    } parameters[3];
    unsigned parameter_count;
};
/* HEARTH_ENOTFOUND `route_not_found`, or `method_not_allowed` with the methods that are in allow.
 * Pure. */
int route_find(const char *method, const char *path, struct route *ret_route, char allow[64],
               struct hearth_failure *failure);

/* The other answers. */
void health_live(struct api *api, struct http_request *request);
void health_ready(struct api *api, struct http_request *request);
void metrics_reply(struct api *api, struct http_request *request);
int openapi_write(struct buf *out);
