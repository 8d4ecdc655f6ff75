/* A real HTTP server with a tiny handler, and raw clients of it, all on one loop: a test sends
 * bytes, then runs the loop until what it waits for is there. */
#pragma once

#include "api/http.h"
#include "base/buf.h"
#include "supervisor_double.h"

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#define AUTH "Authorization: Bearer " DOUBLE_TOKEN "\r\n"

extern struct loop *loop;
extern struct http_server *server;

/* Routes: GET /open (anonymous), GET /hello, GET /echo/… (path and query), POST /json (buffered,
 * 1000 bytes, echoed), PUT /upload (streamed, 1 MiB, counted), GET /wait (replied to by the test),
 * GET /stream (streamed by the test), GET /problem. */
struct seen {
    struct http_request *held; /* by /wait, /stream and /upload */
    unsigned requests, gone, writable, body_ends;
    size_t body_bytes;
    bool pause_body;    /* /upload pauses at its first piece */
    bool reply_at_head; /* /upload replies before it has a body */
    bool refuse_body;   /* /upload replies at its first piece */
    bool more;          /* what http_stream_send said last */
};
extern struct seen seen;

/* Fields that are 0 are the fixture's own; listens on both. */
void fixture_start(struct http_config config);
void fixture_stop(void);
const char *fixture_socket(void);
uint16_t fixture_port(void);

/* Replies to what is held. */
void fixture_reply(const char *text);
struct http_stats fixture_stats(void);
/* Counts into seen.writable. */
extern const struct http_stream_events fixture_stream_events;

/* Runs the loop until check(arg); fails the test where that takes too long. */
void run_until(bool (*check)(void *arg), void *arg);
void run_until_held(void);
void run_until_gone(unsigned count);
/* Lets everything that is due now happen. */
void run_some(void);

struct client {
    int fd;
    struct watch watch;
    struct buf in;
    bool eof, watching, send_failed;
};
struct reply {
    int status;
    char head[4096];
    struct buf body;
};
struct client *client_tcp(void);
struct client *client_local(void);
void client_free(struct client *client);
void client_send(struct client *client, const char *text);
void client_get(struct client *client, const char *path); /* with the token */
/* A client of /stream whose reply has begun. */
struct client *client_stream(int64_t length);
void client_send_bytes(struct client *client, const void *data, size_t length);
/* Takes one whole reply off the client's input (chunked ones are joined). */
void client_reply(struct client *client, struct reply *ret_reply);
void client_until_eof(struct client *client);
void client_stop_reading(struct client *client);
void client_start_reading(struct client *client);
bool reply_has(const struct reply *reply, const char *header_line);
/* One request on a connection of its own over TCP: gives the status, 0 for a close without one. */
int status_of(const char *bytes, size_t length, struct reply *ret_reply, bool *ret_closed);
