/* A bare connection to the daemon (libcurl makes it: a socket, TCP or TLS), for streams that
 * http.h's requests cannot carry. Nothing blocks but wire_open and wire_exchange. */
#pragma once

#include "base/buf.h"
#include "base/failure.h"
#include "cli/http.h"

struct wire {
    void *curl;
    int fd; /* to poll; -1: closed */
    const struct endpoint *endpoint;
};

/* endpoint is borrowed until wire_close. */
int wire_open(struct wire *wire, const struct endpoint *endpoint, struct hearth_failure *failure);
void wire_close(struct wire *wire);

/* Bytes moved; 0: not now; negative: it is over. */
ssize_t wire_send(struct wire *wire, const void *data, size_t length);
ssize_t wire_receive(struct wire *wire, void *out, size_t size);

/* Sends a request's head: headers are whole lines, each with its end, and may be "". */
int wire_ask(struct wire *wire, const char *method, const char *path, const char *version,
             const char *headers, struct hearth_failure *failure);
/* Waits for the reply's head; a status that is no success is the failure that its body tells. What
 * came after the head is appended to rest. */
int wire_answer(struct wire *wire, struct buf *rest, struct hearth_failure *failure);
