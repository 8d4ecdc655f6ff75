#include "guestagent/link_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

struct link_call *h2_call_new(struct link *link, int32_t stream_id)
{
    struct link_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->link = link;
    call->stream_id = stream_id;
    call->stream_open = true;
    call->status = -1;
    list_init(&call->ready);
    list_init(&call->out);
    list_append(&link->calls, &call->siblings);
    link->call_count++;
    return call;
}

static void release(struct link_call *call)
{
    if (!call->ended || call->busy > 0)
        return;
    buf_free(&call->in);
    free(call->path);
    free(call->message);
    free(call);
}

void call_make_ready(struct link_call *call)
{
    if (!call->ended && list_empty(&call->ready))
        list_append(&call->link->ready, &call->ready);
}

static void keep_message(struct link_call *call, const char *message)
{
    char *copy = message ? strndup(message, LINK_STATUS_TEXT_MAX) : NULL;
    free(call->message);
    call->message = copy;
}

/* Gives the first of the bytes that came back to the peer, which may send as many more. */
static void return_window(struct link_call *call, size_t length)
{
    struct link *link = call->link;
    size_t connection = call->unreturned_connection;
    if (connection > length)
        connection = length;
    call->unreturned -= length;
    call->unreturned_connection -= connection;
    link->held -= length;
    if (connection)
        link_check(link, nghttp2_session_consume_connection(link->session, connection));
    if (length && call->stream_open)
        link_check(link, nghttp2_session_consume_stream(link->session, call->stream_id, length));
}

static void drop_input(struct link_call *call)
{
    call->discard = true;
    call->link->buffered -= call->buffered;
    call->buffered = 0;
    return_window(call, call->unreturned);
    buf_free(&call->in);
    call->in_start = 0;
}

static void drop_output(struct link_call *call)
{
    struct link *link = call->link;
    /* What is being written may have a part of the first. */
    if (!output_is_empty(link->output) && !list_empty(&call->out)) {
        struct list *first = call->out.next;
        list_remove(first);
        list_append(&link->spent, first);
    }
    chunk_list_free(&call->out);
    call->queued = 0;
}

/* From here on nghttp2's stream, if there is one, knows of no call. */
static void let_stream_go(struct link_call *call, uint32_t h2_error, bool reset)
{
    struct link *link = call->link;
    if (!call->stream_open)
        return;
    call->stream_open = false;
    nghttp2_session_set_stream_user_data(link->session, call->stream_id, NULL);
    if (reset && !link->broken && !link->freed)
        link_check(link, nghttp2_submit_rst_stream(link->session, NGHTTP2_FLAG_NONE,
                                                   call->stream_id, h2_error));
}

void call_set_end(struct link_call *call, enum link_status status)
{
    call->status = status;
    call->end_known = true;
    call->local_closed = true;
    drop_output(call);
    call_make_ready(call);
}

void h2_call_fail(struct link_call *call, uint32_t h2_error, enum link_status status,
                  const char *message)
{
    if (call->ended)
        return;
    drop_input(call);
    bool answer = call->link->is_server && !call->headers_sent && call->stream_open;
    if (answer)
        submit_trailers_only(call, status, message);
    let_stream_go(call, h2_error, !answer);
    keep_message(call, message);
    call_set_end(call, status);
}

void call_end_now(struct link_call *call, enum link_status status, const char *message)
{
    if (call->ended)
        return;
    call->ended = true;
    list_remove(&call->siblings);
    list_remove(&call->ready);
    call->link->call_count--;
    if (call->deadline)
        event_free(call->deadline);
    call->deadline = NULL;
    drop_input(call);
    let_stream_go(call, NGHTTP2_CANCEL, true);
    drop_output(call);
    call->busy++;
    if (call->events)
        call->events->on_end(call, call->arg, status, message ? message : "");
    call->busy--;
    release(call);
}

void call_receive(struct link_call *call, const uint8_t *data, size_t length)
{
    struct link *link = call->link;
    if (call->discard) {
        link_check(link, nghttp2_session_consume(link->session, call->stream_id, length));
        return;
    }
    call->unreturned += length;
    link->held += length;
    if (link->held <= LINK_HELD_MAX)
        link_check(link, nghttp2_session_consume_connection(link->session, length));
    else
        call->unreturned_connection += length;
    if (link->buffered + length > LINK_BUFFERED_MAX || buf_append(&call->in, data, length)) {
        h2_call_fail(call, NGHTTP2_ENHANCE_YOUR_CALM, LINK_STATUS_RESOURCE_EXHAUSTED,
                     "too much was sent at once");
        return;
    }
    call->buffered += length;
    link->buffered += length;
    call_make_ready(call);
}

