#include "guestagent/forward.h"

#include "agent.pb-c.h"
#include "base/buf.h"
#include "base/socket.h"
#include "guestagent/unpack.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CREDIT_STEP (FORWARD_WINDOW / 4) /* what is given back at once */

struct forward {
    struct link_call *call; /* NULL: it has ended */
    const struct forward_events *events;
    void *arg;
    struct event *readable, *writable;
    int fd;
    bool server, open;
    size_t may_send;  /* bytes that the peer still takes */
    size_t may_come;  /* and that it may still send */
    size_t taken;     /* written to the socket and not yet given back as credit */
    struct buf queue; /* for the socket, from sent on */
    size_t sent;
    bool read_ended, peer_ended, write_ended;
};

static void close_socket(struct forward *forward, bool reset)
{
    if (forward->readable)
        event_free(steal_pointer(forward->readable));
    if (forward->writable)
        event_free(steal_pointer(forward->writable));
    if (forward->fd >= 0 && reset)
        socket_reset(steal_fd(&forward->fd));
    else if (forward->fd >= 0)
        close(steal_fd(&forward->fd));
}

static void free_parts(struct forward *forward, bool reset)
{
    close_socket(forward, reset);
    buf_free(&forward->queue);
    free(forward);
}

/* A call whose forward is gone. */
static void deaf_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    (void)call;
    (void)arg;
    (void)data;
    (void)length;
}

static void deaf_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    (void)call;
    (void)arg;
    (void)status;
    (void)message;
}

static const struct link_call_events deaf_events = {.on_message = deaf_message, .on_end = deaf_end};

/* The owner is told last: it may free what the forward belongs to. */
static void finish(struct forward *forward, enum link_status status, const char *message)
{
    const struct forward_events *events = forward->events;
    void *arg = forward->arg;
    char kept[128] = "";
    strncat(kept, message ? message : "", sizeof kept - 1);
    struct link_call *call = steal_pointer(forward->call);
    if (call)
        link_call_accept(call, &deaf_events, NULL);
    if (call && forward->server)
        link_call_end(call, status, kept);
    else if (call)
        link_call_cancel(call);
    free_parts(forward, status != LINK_STATUS_OK);
    events->on_end(arg, status, kept);
}

static bool send_item(struct forward *forward, Hearth__Agent__V1__PortDialItem *item)
{
    int error = forward->call ? link_call_send(forward->call, &item->base) : 0;
    /* A call that takes nothing has ended: what came before its end is told first. */
    if (!error || error == HEARTH_ECANCELLED)
        return true;
    finish(forward, LINK_STATUS_UNAVAILABLE, "the link takes no more");
    return false;
}

/* False: the forward has ended, and is gone. */
static bool settle(struct forward *forward)
{
    if (!forward->read_ended || !forward->write_ended)
        return true;
    /* The agent says the last word; until then the caller's end only waits. */
    if (forward->call && !forward->server)
        return true;
    finish(forward, LINK_STATUS_OK, NULL);
    return false;
}

/* What came from the socket; no bytes: its end. False: the forward is gone. */
static bool send_data(struct forward *forward, uint8_t *bytes, size_t length)
{
    Hearth__Agent__V1__PortDialItem item = HEARTH__AGENT__V1__PORT_DIAL_ITEM__INIT;
    item.data.data = bytes;
    item.data.len = length;
    item.end = length == 0;
    forward->may_send -= length;
    forward->read_ended = item.end;
    return send_item(forward, &item);
}

