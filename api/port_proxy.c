#include "api/port_proxy.h"

#include "api/relay_head.h"
#include "api/tunnel.h"
#include "supervisord/port.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HIGH_WATER ((size_t)256 << 10)
#define LOW_WATER ((size_t)64 << 10)

enum relay_phase { RELAY_CONNECTING, RELAY_HEAD, RELAY_BODY };

struct relay {
    struct request_owner owner;
    struct api *api;
    struct http_request *request; /* NULL: it has its answer, or its client has gone */
    struct bufferevent *guest;    /* NULL before it is connected */
    enum relay_phase phase;
    struct buf out;   /* the request's head */
    size_t looked_at; /* of the answer, for the end of its head */
    struct relay_chunks chunks;
    enum relay_framing framing;
    uint64_t left;     /* of the answer's body, where its length is known */
    bool chunked_body; /* the request's */
    bool deaf;         /* the guest takes no more of it */
    bool body_ended;   /* before it was connected, maybe */
    bool to_head, wants_upgrade;
    struct timer late; /* the answer's head is due */
};

static struct relay *relay_of(struct request_owner *owner)
{
    return container_of(owner, struct relay, owner);
}

static void relay_free(struct relay *relay)
{
    if (relay->request)
        http_request_set_data(relay->request, NULL);
    if (relay->guest)
        bufferevent_free(relay->guest);
    timer_free(&relay->late);
    buf_free(&relay->out);
    free(relay);
}

/* Nothing more is to be told: what the client still sends is read and dropped. */
static void let_go(struct relay *relay)
{
    struct http_request *request = relay->request;
    http_request_pause_body(request, false);
    http_request_set_data(request, NULL);
    relay->request = NULL;
}

static void fail(struct relay *relay, const struct hearth_failure *failure)
{
    struct http_request *request = relay->request;
    let_go(relay);
    http_reply_problem(request, failure);
    relay_free(relay);
}

static void finish(struct relay *relay, bool whole)
{
    struct http_request *request = relay->request;
    let_go(relay);
    http_stream_end(request, whole);
    relay_free(relay);
}

/* The request's head, as the guest gets it. */

struct head_writer {
    struct buf *out;
    const char *connection;
    unsigned port;
};

static bool is_ours(const char *name)
{
    static const char *const names[] = {"Host",
                                        "Authorization",
                                        "Content-Length",
                                        "Expect",
                                        "Origin",
                                        "X-Request-Id",
                                        "Idempotency-Key",
                                        "Forwarded",
                                        "X-Forwarded-For",
                                        "X-Forwarded-Host",
                                        "X-Forwarded-Proto",
                                        "X-Forwarded-Prefix",
                                        NULL};
    return relay_is_among(name, names);
}

static void pass_header(void *arg, const char *name, const char *value)
{
    const struct head_writer *writer = arg;
    if (strcasecmp(name, "Origin") == 0)
        buf_printf(writer->out, "Origin: http://127.0.0.1:%u\r\n", writer->port);
    else if (!is_ours(name) && !relay_is_hop_by_hop(name, writer->connection))
        buf_printf(writer->out, "%s: %s\r\n", name, value);
}

/* The path behind /ports/PORT, as it was sent. */
static const char *target_behind(const char *target)
{
    for (int slashes = 0; *target; target++)
        if (*target == '?' || (*target == '/' && ++slashes == 6))
            break;
    return target;
}

