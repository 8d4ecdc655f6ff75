#include "api/mcp_http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What waits this long becomes a stream, and a stream says this often that it lives: proxies and
 * clients give up on silence. */
#define ALIVE_US (15 * US_PER_S)
#define STREAM_TYPE "text/event-stream"

static void release(void *arg)
{
    struct mcp_exchange *exchange = arg;
    if (!exchange->session)
        mcp_peer_close(&exchange->own);
    list_remove(&exchange->link);
    timer_free(&exchange->timer);
    free(exchange);
}

static void let_go(struct mcp_exchange *exchange)
{
    exchange->done = true;
    if (exchange->http)
        http_request_set_data(exchange->http, NULL);
    exchange->http = NULL;
    if (exchange->session && exchange->session->listener == exchange)
        exchange->session->listener = NULL;
    timer_unset(&exchange->timer);
    loop_defer(supervisor_loop(exchange->api->supervisor), release, exchange);
}

static struct mcp_request *request_of(const struct mcp_exchange *exchange)
{
    const struct mcp_peer *peer = exchange->session ? &exchange->session->peer : &exchange->own;
    list_for_each(cursor, next, &peer->requests)
    {
        struct mcp_request *request = container_of(cursor, struct mcp_request, link);
        if (request->exchange == exchange)
            return request;
    }
    return NULL;
}

static void abandoned(void *arg)
{
    struct mcp_exchange *exchange = arg;
    if (exchange->done || exchange->http)
        return;
    struct mcp_request *request = request_of(exchange);
    if (request)
        mcp_request_abandon(request);
    let_go(exchange);
}

/* In a session a stream may be taken up again, so only what was not yet one ends with its client.
 */
static void on_gone(struct request_owner *owner)
{
    struct mcp_exchange *exchange = container_of(owner, struct mcp_exchange, owner);
    exchange->http = NULL;
    timer_unset(&exchange->timer);
    if (exchange->session && exchange->streaming && exchange->session->listener != exchange)
        return;
    loop_defer(supervisor_loop(exchange->api->supervisor), abandoned, exchange);
}

static void on_writable(void *arg)
{
    ((struct mcp_exchange *)arg)->full = false;
}

static const struct http_stream_events stream_events = {.on_writable = on_writable};

static void send_text(struct mcp_exchange *exchange, const struct buf *text)
{
    if (exchange->http && text->length)
        exchange->full = !http_stream_send(exchange->http, text->data, text->length);
    if (exchange->http)
        timer_set(&exchange->timer, clock_monotonic_us() + ALIVE_US);
}

static void on_timer(void *arg)
{
    struct mcp_exchange *exchange = arg;
    auto_buf struct buf sign = {0};
    if (!exchange->streaming) {
        mcp_exchange_stream(exchange);
    } else if (!buf_text(&sign, ": alive\n\n")) {
        send_text(exchange, &sign);
    }
}

struct mcp_exchange *mcp_exchange_new(struct api *api, struct http_request *http,
                                      struct mcp_session *session, bool takes_events)
{
    struct mcp_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange) {
        mcp_http_refuse(http, 503, NULL, MCP_INTERNAL_ERROR, "out of memory");
        return NULL;
    }
    exchange->owner = (struct request_owner){.on_gone = on_gone};
    exchange->api = api;
    exchange->http = http;
    exchange->session = session;
    exchange->takes_events = takes_events;
    list_init(&exchange->link);
    timer_init(&exchange->timer, supervisor_loop(api->supervisor), on_timer, exchange);
    if (session) {
        list_append(&session->exchanges, &exchange->link);
        exchange->stream = ++session->stream_count;
    }
    http_request_set_data(http, &exchange->owner);
    http_request_long(http);
    if (takes_events)
        timer_set(&exchange->timer, clock_monotonic_us() + ALIVE_US);
    return exchange;
}

/* The first event has no data: it gives a client that loses the stream where to go on. Clients of
 * older versions do not know it. */
static void send_prime(struct mcp_exchange *exchange)
{
    auto_buf struct buf text = {0};
    const struct mcp_session *session = exchange->session;
    if (session && strcmp(session->peer.version, MCP_VERSION_SESSION) == 0)
        buf_printf(&text, "id: %u-%" PRIu64 "\nretry: 500\ndata:\n\n", exchange->stream,
                   exchange->sequence);
    send_text(exchange, &text);
}