/* The other side of the socket is gone. What it said before it broke off is passed on still. */
static void socket_failed(struct forward *forward)
{
    uint8_t bytes[FORWARD_ITEM_MAX];
    ssize_t length = 1;
    while (length > 0 && forward->may_send && !forward->read_ended) {
        size_t most = forward->may_send < sizeof bytes ? forward->may_send : sizeof bytes;
        length = recv(forward->fd, bytes, most, MSG_DONTWAIT);
        if (length > 0 && !send_data(forward, bytes, (size_t)length))
            return;
    }
    finish(forward, LINK_STATUS_ABORTED, "the connection was reset");
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct forward *forward = arg;
    uint8_t bytes[FORWARD_ITEM_MAX];
    size_t most = forward->may_send < sizeof bytes ? forward->may_send : sizeof bytes;
    (void)what;
    if (most == 0) {
        event_del(forward->readable);
        return;
    }
    ssize_t length = recv(fd, bytes, most, 0);
    if (length < 0) {
        if (errno != EAGAIN && errno != EINTR)
            socket_failed(forward);
        return;
    }
    if (length == 0)
        event_del(forward->readable);
    if (send_data(forward, bytes, (size_t)length))
        settle(forward);
}

/* Gives back what the socket took. False: the forward is gone. */
static bool give_credit(struct forward *forward)
{
    if (forward->taken < CREDIT_STEP || !forward->call || forward->peer_ended)
        return true;
    Hearth__Agent__V1__PortDialItem item = HEARTH__AGENT__V1__PORT_DIAL_ITEM__INIT;
    item.credit = (uint32_t)forward->taken;
    forward->may_come += forward->taken;
    forward->taken = 0;
    return send_item(forward, &item);
}

/* All of the peer's bytes are in the socket: its end follows them. */
static void end_writing(struct forward *forward)
{
    if (!forward->peer_ended || forward->write_ended || forward->queue.length)
        return;
    shutdown(forward->fd, SHUT_WR);
    forward->write_ended = true;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct forward *forward = arg;
    (void)fd;
    (void)what;
    size_t left = forward->queue.length - forward->sent;
    ssize_t written = socket_write(forward->fd, forward->queue.data + forward->sent, left);
    if (written < 0) {
        socket_failed(forward);
        return;
    }
    forward->sent += (size_t)written;
    forward->taken += (size_t)written;
    if (forward->sent == forward->queue.length) {
        buf_free(&forward->queue);
        forward->sent = 0;
        event_del(forward->writable);
        end_writing(forward);
    }
    if (give_credit(forward))
        settle(forward);
}

/* Takes the peer's bytes: to the socket as far as it takes them, the rest is queued. */
static bool take_data(struct forward *forward, const uint8_t *data, size_t length)
{
    size_t done = 0;
    if (length > forward->may_come || forward->peer_ended) {
        finish(forward, LINK_STATUS_RESOURCE_EXHAUSTED, "more was sent than there is credit for");
        return false;
    }
    forward->may_come -= length;
    if (!forward->queue.length) {
        ssize_t written = socket_write(forward->fd, data, length);
        if (written < 0) {
            socket_failed(forward);
            return false;
        }
        done = (size_t)written;
        forward->taken += done;
    }
    if (done == length)
        return give_credit(forward);
    /* A slow reader may never have all of it: what it took does not stay. */
    if (forward->sent > forward->queue.length / 2) {
        buf_consume(&forward->queue, forward->sent);
        forward->sent = 0;
    }
    if (buf_append(&forward->queue, data + done, length - done)) {
        finish(forward, LINK_STATUS_RESOURCE_EXHAUSTED, "no memory for what came");
        return false;
    }
    event_add(forward->writable, NULL);
    return give_credit(forward);
}

static void begin(struct forward *forward)
{
    forward->open = true;
    forward->may_send = forward->may_come = FORWARD_WINDOW;
    event_add(forward->readable, NULL);
}

