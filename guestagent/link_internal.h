/* What the link's own files share. Layers, top to bottom: link_call.c (calls and their messages,
 * where all of the owner's callbacks are called from), link_session.c (what nghttp2 tells us),
 * link_output.c (what goes out), link.c (the stream, the events, the link's life).
 *
 * The rule that keeps this simple: nghttp2's callbacks never call the owner. They note what came in
 * the call and put it on link::ready; link_settle tells it once nghttp2 has returned. So whatever
 * the owner does in a callback, freeing the link included, happens with no nghttp2 frame below. */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "guestagent/link.h"

#include <nghttp2/nghttp2.h>
#include <stdint.h>
#include <sys/types.h>

#define LINK_FRAME_HEADER 9
#define LINK_FRAME_MAX ((size_t)256 << 10)     /* SETTINGS_MAX_FRAME_SIZE, and what we send */
#define LINK_HEADERS_MAX ((size_t)16 << 10)    /* one header list, as HTTP/2 counts it */
#define LINK_PATH_MAX ((size_t)255)            /* :path */
#define LINK_STATUS_TEXT_MAX ((size_t)1 << 10) /* grpc-message, decoded */
#define LINK_HELD_MAX ((size_t)16 << 20)       /* see link::held */
#define LINK_BUFFERED_MAX ((size_t)64 << 20)   /* of what came in, over all calls */
#define LINK_OUTBOUND_MAX 16384                /* frames queued for a peer that reads nothing */
#define MESSAGE_PREFIX 5                       /* compressed flag, 32-bit length */
#define LINK_STATUS_CODE_MAX 16                /* gRPC knows no higher */

struct event;
struct output;

struct link {
    struct event_base *base;
    struct event *read_event, *write_event;
    struct event *keepalive; /* NULL: off */
    nghttp2_session *session;
    const struct link_events *events;
    void *arg;
    struct list calls;     /* link_call::siblings */
    struct list ready;     /* link_call::ready: the owner is to be told something */
    struct list spent;     /* chunk::siblings: output may point into them */
    struct output *output; /* what the kernel is to take next; owned */
    size_t held;     /* received and not returned to the streams' windows. Up to LINK_HELD_MAX of it
                        is returned to the connection's, so that a paused call stalls no other. */
    size_t buffered; /* received and not delivered */
    const char *broken; /* why; NULL: it works */
    int broken_errno;
    int fd;
    unsigned call_count;
    unsigned depth; /* of our functions that the owner may free the link under */
    unsigned keepalive_interval_ms, keepalive_timeout_ms;
    int64_t received_us; /* when the peer was last heard */
    bool is_server, is_socket;
    bool going_away; /* the peer takes no new calls */
    bool ping_sent;
    bool down_told, freed;
};

/* One message on its way out, its prefix included. */
struct chunk {
    struct list siblings; /* link_call::out, then link::spent */
    size_t length, sent;
    bool secret;                     /* wiped once it is sent */
    uint8_t head[LINK_FRAME_HEADER]; /* of the frame that data begins in, where it is large */
    uint8_t data[];
};

struct link_call {
    struct link *link;
    struct list siblings;                  /* link::calls */
    struct list ready;                     /* link::ready */
    const struct link_call_events *events; /* NULL: a server has not accepted it */
    void *arg;
    struct event *deadline;
    struct list out; /* chunk::siblings */
    size_t queued;   /* bytes in out not sent */
    struct buf in;   /* what came and was not delivered, from in_start on */
    size_t in_start;
    size_t buffered;              /* bytes of that */
    size_t unreturned;            /* the last of them, which the stream's window has not back */
    size_t unreturned_connection; /* the same for the connection's */
    char *path;                   /* server, until it was announced */
    char *message;                /* grpc-message, decoded; may be NULL */
    size_t header_bytes;          /* of the header list being received */
    unsigned timeout_ms;          /* server: grpc-timeout */
    unsigned busy;                /* callbacks of the owner that run: not to be freed */
    int32_t stream_id;
    int status; /* grpc-status, -1: none seen */
    int http_status;
    bool is_grpc, is_post;   /* server: what the request's headers say */
    bool unary, got_message; /* client: a second message is an error */
    bool announced;          /* on_call was called */
    bool headers_sent;       /* server */
    bool deferred;           /* nghttp2 waits for nghttp2_session_resume_data */
    bool paused;
    bool above_low_water; /* on_writable is owed */
    bool local_closed;    /* nothing more is queued after what is */
    bool remote_closed, half_close_told;
    bool discard;     /* what comes in is dropped */
    bool end_known;   /* on_end with status once all before it is delivered */
    bool stream_open; /* nghttp2 has a stream for it */
    bool ended;       /* on_end was called: a shell until busy is 0 */
};