void mcp_exchange_stream(struct mcp_exchange *exchange)
{
    exchange->streaming = true;
    if (!exchange->http)
        return;
    http_request_header_out(exchange->http, "X-Accel-Buffering", "no");
    http_stream_begin(exchange->http, 200, STREAM_TYPE, -1, &stream_events, exchange);
    send_prime(exchange);
}

void mcp_exchange_adopt(struct mcp_exchange *exchange, struct http_request *http)
{
    if (exchange->http) {
        http_request_set_data(exchange->http, NULL);
        http_stream_end(exchange->http, true);
    }
    exchange->http = http;
    exchange->full = false;
    http_request_set_data(http, &exchange->owner);
    mcp_exchange_stream(exchange);
}

void mcp_exchange_send(struct mcp_exchange *exchange, uint64_t sequence, const struct buf *message)
{
    auto_buf struct buf text = {0};
    int error = 0;
    if (exchange->session)
        error = buf_printf(&text, "id: %u-%" PRIu64 "\n", exchange->stream, sequence);
    if (!error)
        error = buf_text(&text, "event: message\ndata: ");
    if (!error)
        error = buf_append(&text, message->data, message->length);
    if (!error && !buf_text(&text, "\n\n"))
        send_text(exchange, &text);
}

/* Kept first, so that it is there for a client that comes back. */
static void say(struct mcp_exchange *exchange, const struct buf *message)
{
    uint64_t sequence = ++exchange->sequence;
    if (exchange->session)
        mcp_session_keep(exchange->session, exchange->stream, sequence, message);
    mcp_exchange_send(exchange, sequence, message);
}

void mcp_exchange_end(struct mcp_exchange *exchange)
{
    if (exchange->done)
        return;
    if (exchange->http && exchange->streaming)
        http_stream_end(exchange->http, true);
    else if (exchange->http)
        mcp_http_refuse(exchange->http, 404, NULL, MCP_SESSION_NOT_FOUND, "the session has ended");
    let_go(exchange);
}

/* The transport. */

static int status_of(const struct mcp_exchange *exchange, enum mcp_code code)
{
    if (exchange->session)
        return 200;
    if (code == MCP_METHOD_NOT_FOUND)
        return 404;
    bool fault = code == MCP_PARSE_ERROR || code == MCP_INVALID_REQUEST ||
                 code == MCP_INVALID_PARAMS || code == MCP_HEADER_MISMATCH ||
                 code == MCP_UNSUPPORTED_VERSION;
    return fault ? 400 : 200;
}

static void finish(struct mcp_exchange *exchange, enum mcp_code code, struct buf *message)
{
    if (exchange->streaming) {
        say(exchange, message);
        if (exchange->http)
            http_stream_end(exchange->http, true);
    } else if (exchange->http) {
        mcp_http_reply(exchange->http, status_of(exchange, code), message);
    }
    let_go(exchange);
}

static void answer(struct mcp_request *request, enum mcp_code code, struct buf *message)
{
    struct mcp_exchange *exchange = request->exchange;
    if (!exchange->done)
        finish(exchange, code, message);
}

static void tell(struct mcp_request *request, const struct buf *message)
{
    struct mcp_exchange *exchange = request->exchange;
    if (exchange->done || exchange->full || !exchange->takes_events)
        return;
    if (!exchange->streaming)
        mcp_exchange_stream(exchange);
    say(exchange, message);
}

static void announce(struct mcp_peer *peer, const struct buf *message)
{
    struct mcp_session *session = container_of(peer, struct mcp_session, peer);
    uint64_t sequence = ++session->announced;
    mcp_session_keep(session, MCP_ANNOUNCE_STREAM, sequence, message);
    if (session->listener && !session->listener->full)
        mcp_exchange_send(session->listener, sequence, message);
}

static void drop(struct mcp_request *request)
{
    struct mcp_exchange *exchange = request->exchange;
    auto_buf struct buf out = {0};
    mcp_write_error(&out, request->id, MCP_CANCELLED, "Request cancelled", NULL);
    if (!exchange->done)
        finish(exchange, MCP_CANCELLED, &out);
}

static size_t answer_max(const struct mcp_request *request)
{
    const struct mcp_exchange *exchange = request->exchange;
    return exchange->streaming ? MCP_EVENT_MAX : SIZE_MAX;
}

const struct mcp_transport mcp_http_transport = {answer, tell, announce, drop, answer_max};