static void write_head(struct relay *relay, unsigned port)
{
    struct http_request *request = relay->request;
    const char *target = http_request_target(request), *behind = target_behind(target);
    const char *connection = http_request_header(request, "Connection");
    const char *upgrade = http_request_header(request, "Upgrade");
    const char *length = http_request_header(request, "Content-Length");
    const char *host = http_request_header(request, "Host");
    struct head_writer writer = {&relay->out, connection, port};
    relay->wants_upgrade = upgrade && relay_list_has(connection, "upgrade");
    relay->chunked_body = http_request_header(request, "Transfer-Encoding") != NULL;
    buf_printf(&relay->out, "%s %s%s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n",
               http_request_method_text(request), *behind == '/' ? "" : "/", behind, port);
    http_request_each_header(request, pass_header, &writer);
    if (host)
        buf_printf(&relay->out, "X-Forwarded-Host: %s\r\n", host);
    buf_printf(&relay->out, "X-Forwarded-Proto: http\r\nX-Forwarded-Prefix: %.*s\r\n",
               (int)(behind - target), target);
    buf_printf(&relay->out, "X-Request-Id: %s\r\n", http_request_id(request));
    if (relay->chunked_body)
        buf_text(&relay->out, "Transfer-Encoding: chunked\r\n");
    else if (length)
        buf_printf(&relay->out, "Content-Length: %s\r\n", length);
    if (relay->wants_upgrade)
        buf_printf(&relay->out, "Connection: Upgrade\r\nUpgrade: %s\r\n\r\n", upgrade);
    else
        buf_text(&relay->out, "Connection: close\r\n\r\n");
}

/* The request's body. */

static void on_body(struct request_owner *owner, const void *data, size_t length)
{
    struct relay *relay = relay_of(owner);
    struct evbuffer *out = bufferevent_get_output(relay->guest);
    if (relay->deaf)
        return;
    if (relay->chunked_body)
        evbuffer_add_printf(out, "%zx\r\n", length);
    evbuffer_add(out, data, length);
    if (relay->chunked_body)
        evbuffer_add(out, "\r\n", 2);
    if (evbuffer_get_length(out) >= HIGH_WATER)
        http_request_pause_body(relay->request, true);
}

static void end_body(struct relay *relay)
{
    const struct config *config = supervisor_config(relay->api->supervisor);
    if (relay->chunked_body && !relay->deaf)
        bufferevent_write(relay->guest, "0\r\n\r\n", 5);
    if (relay->phase == RELAY_HEAD)
        timer_set(&relay->late,
                  clock_monotonic_us() + config->request_timeout_ms * (int64_t)US_PER_MS);
}

static void on_body_end(struct request_owner *owner)
{
    struct relay *relay = relay_of(owner);
    relay->body_ended = true;
    if (relay->guest)
        end_body(relay);
}

static void free_now(void *arg)
{
    relay_free(arg);
}

/* Maybe from within a call of ours. */
static void on_gone(struct request_owner *owner)
{
    struct relay *relay = relay_of(owner);
    relay->request = NULL;
    if (relay->phase == RELAY_CONNECTING)
        return; /* `connected` is to come */
    timer_unset(&relay->late);
    bufferevent_disable(relay->guest, EV_READ | EV_WRITE);
    bufferevent_setcb(relay->guest, NULL, NULL, NULL, NULL);
    loop_defer(supervisor_loop(relay->api->supervisor), free_now, relay);
}

static void on_late(void *arg)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_ETIMEDOUT, "port_timeout",
                "what listens on this port did not answer in time");
    hearth_failure_hint(&failure, "Look at what it does: its answer did not begin.");
    fail(arg, &failure);
}

/* The answer's body. */

static void may_send_on(void *arg)
{
    struct relay *relay = arg;
    if (relay->guest)
        bufferevent_enable(relay->guest, EV_READ);
}

static const struct http_stream_events stream_events = {.on_writable = may_send_on};

static void pass_body(void *arg, const char *data, size_t length)
{
    struct relay *relay = arg;
    if (length && relay->request && !http_stream_send(relay->request, data, length))
        bufferevent_disable(relay->guest, EV_READ);
}

/* False: the relay has ended. */
static bool take_body(struct relay *relay, const char *data, size_t length)
{
    int ended = 0;
    if (relay->framing == RELAY_CHUNKED) {
        ended = relay_chunks_take(&relay->chunks, data, length, pass_body, relay);
    } else if (relay->framing == RELAY_LENGTH) {
        size_t piece = length < relay->left ? length : (size_t)relay->left;
        pass_body(relay, data, piece);
        relay->left -= piece;
        ended = relay->left == 0;
    } else {
        pass_body(relay, data, length);
    }
    if (!ended || !relay->request)
        return relay->request != NULL;
    finish(relay, ended > 0);
    return false;
}

/* The answer's head. */