/* link.c */

/* Around everything that may call the owner. link_leave is for the loop's callbacks: tells the
 * owner what is ready and writes. link_leave_quietly is for the owner's calls: with flush it writes
 * at once, and what is to be told is left to the loop. Both may free the link. */
void link_enter(struct link *link);
void link_leave(struct link *link);
void link_leave_quietly(struct link *link, bool flush);
/* The link is of no more use; the first reason stays. on_down follows from the loop. */
void link_break(struct link *link, const char *why, int errno_value);
/* Breaks the link where a call into nghttp2 failed. */
void link_check(struct link *link, int nghttp2_result);

/* link_output.c */

/* An empty one; NULL: no memory. */
struct output *output_new(void);
void output_free(struct output *output);
bool output_is_empty(const struct output *output);
/* Writes what nghttp2 and the calls have to send, as far as the kernel takes it. */
void link_flush(struct link *link);
/* A chunk of so many bytes, yet to be filled; one for a message of length bytes, its prefix filled.
 * NULL: no memory. */
struct chunk *chunk_new(size_t length);
struct chunk *message_chunk(size_t length);
void chunk_free(struct chunk *chunk);
/* One for a message that is shorter than it was made for. */
void message_chunk_set(struct chunk *chunk, size_t length);
void chunk_list_free(struct list *chunks);
nghttp2_data_provider link_data_provider(void);
ssize_t link_read_length(nghttp2_session *session, uint8_t type, int32_t stream_id,
                         int32_t session_window, int32_t stream_window, uint32_t frame_max,
                         void *user_data);
int link_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                   size_t length, nghttp2_data_source *source, void *user_data);

/* link_session.c */

int link_session_new(struct link *link);

/* link_call.c */

struct link_call *h2_call_new(struct link *link, int32_t stream_id);
void call_make_ready(struct link_call *call);
/* The owner is to hear of this end, after all that was received before it. */
void call_set_end(struct link_call *call, enum link_status status);
/* Gives the call up: drops what was received and queued, tells the peer, and tells the owner from
 * the loop. On a server the peer gets the status, if the response has not begun. */
void h2_call_fail(struct link_call *call, uint32_t h2_error, enum link_status status,
                  const char *message);
/* Tells on_end and frees, now. */
void call_end_now(struct link_call *call, enum link_status status, const char *message);
/* Notes bytes of the stream. */
void call_receive(struct link_call *call, const uint8_t *data, size_t length);
/* Tells the owner what is ready. The call may be gone after. */
void h2_call_dispatch(struct link_call *call);

/* link_submit.c: the header lists that we send */

int submit_request(struct link_call *call, const char *path, unsigned timeout_ms);
/* Server: the response's headers. */
void submit_response(struct link_call *call);
/* Server: headers and trailers in one, the whole of a response that has no message. */
void submit_trailers_only(struct link_call *call, enum link_status status, const char *message);
void submit_trailers(struct link_call *call);
/* Server: not a gRPC request. */
void submit_http_error(struct link_call *call, const char *http_status);

/* link_status.c */

/* Percent-encodes into out (NUL-terminated, cut to fit); gives the length. */
size_t grpc_message_encode(char *out, size_t size, const char *text);
/* Gives the decoded text, well-formed UTF-8, at most LINK_STATUS_TEXT_MAX bytes; or NULL. */
char *grpc_message_decode(const uint8_t *data, size_t length);
/* grpc-timeout. parse: 0 where text is none; never 0 for a good one. */
unsigned grpc_timeout_parse(const uint8_t *text, size_t length);
size_t grpc_timeout_format(char out[16], unsigned timeout_ms);
/* A decimal of at most 3 digits, or -1. */
int small_number(const uint8_t *text, size_t length);
enum link_status status_of_h2_error(uint32_t h2_error);
enum link_status status_of_http(int http_status);