static bool take_credit(struct forward *forward, uint32_t credit)
{
    if (credit > FORWARD_WINDOW - forward->may_send) {
        finish(forward, LINK_STATUS_INVALID_ARGUMENT, "more credit was given than there can be");
        return false;
    }
    if (credit && !forward->may_send && !forward->read_ended)
        event_add(forward->readable, NULL);
    forward->may_send += credit;
    return true;
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct forward *forward = arg;
    (void)call;
    if (forward->fd < 0)
        return;
    Hearth__Agent__V1__PortDialItem *item =
        unpack_bounded(&hearth__agent__v1__port_dial_item__descriptor, length, data);
    if (!item) {
        finish(forward, LINK_STATUS_INVALID_ARGUMENT, "the item cannot be read");
        return;
    }
    if (!forward->open) {
        begin(forward);
        if (forward->events->on_open)
            forward->events->on_open(forward->arg);
    } else if (take_credit(forward, item->credit) &&
               (!item->data.len || take_data(forward, item->data.data, item->data.len)) &&
               item->end) {
        forward->peer_ended = true;
        end_writing(forward);
        settle(forward);
    }
    hearth__agent__v1__port_dial_item__free_unpacked(item, NULL);
}

static void on_half_closed(struct link_call *call, void *arg)
{
    struct forward *forward = arg;
    (void)call;
    if (!forward->server || forward->peer_ended)
        return;
    forward->peer_ended = true;
    end_writing(forward);
    settle(forward);
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    struct forward *forward = arg;
    (void)call;
    forward->call = NULL;
    /* What came before the end is still the reader's, however slow it is. */
    if (forward->peer_ended && !forward->write_ended && !forward->server) {
        forward->read_ended = true;
        event_del(forward->readable);
        return;
    }
    if (status == LINK_STATUS_OK && !(forward->read_ended && forward->write_ended))
        status = LINK_STATUS_ABORTED;
    finish(forward, forward->write_ended ? LINK_STATUS_OK : status, message);
}

static const struct link_call_events call_events = {
    .on_message = on_message, .on_half_closed = on_half_closed, .on_end = on_end};

static struct forward *forward_new(struct event_base *base, int fd,
                                   const struct forward_events *events, void *arg)
{
    const int on = 1;
    struct forward *forward = calloc(1, sizeof *forward);
    if (!forward) {
        close(fd);
        return NULL;
    }
    forward->fd = fd;
    forward->events = events;
    forward->arg = arg;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* where it is TCP */
    forward->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, forward);
    forward->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, forward);
    if (forward->readable && forward->writable)
        return forward;
    free_parts(forward, true);
    return NULL;
}

int forward_dial(struct forward **ret_forward, struct link *link, struct event_base *base, int fd,
                 unsigned port, const struct forward_events *events, void *arg,
                 struct hearth_failure *failure)
{
    Hearth__Agent__V1__PortDialItem item = HEARTH__AGENT__V1__PORT_DIAL_ITEM__INIT;
    struct forward *forward = forward_new(base, fd, events, arg);
    if (!forward)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    int error = link_call_start(&forward->call, link, AGENT_SERVICE "PortDial", 0, &call_events,
                                forward, failure);
    if (error) {
        free_parts(forward, true);
        return error;
    }
    item.port = port;
    if (link_call_send(forward->call, &item.base)) {
        forward_free(forward);
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    }
    *ret_forward = forward;
    return 0;
}

struct forward *forward_serve(struct link_call *call, struct event_base *base, int fd,
                              const struct forward_events *events, void *arg)
{
    const Hearth__Agent__V1__PortDialItem made = HEARTH__AGENT__V1__PORT_DIAL_ITEM__INIT;
    struct forward *forward = forward_new(base, fd, events, arg);
    if (!forward)
        return NULL;
    if (link_call_send(call, &made.base)) {
        free_parts(forward, true);
        return NULL;
    }
    forward->server = true;
    forward->call = call;
    link_call_accept(call, &call_events, forward);
    begin(forward);
    return forward;
}

static void nobody_asks(void *arg, enum link_status status, const char *message)
{
    (void)arg;
    (void)status;
    (void)message;
}

void forward_free(struct forward *forward)
{
    static const struct forward_events none = {.on_end = nobody_asks};
    if (!forward)
        return;
    forward->events = &none;
    finish(forward, LINK_STATUS_CANCELLED, NULL);
}
