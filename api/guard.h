/* What a request must look like before anything acts on it: the target and the header block, as
 * pure functions over bytes that a stranger sent. libmicrohttpd 0.9.75 lets through what two
 * readers could take for two different requests (docs/http-edge.md has the table); none of it
 * passes here. Any thread. */
#pragma once

#include "api/http.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUARD_QUERY_MAX 32 /* arguments in one query */
#define GUARD_REQUEST_ID_MAX 64

struct guard_target {
    char *path;
    struct http_pair query[GUARD_QUERY_MAX];
    size_t query_count;
};

/* Decodes text (origin-form, as it was sent) in place; *ret_target points into it. Refuses
 * (HEARTH_EMALFORMED): another form, bad escapes, NUL, control characters in the path, "/" written
 * as %2F, "//", "." and ".." segments, what is not UTF-8, and a query key given twice. '+' in a
 * query is a blank. */
int guard_target_parse(char *text, struct guard_target *ret_target, struct hearth_failure *failure);
/* Its two halves. The first gives where the query begins, NULL where there is none. */
int guard_path_parse(char *text, struct guard_target *ret_target, char **ret_query,
                     struct hearth_failure *failure);
int guard_query_parse(char *query, struct guard_target *target, struct hearth_failure *failure);

/* The header block, fed pair by pair. Zero-initialise; what is kept is borrowed. */
struct guard_head {
    /* NULL where absent; each of these may be there once. */
    const char *host, *content_length, *transfer_encoding, *expect, *authorization, *origin,
        *fetch_site, *request_id, *content_type, *idempotency_key, *mcp_version, *mcp_session_id,
        *mcp_method, *mcp_name, *last_event_id;
    size_t line_count;
    size_t byte_count; /* what the pairs account for, line ends apart */
};

/* Names must be tokens (RFC 9110, 5.6.2), values free of control characters but tab. blanks is how
 * many bytes lay between name and value, the colon included; anything odd there is refused. */
int guard_head_add(struct guard_head *head, const char *name, size_t name_length, const char *value,
                   size_t value_length, size_t blanks, struct hearth_failure *failure);

/* The rules over the whole: one Host, framing that can be read in one way only, and a block whose
 * size is that of the pairs, so that nothing hides behind a NUL or a folded line. block_size is
 * the size as received, request line and empty line included; line_length that of the request
 * line without its end. version is "HTTP/1.1" or "HTTP/1.0". */
int guard_head_check(const struct guard_head *head, const char *version, size_t line_length,
                     size_t block_size, struct hearth_failure *failure);

/* Does the head announce a body, and of what length? UINT64_MAX for chunked. */
uint64_t guard_body_length(const struct guard_head *head);

/* Browsers' cross-site reach (HEARTH_EFORBIDDEN). port 0: the Unix socket, where every host is ours
 * for no browser speaks to it. The lists are comma-separated: names or name:port, and origins. */
int guard_origin(const struct guard_head *head, uint16_t port, const char *allowed_hosts,
                 const char *allowed_origins, struct hearth_failure *failure);

/* [A-Za-z0-9._-]{1,64} */
bool guard_request_id_valid(const char *text);

/* The token of "Bearer TOKEN", or NULL where the value is of another form. */
const char *guard_bearer(const char *authorization);