/* Is there a whole message at data? Fails the call where the peer broke the rules. */
static bool whole_message(struct link_call *call, const uint8_t *data, size_t available,
                          size_t *ret_length)
{
    if (available < MESSAGE_PREFIX)
        return false;
    size_t length = (size_t)data[1] << 24 | (size_t)data[2] << 16 | (size_t)data[3] << 8 | data[4];
    if (data[0] == 1)
        h2_call_fail(call, NGHTTP2_CANCEL, LINK_STATUS_UNIMPLEMENTED,
                     "compressed messages are not spoken here");
    else if (data[0] != 0)
        h2_call_fail(call, NGHTTP2_CANCEL, LINK_STATUS_INTERNAL, "a message has a bad prefix");
    else if (length > LINK_MESSAGE_MAX)
        h2_call_fail(call, NGHTTP2_CANCEL, LINK_STATUS_RESOURCE_EXHAUSTED,
                     "a message is too large");
    else if (call->unary && call->got_message)
        h2_call_fail(call, NGHTTP2_CANCEL, LINK_STATUS_INTERNAL, "more than one message came");
    *ret_length = length;
    return !call->discard && available - MESSAGE_PREFIX >= length;
}

static void deliver(struct link_call *call)
{
    /* Taken out, so that a callback that ends the call does not free the message it was given. */
    struct buf in = call->in;
    call->in = (struct buf){0};
    size_t at = call->in_start, length;
    while (!call->paused && !call->discard &&
           whole_message(call, (uint8_t *)in.data + at, in.length - at, &length)) {
        call->got_message = true;
        call->events->on_message(call, call->arg, (uint8_t *)in.data + at + MESSAGE_PREFIX, length);
        at += MESSAGE_PREFIX + length;
    }
    if (call->discard) {
        buf_free(&in);
        return;
    }
    size_t delivered = at - call->in_start;
    size_t early = call->buffered - call->unreturned; /* the first, which were returned before */
    call->buffered -= delivered;
    call->link->buffered -= delivered;
    /* The rest is the start of a message: it must become whole, even if it is larger than the
     * window. */
    if (!call->paused)
        return_window(call, call->unreturned);
    else if (delivered > early)
        return_window(call, delivered - early);
    if (at == in.length) {
        buf_free(&in);
        at = 0;
    } else if (at > in.length / 2) {
        buf_consume(&in, at);
        at = 0;
    }
    call->in = in;
    call->in_start = at;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct link_call *call = arg;
    struct link *link = call->link;
    link_enter(link);
    h2_call_fail(call, NGHTTP2_CANCEL, LINK_STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
    link_leave(link);
}

static int set_deadline(struct link_call *call, unsigned timeout_ms)
{
    if (timeout_ms == 0)
        return 0;
    const struct timeval wait = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    call->deadline = evtimer_new(call->link->base, on_deadline, call);
    return call->deadline && event_add(call->deadline, &wait) == 0 ? 0 : HEARTH_ENOMEMORY;
}

static void announce(struct link_call *call)
{
    struct link *link = call->link;
    auto_free char *path = steal_pointer(call->path);
    call->announced = true;
    if (!path || set_deadline(call, call->timeout_ms)) {
        h2_call_fail(call, NGHTTP2_CANCEL,
                     path ? LINK_STATUS_RESOURCE_EXHAUSTED : LINK_STATUS_UNIMPLEMENTED,
                     path ? "no memory" : "no such method");
        return;
    }
    link->events->on_call(link, link->arg, call, path);
    if (!call->ended && !call->events && !call->local_closed)
        h2_call_fail(call, NGHTTP2_CANCEL, LINK_STATUS_UNIMPLEMENTED, "no such method");
}

static void tell_half_close(struct link_call *call)
{
    call->half_close_told = true;
    if (call->buffered > 0 && (call->link->is_server || call->status == LINK_STATUS_OK))
        h2_call_fail(call, NGHTTP2_CANCEL, LINK_STATUS_INTERNAL, "the last message is cut short");
    else if (call->events->on_half_closed)
        call->events->on_half_closed(call, call->arg);
}

void h2_call_dispatch(struct link_call *call)
{
    list_remove(&call->ready);
    call->busy++;
    if (call->link->is_server && !call->announced)
        announce(call);
    if (call->events && !call->discard)
        deliver(call);
    bool drained = call->discard || !call->paused || call->buffered == 0;
    if (call->events && call->remote_closed && drained && !call->discard && !call->half_close_told)
        tell_half_close(call);
    if (call->above_low_water && call->queued < LINK_SEND_LOW_WATER && !call->local_closed) {
        call->above_low_water = false;
        if (call->events && call->events->on_writable)
            call->events->on_writable(call, call->arg);
    }
    if (call->end_known && (drained || call->discard))
        call_end_now(call, (enum link_status)call->status, call->message);
    call->busy--;
    release(call);
}

static int open_call(struct link_call **ret_call, struct link *link, const char *path,
                     unsigned timeout_ms, const struct link_call_events *events, void *arg,
                     struct hearth_failure *failure)
{
    if (link->broken || link->freed || link->going_away)
        return hearth_fail(failure, HEARTH_EUNAVAILABLE, "link_down", "the link is down");
    if (link->call_count >= LINK_CALLS_MAX)
        return hearth_fail(failure, HEARTH_EQUOTA, "too_many_calls",
                           "%d calls are open on this link", LINK_CALLS_MAX);
    struct link_call *call = h2_call_new(link, -1);
    if (!call)
        return hearth_fail_errno(failure, ENOMEM, "call_failed", "cannot call %s", path);
    call->stream_id =
        set_deadline(call, timeout_ms) ? NGHTTP2_ERR_NOMEM : submit_request(call, path, timeout_ms);
    if (call->stream_id < 0) {
        /* Stream ids end after 2^30 calls: the owner then makes a new link. */
        link_check(link, call->stream_id);
        call->stream_open = false;
        call_end_now(call, LINK_STATUS_UNAVAILABLE, NULL);
        return hearth_fail(failure, HEARTH_EUNAVAILABLE, "call_failed", "cannot call %s", path);
    }
    call->events = events;
    call->arg = arg;
    *ret_call = call;
    return 0;
}

int link_call_start(struct link_call **ret_call, struct link *link, const char *path,
                    unsigned timeout_ms, const struct link_call_events *events, void *arg,
                    struct hearth_failure *failure)
{
    link_enter(link);
    int error = open_call(ret_call, link, path, timeout_ms, events, arg, failure);
    link_leave_quietly(link, false);
    return error;
}

static void queue(struct link_call *call, struct chunk *chunk)
{
    struct link *link = call->link;
    list_append(&call->out, &chunk->siblings);
    call->queued += chunk->length;
    if (call->queued >= LINK_SEND_LOW_WATER)
        call->above_low_water = true;
    if (link->is_server && !call->headers_sent)
        submit_response(call);
}

/* nghttp2 is to ask again for what there is to send. */
static void resume(struct link_call *call)
{
    if (!call->deferred)
        return;
    call->deferred = false;
    link_check(call->link, nghttp2_session_resume_data(call->link->session, call->stream_id));
}

static bool may_send(const struct link_call *call)
{
    return !call->ended && !call->local_closed && !call->link->broken;
}

/* Gives a packed message in a chunk. */
static int pack(struct chunk **ret_chunk, const ProtobufCMessage *message)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    if (length > LINK_MESSAGE_MAX)
        return HEARTH_ETOOLARGE;
    struct chunk *chunk = message_chunk(length);
    if (!chunk)
        return HEARTH_ENOMEMORY;
    protobuf_c_message_pack(message, chunk->data + MESSAGE_PREFIX);
    *ret_chunk = chunk;
    return 0;
}