/* Puts the answer's headers; gives its type. */
static void set_headers(struct relay *relay, const struct relay_head *head)
{
    http_request_relay(relay->request);
    for (size_t i = 0; i < head->header_count; i++)
        if (strcasecmp(head->headers[i].name, "X-Request-Id") != 0 &&
            strcasecmp(head->headers[i].name, "Date") != 0)
            http_request_header_out(relay->request, head->headers[i].name, head->headers[i].value);
}

/* What a page of the guest says is not ours to say, to a browser: it gets an origin of its own. */
static void confine(struct relay *relay)
{
    http_request_header_out(relay->request, "Content-Security-Policy",
                            "sandbox allow-forms allow-modals allow-popups allow-scripts");
}

static void upgrade(struct relay *relay, const struct relay_head *head)
{
    struct http_request *request = relay->request;
    set_headers(relay, head);
    http_request_header_out(request, "Upgrade", head->upgrade ? head->upgrade : "websocket");
    http_request_set_data(request, NULL);
    relay->request = NULL;
    tunnel_begin(loop_base(supervisor_loop(relay->api->supervisor)), request,
                 steal_pointer(relay->guest));
    relay_free(relay);
}

/* False: the relay has ended. */
static bool answer(struct relay *relay, const struct relay_head *head)
{
    bool known = head->has_length && (relay->to_head || head->framing == RELAY_LENGTH);
    timer_unset(&relay->late);
    set_headers(relay, head);
    confine(relay);
    relay->phase = RELAY_BODY;
    relay->framing = head->framing;
    relay->left = head->length;
    http_stream_begin(relay->request, head->status, NULL,
                      known                         ? (int64_t)head->length
                      : head->framing == RELAY_NONE ? 0
                                                    : -1,
                      &stream_events, relay);
    if (head->framing != RELAY_NONE && (head->framing != RELAY_LENGTH || head->length))
        return true;
    finish(relay, true);
    return false;
}

static void not_http(struct relay *relay, const char *why)
{
    struct hearth_failure failure;
    relay_not_http(&failure, why);
    fail(relay, &failure);
}

/* Where the head is whole: what it says is done. True: there may be more to read. */
static bool take_head(struct relay *relay, struct evbuffer *input)
{
    size_t there = evbuffer_get_length(input);
    if (there > RELAY_HEAD_MAX)
        there = RELAY_HEAD_MAX;
    const char *bytes = (const char *)evbuffer_pullup(input, (ev_ssize_t)there);
    size_t from = relay->looked_at > 2 ? relay->looked_at - 2 : 0;
    size_t end = bytes ? relay_head_end(bytes + from, there - from) : 0;
    if (!end) {
        relay->looked_at = there;
        if (there == RELAY_HEAD_MAX)
            not_http(relay, "its head is too large");
        return false;
    }
    end += from;
    relay->looked_at = 0;
    auto_free char *text = malloc(end + 1);
    auto_free struct relay_head *head = malloc(sizeof *head);
    struct hearth_failure failure;
    if (!text || !head)
        abort();
    memcpy(text, bytes, end);
    text[end] = '\0';
    evbuffer_drain(input, end);
    if (relay_head_parse(text, end, relay->to_head, head, &failure)) {
        fail(relay, &failure);
        return false;
    }
    if (head->status >= 200)
        return answer(relay, head);
    if (head->status == 101 && relay->wants_upgrade) {
        upgrade(relay, head);
        return false;
    }
    if (head->status != 101)
        return true;
    not_http(relay, "it changes the protocol unasked");
    return false;
}

static void on_read(struct bufferevent *events, void *arg)
{
    struct relay *relay = arg;
    struct evbuffer *input = bufferevent_get_input(events);
    while (relay->phase == RELAY_HEAD && evbuffer_get_length(input))
        if (!take_head(relay, input))
            return;
    while (relay->phase == RELAY_BODY && evbuffer_get_length(input)) {
        struct evbuffer_iovec piece;
        if (evbuffer_peek(input, -1, NULL, &piece, 1) < 1)
            return;
        /* What is given may end the relay and free the buffer: it is taken out before. */
        auto_free char *copy = malloc(piece.iov_len);
        if (!copy)
            abort();
        size_t length = piece.iov_len;
        evbuffer_remove(input, copy, length);
        if (!take_body(relay, copy, length))
            return;
    }
}

