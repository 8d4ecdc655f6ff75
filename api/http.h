/* The HTTP edge: libmicrohttpd in external epoll mode inside the loop. It listens (Unix socket,
 * loopback TCP, systemd's sockets), guards (docs/http-edge.md), authenticates,
 * enforces deadlines and limits, and hands a clean request to the one handler above it. Everything
 * on the loop thread. The edge knows no operation; the handler knows no libmicrohttpd. */
#pragma once

#include "base/buf.h"
#include "supervisord/supervisor.h"

#include <stddef.h>

struct http_server;
struct http_request;

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OTHER };

struct http_pair {
    const char *name, *value; /* decoded; a query key without '=' has value "" */
};

/* How a request's body is to be taken, decided at the end of its head. */
enum http_body_mode {
    HTTP_BODY_NONE,   /* a body is an error */
    HTTP_BODY_BUFFER, /* whole, up to limit (413), before on_request */
    HTTP_BODY_STREAM, /* on_request first, then on_body pieces and on_body_end */
};
struct http_plan {
    enum http_body_mode body;
    uint64_t body_limit;
    bool raw_query;           /* the query is another's: it is not looked at */
    bool secret_body;         /* a secret may be in it: what was read is wiped */
    bool anonymous;           /* no token needed (livez, readyz, openapi.json) */
    unsigned body_timeout_ms; /* 0: the configured one. For long uploads it is an idle limit, see
                                 http_request_long */
};

struct http_handler {
    /* The head is whole, well-formed and (unless the plan says anonymous) will be authenticated
     * next. Pure look-up: fills *ret_plan, or fails (404, 405, 415, 413); `Allow` is set by
     * http_request_header_out. */
    int (*on_head)(void *arg, struct http_request *request, struct http_plan *ret_plan,
                   struct hearth_failure *failure);
    /* Authenticated, body there where buffered. Must lead to exactly one http_reply* or stream, now
     * or later. */
    void (*on_request)(void *arg, struct http_request *request);
    /* HTTP_BODY_STREAM: pieces in order. http_request_pause_body stops them without spinning. */
    void (*on_body)(void *arg, struct http_request *request, const void *data, size_t length);
    void (*on_body_end)(void *arg, struct http_request *request);
    /* Nobody waits any more: the client went away, or a deadline passed, before the handler had
     * replied (http_reply*, http_stream_end). Once, and not after the reply. The request must not
     * be used after it. */
    void (*on_gone)(void *arg, struct http_request *request);
};

struct http_config {
    struct supervisor *supervisor;
    /* Where systemd passed a socket of the kind, it is used instead. The caller holds the lock of
     * the state directory: a socket at the path is a dead daemon's and is replaced. */
    const char *socket_path; /* R/hearthd.sock */
    const char *listen;      /* "127.0.0.1:PORT", "[::1]:PORT" or ""; loopback only, 0 picks */
    /* 0: the default. A token's cap is a uid's on the Unix socket too. */
    uint32_t max_connections, max_connections_per_token;
    uint32_t head_timeout_ms, body_timeout_ms, request_timeout_ms;
    const char *allowed_hosts, *allowed_origins;
};

int http_server_new(struct http_server **ret_server, const struct http_config *config,
                    const struct http_handler *handler, void *arg, struct hearth_failure *failure);
/* The URL that clients use ("http://127.0.0.1:40123"), or NULL where only the Unix socket is
 * served. */
const char *http_server_url(const struct http_server *server);
/* Stops accepting, ends idle connections; done when the last reply is out or timeout_ms has passed.
 */
void http_server_drain(struct http_server *server, unsigned timeout_ms, void (*done)(void *arg),
                       void *arg);
/* Its deadline has passed: a client that goes has not left, the server has cut it off. */
bool http_server_cuts_late(const struct http_server *server);
/* Cuts the connections on which a request of the token's is under way, but the one of except (NULL:
 * none). */
void http_server_cut_token(struct http_server *server, const char *token_id,
                           const struct http_request *except);
void http_server_free(struct http_server *server);

struct http_stats {
    uint64_t requests, refused, connections_total, bytes_in, bytes_out;
    uint32_t connections, suspended;
};
void http_server_get_stats(const struct http_server *server, struct http_stats *ret_stats);

/* The request: valid from on_head until the handler has replied or on_gone returned. Strings live
 * as long. */
enum http_method http_request_method(const struct http_request *request);
const char *http_request_path(
    const struct http_request *request); /* decoded, checked: no NUL, no "//", no "." or ".." */
const struct http_pair *http_request_query(const struct http_request *request, size_t *ret_count);
const char *http_request_header(const struct http_request *request,
                                const char *name); /* NULL if absent */
const char *http_request_id(const struct http_request *request);
const struct principal *
http_request_principal(const struct http_request *request); /* NULL if anonymous */
const struct buf *http_request_body(const struct http_request *request);
/* It has been read, and is not there any more. */
void http_request_drop_body(struct http_request *request);
/* As sent, query and all, not decoded; the method's own name. */
const char *http_request_target(const struct http_request *request);
const char *http_request_method_text(const struct http_request *request);
void http_request_each_header(const struct http_request *request,
                              void (*visit)(void *arg, const char *name, const char *value),
                              void *arg);
void http_request_set_data(struct http_request *request, void *data);
void *http_request_data(const struct http_request *request);
void http_request_pause_body(struct http_request *request, bool paused);
/* Lifts the total deadline (streams, waits, uploads): from now on each step has the idle limit
 * alone. */
void http_request_long(struct http_request *request);

/* A header of the reply to come (copied). */
void http_request_header_out(struct http_request *request, const char *name, const char *value);
/* The reply to come is another's: it gets these headers and the request's ID, none of our own. */
void http_request_relay(struct http_request *request);
/* The whole reply; takes body's bytes (body is empty after). Before the end of a streamed body it
 * ends the connection: what the client still sends is dropped. */
void http_reply(struct http_request *request, int status, const char *content_type,
                struct buf *body);
void http_reply_problem(struct http_request *request, const struct hearth_failure *failure);

struct http_stream_events {
    void (*on_writable)(void *arg); /* what was queued has gone out: send more */
};
/* A reply of unknown length (or known: length >= 0), sent from the end of the request's body on.
 * Lifts the total deadline: a client that takes nothing for the body timeout is cut. Then
 * http_stream_send until http_stream_end. The client's leaving comes as the handler's on_gone. */
void http_stream_begin(struct http_request *request, int status, const char *content_type,
                       int64_t length, const struct http_stream_events *events, void *arg);
/* Copies; gives false when enough is queued (wait for on_writable; sending on is allowed, but
 * impolite). */
bool http_stream_send(struct http_request *request, const void *data, size_t length);
/* The end. With ok false the connection is cut so that the client sees that it is not whole. */
void http_stream_end(struct http_request *request, bool ok);

struct http_upgrade_events {
    /* The socket is the owner's to read and write from now on (non-blocking), until
     * http_upgrade_close; extra (borrowed) came already. fd -1: the client left before, and the
     * request is gone with it. Once. */
    void (*on_taken)(void *arg, int fd, const void *extra, size_t length);
    /* The daemon ends: http_upgrade_close is due before this returns. */
    void (*on_drain)(void *arg);
};
/* Replies 101 with the headers set so far, one of them Upgrade; only where the request asks for an
 * upgrade and has no body. on_gone does not come any more. */
void http_upgrade(struct http_request *request, const struct http_upgrade_events *events,
                  void *arg);
/* Ends the connection, after the owner has let go of its socket. The request is gone after it. */
void http_upgrade_close(struct http_request *request);
