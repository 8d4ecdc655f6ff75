/* HTTP/1.1 as it is relayed: the head of an answer that a stranger in a guest wrote, and its
 * chunked body, as pure functions over bytes. What could be read in two ways is refused. Any
 * thread. */
#pragma once

#include "api/http.h"

#define RELAY_HEAD_MAX ((size_t)32 << 10)
#define RELAY_HEADERS_MAX 128

enum relay_framing {
    RELAY_NONE,    /* no body, whatever the headers say */
    RELAY_LENGTH,  /* so many bytes */
    RELAY_CHUNKED, /* relay_chunks_take finds the end */
    RELAY_CLOSE,   /* up to the end of the connection */
};

struct relay_head {
    int status;
    enum relay_framing framing;
    bool has_length;     /* also where there is no body: of an answer to HEAD */
    uint64_t length;     /* 0 where there is none */
    const char *upgrade; /* of a 101 */
    struct http_pair headers[RELAY_HEADERS_MAX]; /* end to end ones */
    size_t header_count;
};

/* Where a head ends in these bytes (behind its empty line); 0: not here. */
size_t relay_head_end(const char *bytes, size_t length);
/* text, NUL-terminated, is one head; it is changed, and what is given points into it.
 * HEARTH_EUNAVAILABLE `port_not_http`. */
int relay_head_parse(char *text, size_t length, bool to_head, struct relay_head *ret_head,
                     struct hearth_failure *failure);

/* What all that is no HTTP is refused with: HEARTH_EUNAVAILABLE `port_not_http`. */
int relay_not_http(struct hearth_failure *failure, const char *why);

/* Is the name among these, in any case? NULL ends them. */
bool relay_is_among(const char *name, const char *const *names);
/* Is the header between two neighbours only? connection is the value of Connection, or NULL. */
bool relay_is_hop_by_hop(const char *name, const char *connection);
/* Does a comma-separated list have this token, in any case? */
bool relay_list_has(const char *list, const char *token);

/* A chunked body that comes piece by piece; zero-initialised it is at its start. */
struct relay_chunks {
    int state;
    uint64_t left;
    unsigned digits, overhead; /* of this line, or of the trailers */
    bool line_empty;
};
/* Gives the content. 1: the body has ended, 0: more is to come, HEARTH_EMALFORMED: it is broken. */
int relay_chunks_take(struct relay_chunks *chunks, const char *data, size_t length,
                      void (*give)(void *arg, const char *data, size_t length), void *arg);