static void on_write(struct bufferevent *events, void *arg)
{
    struct relay *relay = arg;
    (void)events;
    if (relay->request)
        http_request_pause_body(relay->request, false);
}

static void on_event(struct bufferevent *events, short what, void *arg)
{
    struct relay *relay = arg;
    if (what & BEV_EVENT_WRITING) {
        /* It may have answered all the same. */
        relay->deaf = true;
        evbuffer_drain(bufferevent_get_output(events),
                       evbuffer_get_length(bufferevent_get_output(events)));
        http_request_pause_body(relay->request, false);
    } else if (relay->phase == RELAY_HEAD) {
        not_http(relay, "it ended the connection without an answer");
    } else {
        finish(relay, relay->framing == RELAY_CLOSE && (what & BEV_EVENT_EOF));
    }
}

static void connected(void *arg, int error, const struct hearth_failure *failure, int fd)
{
    struct relay *relay = arg;
    if (!relay->request) {
        if (fd >= 0)
            close(fd);
        relay_free(relay);
        return;
    }
    if (error) {
        fail(relay, failure);
        return;
    }
    struct event_base *base = loop_base(supervisor_loop(relay->api->supervisor));
    relay->guest = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!relay->guest)
        abort();
    relay->phase = RELAY_HEAD;
    bufferevent_setcb(relay->guest, on_read, on_write, on_event, relay);
    bufferevent_setwatermark(relay->guest, EV_READ, 0, HIGH_WATER);
    bufferevent_setwatermark(relay->guest, EV_WRITE, LOW_WATER, 0);
    bufferevent_write(relay->guest, relay->out.data, relay->out.length);
    bufferevent_enable(relay->guest, EV_READ | EV_WRITE);
    if (relay->body_ended)
        end_body(relay);
    http_request_pause_body(relay->request, false);
}

static int check(struct http_request *request, const struct route *route, unsigned *ret_port,
                 struct hearth_failure *failure)
{
    const char *method = http_request_method_text(request), *text = route->parameters[1].value;
    size_t length = strlen(text);
    if (strcmp(method, "CONNECT") == 0 || strcmp(method, "TRACE") == 0)
        return hearth_fail(failure, HEARTH_EINVALID, "method_not_allowed", "%s is not passed on",
                           method);
    for (const char *at = http_request_target(request); *at; at++)
        if ((unsigned char)*at <= ' ' || *at == 0x7f)
            return hearth_fail(failure, HEARTH_EMALFORMED, "malformed_target",
                               "the query has a byte that is not allowed");
    *ret_port = (unsigned)strtoul(text, NULL, 10);
    if (length <= 5 && strspn(text, "0123456789") == length && *text != '0' && *ret_port <= 65535)
        return rights_check(http_request_principal(request), route->entry, failure);
    int error =
        hearth_fail(failure, HEARTH_EINVALID, "bad_port", "a port is a number from 1 to 65535");
    hearth_failure_field(failure, "/port");
    return error;
}

void port_proxy_serve(struct api *api, struct http_request *request, const struct route *route)
{
    struct hearth_failure failure;
    unsigned port = 0;
    struct workspace *workspace = NULL;
    if (!check(request, route, &port, &failure))
        workspace =
            workspace_find(http_request_principal(request), route->parameters[0].value, &failure);
    if (!workspace) {
        http_reply_problem(request, &failure);
        return;
    }
    struct relay *relay = calloc(1, sizeof *relay);
    if (!relay)
        abort();
    relay->owner = (struct request_owner){on_body, on_body_end, on_gone};
    relay->api = api;
    relay->request = request;
    relay->to_head = http_request_method(request) == HTTP_HEAD;
    timer_init(&relay->late, supervisor_loop(api->supervisor), on_late, relay);
    write_head(relay, port);
    http_request_set_data(request, &relay->owner);
    http_request_pause_body(request, true); /* until it is connected */
    http_request_long(request);
    port_connect(workspace, port, connected, relay);
}
