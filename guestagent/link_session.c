#include "guestagent/link_internal.h"

#include <string.h>

/* Calls that a peer may open and reset: so many at once, and so many a second. */
#define RESET_BURST 10000
#define RESET_RATE 1000

static struct link_call *find_call(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    struct link *link = user_data;
    struct link_call *call = find_call(session, frame->hd.stream_id);
    if (call) {
        call->header_bytes = 0;
        return 0;
    }
    if (!link->is_server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    call = h2_call_new(link, frame->hd.stream_id);
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    return 0;
}

static bool is(const char *name, const uint8_t *data, size_t length)
{
    return strlen(name) == length && memcmp(name, data, length) == 0;
}

/* Of an HTTP/2 path nghttp2 has checked the rest: no blanks, no control characters. */
static bool path_valid(const uint8_t *path, size_t length)
{
    if (length < 1 || length > LINK_PATH_MAX || path[0] != '/')
        return false;
    for (size_t i = 0; i < length; i++)
        if (path[i] <= ' ' || path[i] > '~')
            return false;
    return true;
}

static bool content_type_is_grpc(const uint8_t *value, size_t length)
{
    static const char wanted[] = "application/grpc";
    size_t prefix = sizeof wanted - 1;
    return length >= prefix && memcmp(value, wanted, prefix) == 0 &&
           (length == prefix || value[prefix] == '+' || value[prefix] == ';');
}

static void take_request_header(struct link_call *call, const uint8_t *name, size_t name_length,
                                const uint8_t *value, size_t length)
{
    if (is(":method", name, name_length))
        call->is_post = is("POST", value, length);
    else if (is("content-type", name, name_length))
        call->is_grpc = content_type_is_grpc(value, length);
    else if (is("grpc-timeout", name, name_length))
        call->timeout_ms = grpc_timeout_parse(value, length);
    else if (is(":path", name, name_length) && !call->path && path_valid(value, length))
        call->path = strndup((const char *)value, length);
}

static void take_response_header(struct link_call *call, const uint8_t *name, size_t name_length,
                                 const uint8_t *value, size_t length)
{
    if (is(":status", name, name_length)) {
        call->http_status = small_number(value, length);
    } else if (is("grpc-status", name, name_length)) {
        call->status = small_number(value, length);
    } else if (is("grpc-message", name, name_length)) {
        free(call->message);
        call->message = grpc_message_decode(value, length);
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t length, uint8_t flags,
                     void *user_data)
{
    struct link_call *call = find_call(session, frame->hd.stream_id);
    if (!call)
        return 0;
    call->header_bytes += name_length + length + 32;
    if (call->header_bytes > LINK_HEADERS_MAX)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!call->link->is_server)
        take_response_header(call, name, name_length, value, length);
    else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        take_request_header(call, name, name_length, value, length);
    return 0;
}

/* Drops a request that the owner never hears of. */
static void refuse(struct link_call *call, const char *http_status)
{
    submit_http_error(call, http_status);
    nghttp2_session_set_stream_user_data(call->link->session, call->stream_id, NULL);
    call->stream_open = false;
    call_end_now(call, LINK_STATUS_UNIMPLEMENTED, NULL);
}

/* The peer sends no more on this stream. */
static void take_end(struct link_call *call)
{
    call->remote_closed = true;
    if (call->link->is_server) {
        call_make_ready(call);
        return;
    }
    if (call->end_known)
        return;
    if (call->status < 0 && call->http_status != 200)
        call_set_end(call, status_of_http(call->http_status));
    else if (call->status < 0 || call->status > LINK_STATUS_CODE_MAX)
        call_set_end(call, LINK_STATUS_UNKNOWN);
    else
        call_set_end(call, (enum link_status)call->status);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    struct link *link = user_data;
    if (frame->hd.type == NGHTTP2_GOAWAY && !link->is_server)
        link->going_away = true;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct link_call *call = find_call(session, frame->hd.stream_id);
    if (!call)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        if (!call->is_post || !call->is_grpc) {
            refuse(call, call->is_post ? "415" : "405");
            return 0;
        }
        call_make_ready(call);
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        take_end(call);
    return 0;
}

static int on_data_chunk_recv(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                              const uint8_t *data, size_t length, void *user_data)
{
    struct link_call *call = find_call(session, stream_id);
    if (call)
        call_receive(call, data, length);
    else
        nghttp2_session_consume(session, stream_id, length);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *user_data)
{
    struct link_call *call = find_call(session, stream_id);
    if (!call)
        return 0;
    call->stream_open = false;
    if (call->end_known)
        return 0;
    if (call->link->is_server && !call->announced)
        call_end_now(call, LINK_STATUS_CANCELLED, NULL);
    else if (call->link->is_server && call->local_closed && error_code == NGHTTP2_NO_ERROR)
        call_set_end(call, (enum link_status)call->status);
    else if (call->link->is_server && error_code == NGHTTP2_NO_ERROR)
        h2_call_fail(call, error_code, LINK_STATUS_CANCELLED, "the caller went away");
    else
        h2_call_fail(call, error_code, status_of_h2_error(error_code), "the peer reset the call");
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    struct link *link = user_data;
    /* The call is over: what the client has still to send is of no use. */
    if (link->is_server && frame->hd.type == NGHTTP2_HEADERS &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
        nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        link_check(link, nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                                   NGHTTP2_NO_ERROR));
    return 0;
}

/* A request that did not get out, as after a GOAWAY: nghttp2 has no stream to close for it. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *user_data)
{
    struct link *link = user_data;
    if (link->is_server || frame->hd.type != NGHTTP2_HEADERS ||
        frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    list_for_each(cursor, following, &link->calls)
    {
        struct link_call *call = container_of(cursor, struct link_call, siblings);
        if (call->stream_id != frame->hd.stream_id)
            continue;
        call->stream_open = false;
        h2_call_fail(call, NGHTTP2_NO_ERROR, LINK_STATUS_UNAVAILABLE,
                     "the peer takes no more calls");
        break;
    }
    return 0;
}

static int new_session(struct link *link)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    if (nghttp2_session_callbacks_new(&callbacks))
        return HEARTH_ENOMEMORY;
    if (nghttp2_option_new(&option)) {
        nghttp2_session_callbacks_del(callbacks);
        return HEARTH_ENOMEMORY;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk_recv);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, link_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, link_read_length);

    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_stream_reset_rate_limit(option, RESET_BURST, RESET_RATE);
    int error = link->is_server
                    ? nghttp2_session_server_new2(&link->session, callbacks, link, option)
                    : nghttp2_session_client_new2(&link->session, callbacks, link, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return error ? HEARTH_ENOMEMORY : 0;
}

int link_session_new(struct link *link)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, LINK_CALLS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, LINK_WINDOW},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, LINK_FRAME_MAX},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LINK_HEADERS_MAX},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    int error = new_session(link);
    if (error)
        return error;
    if (nghttp2_submit_settings(link->session, NGHTTP2_FLAG_NONE, settings,
                                sizeof settings / sizeof *settings) ||
        nghttp2_session_set_local_window_size(link->session, NGHTTP2_FLAG_NONE, 0, LINK_WINDOW))
        return HEARTH_ENOMEMORY;
    return 0;
}
