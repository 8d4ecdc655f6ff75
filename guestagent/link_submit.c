#include "guestagent/link_internal.h"

#include <stdio.h>
#include <string.h>

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .namelen = strlen(name),
                        .value = (uint8_t *)(uintptr_t)value,
                        .valuelen = strlen(value)};
}

/* Kept out of the compression table: it would push out what repeats. */
static nghttp2_nv passing_header(const char *name, const char *value)
{
    nghttp2_nv made = header(name, value);
    made.flags = NGHTTP2_NV_FLAG_NO_INDEX;
    return made;
}

int submit_request(struct link_call *call, const char *path, unsigned timeout_ms)
{
    char timeout[16];
    nghttp2_nv headers[8];
    size_t count = 0;
    headers[count++] = header(":method", "POST");
    headers[count++] = header(":scheme", "http");
    headers[count++] = header(":path", path);
    headers[count++] = header(":authority", "localhost");
    headers[count++] = header("te", "trailers");
    headers[count++] = header("content-type", "application/grpc");
    headers[count++] = header("user-agent", "hearth/" HEARTH_VERSION);
    if (timeout_ms) {
        grpc_timeout_format(timeout, timeout_ms);
        headers[count++] = passing_header("grpc-timeout", timeout);
    }
    nghttp2_data_provider provider = link_data_provider();
    return nghttp2_submit_request(call->link->session, NULL, headers, count, &provider, call);
}

void submit_response(struct link_call *call)
{
    const nghttp2_nv headers[] = {
        header(":status", "200"),
        header("content-type", "application/grpc"),
    };
    nghttp2_data_provider provider = link_data_provider();
    call->headers_sent = true;
    link_check(call->link, nghttp2_submit_response(call->link->session, call->stream_id, headers,
                                                   sizeof headers / sizeof *headers, &provider));
}

/* The status' headers, whose values live in the caller's buffers. */
static size_t status_headers(nghttp2_nv headers[2], char number[16], enum link_status status,
                             char text[LINK_STATUS_TEXT_MAX], const char *message)
{
    snprintf(number, 16, "%d", (int)status);
    headers[0] = header("grpc-status", number);
    if (!message || !*message)
        return 1;
    grpc_message_encode(text, LINK_STATUS_TEXT_MAX, message);
    headers[1] = passing_header("grpc-message", text);
    return 2;
}

void submit_trailers_only(struct link_call *call, enum link_status status, const char *message)
{
    char number[16], text[LINK_STATUS_TEXT_MAX];
    nghttp2_nv headers[4] = {
        header(":status", "200"),
        header("content-type", "application/grpc"),
    };
    size_t count = 2 + status_headers(headers + 2, number, status, text, message);
    call->headers_sent = true;
    link_check(call->link,
               nghttp2_submit_response(call->link->session, call->stream_id, headers, count, NULL));
}

void submit_trailers(struct link_call *call)
{
    char number[16], text[LINK_STATUS_TEXT_MAX];
    nghttp2_nv headers[2];
    size_t count =
        status_headers(headers, number, (enum link_status)call->status, text, call->message);
    link_check(call->link,
               nghttp2_submit_trailer(call->link->session, call->stream_id, headers, count));
}

void submit_http_error(struct link_call *call, const char *http_status)
{
    const nghttp2_nv status = header(":status", http_status);
    call->headers_sent = true;
    link_check(call->link,
               nghttp2_submit_response(call->link->session, call->stream_id, &status, 1, NULL));
}