int link_call_unary(struct link_call **ret_call, struct link *link, const char *path,
                    unsigned timeout_ms, const ProtobufCMessage *request,
                    const struct link_call_events *events, void *arg,
                    struct hearth_failure *failure)
{
    struct chunk *chunk;
    int error = pack(&chunk, request);
    if (error)
        return hearth_fail(failure, error, "call_failed", "cannot send the request of %s", path);
    chunk->secret = true; /* Configure's brings some */
    link_enter(link);
    error = open_call(ret_call, link, path, timeout_ms, events, arg, failure);
    if (error) {
        chunk_free(chunk);
    } else {
        (*ret_call)->unary = true;
        queue(*ret_call, chunk);
        (*ret_call)->local_closed = true;
    }
    link_leave_quietly(link, true);
    return error;
}

void link_call_accept(struct link_call *call, const struct link_call_events *events, void *arg)
{
    if (call->ended)
        return;
    call->events = events;
    call->arg = arg;
}

static int send_chunk(struct link_call *call, struct chunk *chunk)
{
    link_enter(call->link);
    queue(call, chunk);
    resume(call);
    link_leave_quietly(call->link, false);
    return 0;
}

int link_call_send(struct link_call *call, const ProtobufCMessage *message)
{
    struct chunk *chunk;
    if (!may_send(call))
        return HEARTH_ECANCELLED;
    int error = pack(&chunk, message);
    return error ? error : send_chunk(call, chunk);
}

