/* HTTP to hearthd, by libcurl: over a Unix socket or TCP, with the bearer token where there is one.
 * One request at a time on one kept connection. Failures come as struct hearth_failure: the
 * daemon's own problem, or ours where it could not be asked. */
#pragma once

#include "base/buf.h"
#include "base/failure.h"

#include <stddef.h>
#include <sys/types.h>

struct http;

/* Where a daemon is. Owned texts; token is NULL where none is needed. */
struct endpoint {
    char *url;         /* "http://host:port", "http://localhost" for the socket */
    char *socket_path; /* NULL: TCP */
    char *token;
};
void endpoint_free(struct endpoint *endpoint);

/* Takes what is in endpoint; it is empty after. */
int http_open(struct http **ret_http, struct endpoint *endpoint, struct hearth_failure *failure);
void http_close(struct http *http);

struct http_request {
    const char *method, *path; /* "/v1/…", its parts escaped, with the query */
    const char *body;          /* JSON text, NULL: none */
    const char *accept;        /* NULL: application/json */
    const char *range;         /* "bytes=FIRST-LAST", NULL: all */

    /* A body that is read as it is sent: bytes, 0 at the end, negative to give up. */
    ssize_t (*read)(void *arg, void *out, size_t size);
    void *read_arg;
    const char *content_type; /* of what read gives */

    /* A successful reply's body as it comes, instead of in ret_body. Negative to hang up. */
    int (*write)(void *arg, const void *data, size_t length);
    void *write_arg;

    /* Filled by read or write before it gives up. */
    const struct hearth_failure *own_failure;
};

/* 0 for a 2xx. Otherwise the failure is filled, and ret_body holds the problem's JSON where the
 * daemon sent one. */
int http_perform(struct http *http, const struct http_request *request, struct buf *ret_body,
                 struct hearth_failure *failure);

/* A problem object (RFC 9457) as a failure; members that are not there leave what is said for the
 * status. Gives the failure's error. */
struct cJSON;
int http_problem_failure(const struct cJSON *problem, long status, struct hearth_failure *failure);

/* Is there somebody to talk to? */
bool http_socket_answers(const char *socket_path);

/* Appends text to a path or query, percent-encoded. */
int http_escape(struct buf *out, const char *text);
