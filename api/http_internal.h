/* What the files of the HTTP edge share. http.c owns the server and turns libmicrohttpd,
 * http_listen.c the listeners and accept, http_connection.c a connection's deadlines and its peer's
 * leaving, http_request.c a request from head to reply, http_reply.c and http_stream.c the reply.
 *
 * libmicrohttpd's rules that shape this: a reply can be queued only in its callback for the head
 * (which then ends the connection) or for the end of the body; a connection may not be suspended in
 * the former; once suspended it sees neither time nor its peer. Nothing frees a connection or a
 * request but libmicrohttpd's own callbacks, which run inside MHD_run alone, and MHD_run is never
 * entered twice. */
#pragma once

#include "api/guard.h"
#include "base/list.h"
#include "base/map.h"
#include "supervisord/loop.h"

#include <microhttpd.h>
#include <sys/types.h>
#include <sys/un.h>

#define HTTP_LISTENERS_MAX 4
#define HTTP_KEEPALIVE_US (75 * US_PER_S) /* between two requests, as nginx has it */
#define HTTP_LINGER_US (2 * US_PER_S)     /* what a refused upload may go on for */
#define HTTP_POOL_SIZE 32768              /* bounds a head; body pieces are half of it */
#define HTTP_BODY_PIECE 131072            /* of a streamed body, handed on at once */
#define HTTP_TURN_MAX 262144              /* bytes of bodies moved in one turn of the loop */
#define HTTP_DISCARD_MAX 65536  /* a body up to this is read and dropped to keep the connection */
#define HTTP_STREAM_HIGH 262144 /* queued bytes at which http_stream_send says enough */
#define HTTP_STREAM_LOW 65536   /* and at which on_writable comes */

struct http_listener {
    struct http_server *server;
    int fd;
    bool local;    /* AF_UNIX */
    uint16_t port; /* 0: AF_UNIX */
    bool active;
    struct watch watch;
};

/* Connections of one token or one uid. */
struct http_bucket {
    struct map_entry entry; // http_server::buckets
    char key[40];
    uint32_t connections;
};

struct http_server {
    struct loop *loop;
    struct supervisor *supervisor;
    const struct http_handler *handler;
    void *handler_arg;
    struct MHD_Daemon *daemon;
    struct watch daemon_watch;
    struct timer again; /* libmicrohttpd has more to do */
    struct timer tick;  /* while there are connections, or listeners that are paused */
    bool running, run_again, run_scheduled;
    size_t moved; /* bytes of bodies, both ways, in this turn of the loop */
    bool freed;   /* by http_server_free while a run was scheduled */

    struct http_listener listeners[HTTP_LISTENERS_MAX];
    size_t listener_count;
    bool accept_paused;
    int reserve_fd;    /* given up for a moment to refuse a client when descriptors run out */
    char *socket_path; /* ours to unlink; NULL where systemd made it */
    dev_t socket_device;
    ino_t socket_inode;
    char url[sizeof "unix://" + sizeof(struct sockaddr_un)];

    uint32_t max_connections, max_connections_per_token;
    int64_t head_timeout_us, body_timeout_us, request_timeout_us;
    char *allowed_hosts, *allowed_origins;

    struct list connections; // http_connection::link
    struct http_connection *accepting;
    struct list bodies; // http_request::body_link
    struct map buckets; // http_bucket::entry
    int peer_epoll;
    unsigned awaited; /* idle connections whose next byte is watched for */
    struct watch peer_watch;
    char id_prefix[12];
    uint64_t id_count;
    struct http_stats stats;

    bool draining;
    bool cuts_late; /* the drain's deadline has passed: who leaves was cut off */
    struct timer drain_timer;
    void (*drained)(void *arg);
    void *drained_arg;
};

enum http_phase {
    HTTP_PHASE_HEAD, /* bytes of a head are due */
    HTTP_PHASE_IDLE, /* between two requests */
    HTTP_PHASE_REQUEST,
    HTTP_PHASE_UPGRADED, /* its socket is somebody else's */
    HTTP_PHASE_LINGER,   /* answered; what still comes is dropped */
};

struct http_connection {
    struct http_server *server;
    struct MHD_Connection *mhd;
    struct list link; // http_server::connections
    int fd;           /* libmicrohttpd's */
    uid_t uid;
    bool local;
    uint16_t port; /* of the listener; 0: local */
    bool peer_half_closed, peer_gone;
    bool awaited; /* http_server::awaited */
    bool ended;   /* its token has expired: once is enough */
    enum http_phase phase;
    struct http_request *request; /* NULL between requests */
    struct http_bucket *uid_bucket, *token_bucket;
    int64_t deadline_us, idle_until_us;
    struct timer timer; /* set for deadline_us or earlier: it moves on only when it fires */
};

enum http_stage {
    HTTP_STAGE_HEAD,
    HTTP_STAGE_BODY,
    HTTP_STAGE_DISCARD,  /* refused: the rest of a small body is dropped, then the reply goes */
    HTTP_STAGE_WAITING,  /* for the handler's reply */
    HTTP_STAGE_REPLYING, /* libmicrohttpd has the reply */
    HTTP_STAGE_DEAD,     /* answered past libmicrohttpd, or cut: ends at its next callback */
};