int link_call_send_bytes(struct link_call *call, const void *data, size_t length)
{
    if (!may_send(call))
        return HEARTH_ECANCELLED;
    if (length > LINK_MESSAGE_MAX)
        return HEARTH_ETOOLARGE;
    struct chunk *chunk = message_chunk(length);
    if (!chunk)
        return HEARTH_ENOMEMORY;
    if (length)
        memcpy(chunk->data + MESSAGE_PREFIX, data, length);
    return send_chunk(call, chunk);
}

static struct chunk *chunk_of(uint8_t *message)
{
    return container_of((uint8_t(*)[])(message - MESSAGE_PREFIX), struct chunk, data);
}

uint8_t *link_message_new(size_t room)
{
    struct chunk *chunk = chunk_new(MESSAGE_PREFIX + room);
    return chunk ? chunk->data + MESSAGE_PREFIX : NULL;
}

void link_message_free(uint8_t *message)
{
    free(chunk_of(message));
}

int link_call_send_message(struct link_call *call, uint8_t *message, size_t length)
{
    int error = !may_send(call)             ? HEARTH_ECANCELLED
                : length > LINK_MESSAGE_MAX ? HEARTH_ETOOLARGE
                                            : 0;
    if (error) {
        link_message_free(message);
        return error;
    }
    message_chunk_set(chunk_of(message), length);
    return send_chunk(call, chunk_of(message));
}

bool link_answers_sent(const struct link *link)
{
    list_for_each(cursor, next, &link->calls)
    {
        const struct link_call *call = container_of(cursor, struct link_call, siblings);
        if (call->local_closed && call->queued)
            return false;
    }
    return true;
}

unsigned link_calls(const struct link *link)
{
    return link->call_count;
}

size_t link_call_queued(const struct link_call *call)
{
    return call->queued;
}

void link_call_finish(struct link_call *call)
{
    if (!may_send(call))
        return;
    call->local_closed = true;
    link_enter(call->link);
    resume(call);
    link_leave_quietly(call->link, false);
}

void link_call_end(struct link_call *call, enum link_status status, const char *message)
{
    if (!may_send(call))
        return;
    struct link *link = call->link;
    link_enter(link);
    drop_input(call);
    call->status = status;
    keep_message(call, message);
    call->local_closed = true;
    if (call->headers_sent)
        resume(call);
    else
        submit_trailers_only(call, status, message);
    link_leave_quietly(link, true);
}

void link_call_reply(struct link_call *call, const ProtobufCMessage *message)
{
    struct link *link = call->link;
    link_enter(link);
    int error = link_call_send(call, message);
    if (error == HEARTH_ETOOLARGE)
        link_call_end(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the answer is too large");
    else
        link_call_end(call, error ? LINK_STATUS_INTERNAL : LINK_STATUS_OK, NULL);
    link_leave_quietly(link, true);
}

void link_call_cancel(struct link_call *call)
{
    struct link *link = call->link;
    if (call->ended)
        return;
    link_enter(link);
    call_end_now(call, LINK_STATUS_CANCELLED, "cancelled");
    link_leave_quietly(link, true);
}

void link_call_pause(struct link_call *call, bool paused)
{
    if (call->ended || call->paused == paused)
        return;
    call->paused = paused;
    if (paused)
        return;
    struct link *link = call->link;
    link_enter(link);
    call_make_ready(call);
    link_leave_quietly(link, false);
}

struct link *link_call_link(struct link_call *call)
{
    return call->link;
}