struct http_stream {
    struct buf queue;
    size_t sent; /* of queue's bytes */
    const struct http_stream_events *events;
    void *arg;
    bool started, ended, ok, full;
};

struct http_request {
    struct http_connection *connection;
    enum http_stage stage;
    bool called;       /* the handler has it (on_request) */
    bool handler_done; /* it replied, or was told that the client has gone */
    bool in_head_callback;
    bool suspended;
    bool body_paused;
    bool is_long;
    bool close; /* the connection ends with the reply */
    bool identified;
    enum http_method method;
    const char *method_text;
    struct guard_head head;
    struct guard_target target;
    struct http_plan plan;
    struct principal principal;
    char id[GUARD_REQUEST_ID_MAX + 1];
    struct buf body, headers_out;
    struct list body_link; // http_server::bodies, where body holds a part of a streamed one
    int status;
    struct MHD_Response *response;
    struct http_stream stream;
    struct {
        const struct http_upgrade_events *events; /* NULL: none */
        void *arg;
        struct MHD_UpgradeResponseHandle *handle; /* while the socket is the owner's */
    } upgrade;
    bool relayed; /* the reply's headers are another's */
    int64_t started_us, total_deadline_us;
    uint64_t bytes_in, bytes_out;
    void *data;
    size_t target_length; /* as sent */
    char *query_text;     /* in target_text; NULL: none */
    char target_text[];   /* decoded in place; after its end once more, as sent */
};

/* http.c */
void http_server_schedule_run(struct http_server *server);
void http_server_check_drained(struct http_server *server);
void http_server_check_accept(struct http_server *server);
/* After a connection came or the listeners were paused. */
void http_server_keep_ticking(struct http_server *server);

/* http_listen.c */
int http_listen_open(struct http_server *server, const struct http_config *config,
                     struct hearth_failure *failure);
void http_listen_close(struct http_server *server);
void http_listen_pause(struct http_server *server, bool paused);

/* http_activation.c: takes systemd's sockets; gives how many, or a failure. */
int http_activation_take(struct http_server *server, struct hearth_failure *failure);
int http_listener_add(struct http_server *server, int fd, bool local,
                      struct hearth_failure *failure);

/* http_connection.c */
int http_connection_watch_peers(struct http_server *server, struct hearth_failure *failure);
struct http_connection *http_connection_new(struct http_listener *listener, int fd, uid_t uid);
void http_connection_free(struct http_connection *connection);
/* Looks at what peers did; before MHD_run where bytes are awaited, for it takes them away. */
void http_connection_check_peers(struct http_server *server);
/* Moves the deadline (monotonic). */
void http_connection_set_deadline(struct http_connection *connection, int64_t deadline_us);
void http_connection_set_idle(struct http_connection *connection);
/* Ends it at once, whatever libmicrohttpd is doing with it. */
void http_connection_cut(struct http_connection *connection);
/* Counts it for key; false where max_connections_per_token are there already. */
bool http_bucket_enter(struct http_server *server, struct http_bucket **bucket, const char *key);
void http_bucket_leave(struct http_server *server, struct http_bucket **bucket);

/* http_request.c: libmicrohttpd's callbacks, and what a connection tells its request. */
void *http_request_on_uri(void *arg, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result http_request_on_access(void *arg, struct MHD_Connection *mhd, const char *url,
                                       const char *method, const char *version,
                                       const char *upload_data, size_t *upload_data_size,
                                       void **context);
void http_request_on_completed(void *arg, struct MHD_Connection *mhd, void **context,
                               enum MHD_RequestTerminationCode code);
/* Hands on what MHD_run left of streamed bodies: small pieces are gathered within a turn alone. */
void http_request_give_bodies(struct http_server *server);
void http_request_expired(struct http_request *request);
void http_request_peer_left(struct http_request *request);
/* Tells the handler that nobody waits any more (once, and not after its reply). */
void http_request_tell_gone(struct http_request *request);
void http_request_suspend(struct http_request *request);
void http_request_resume(struct http_request *request);
/* The step that is due now has the idle limit from here on; due false: nothing is. */
void http_request_step(struct http_request *request, bool due);

/* http_reply.c */
/* Writes a reply around libmicrohttpd, where that cannot reply yet, and ends the connection. */
void http_reply_raw(struct http_connection *connection, struct http_request *request, int status,
                    const char *content_type, const char *body, size_t length);
void http_reply_raw_problem(struct http_connection *connection, struct http_request *request,
                            const struct hearth_failure *failure);
/* The edge's own refusal, after which the handler owes nothing any more. */
void http_reply_own_problem(struct http_request *request, const struct hearth_failure *failure);
/* Without a request, on a socket nobody owns yet; closes it. */
void http_reply_refuse(int fd, const struct hearth_failure *failure);
void http_reply_take_response(struct http_request *request, int status, const char *content_type,
                              struct MHD_Response *response);
enum MHD_Result http_reply_queue(struct http_request *request);

/* http_upgrade.c */
/* The request ends: an owner that has not got the socket is told that it does not come. */
void http_upgrade_gone(struct http_request *request);
void http_upgrade_drain(struct http_request *request);

/* http_stream.c */
void http_stream_free(struct http_stream *stream);
