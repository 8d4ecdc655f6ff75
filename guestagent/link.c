#include "base/clock.h"
#include "guestagent/link_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define READ_BUFFER ((size_t)128 << 10)
#define READS_PER_TURN 4 /* then the other links have theirs */

static void tell_ready(struct link *link)
{
    /* What a callback makes ready anew waits for the next round, so that the list's end comes. */
    struct list round;
    list_init(&round);
    if (!list_empty(&link->ready)) {
        list_insert(link->ready.next, &round);
        list_remove(&link->ready);
    }
    while (!list_empty(&round))
        h2_call_dispatch(container_of(round.next, struct link_call, ready));
}

static void take_down(struct link *link)
{
    link->down_told = true;
    while (!link->freed && !list_empty(&link->calls))
        call_end_now(container_of(link->calls.next, struct link_call, siblings),
                     LINK_STATUS_UNAVAILABLE, link->broken);
    if (link->freed)
        return;
    struct hearth_failure failure;
    if (link->broken_errno)
        hearth_fail(&failure, HEARTH_EUNAVAILABLE, "link_down", "%s: %s", link->broken,
                    strerror(link->broken_errno));
    else
        hearth_fail(&failure, HEARTH_EUNAVAILABLE, "link_down", "%s", link->broken);
    link->events->on_down(link, link->arg, &failure);
}

/* Tells and writes until both have nothing to do, or the other events should have a turn. */
static void settle(struct link *link)
{
    for (int round = 0; round < 3 && !link->freed; round++) {
        tell_ready(link);
        link_flush(link);
        if (list_empty(&link->ready))
            break;
    }
    if (link->freed || link->down_told)
        return;
    if (link->broken) {
        tell_ready(link);
        if (!link->freed)
            take_down(link);
    } else if (!list_empty(&link->ready)) {
        event_add(link->write_event, NULL);
    }
}

static void leave(struct link *link)
{
    if (--link->depth == 0 && link->freed)
        free(link);
}

void link_enter(struct link *link)
{
    link->depth++;
}

void link_leave(struct link *link)
{
    if (link->depth == 1)
        settle(link);
    leave(link);
}

void link_leave_quietly(struct link *link, bool flush)
{
    if (link->depth == 1 && !link->freed && !link->down_told) {
        if (flush)
            link_flush(link);
        if (!flush || link->broken || !list_empty(&link->ready))
            event_active(link->write_event, EV_WRITE, 0);
    }
    leave(link);
}

void link_break(struct link *link, const char *why, int errno_value)
{
    if (link->broken || link->freed)
        return;
    link->broken = why;
    link->broken_errno = errno_value;
    event_del(link->read_event);
    if (link->keepalive)
        event_del(link->keepalive);
    event_active(link->write_event, EV_WRITE, 0);
}

void link_check(struct link *link, int nghttp2_result)
{
    if (nghttp2_result >= 0)
        return;
    link_break(link, nghttp2_strerror(nghttp2_result),
               nghttp2_result == NGHTTP2_ERR_NOMEM ? ENOMEM : 0);
}

static void take_bytes(struct link *link, const uint8_t *data, size_t length)
{
    ssize_t taken = nghttp2_session_mem_recv(link->session, data, length);
    if (taken < 0)
        link_check(link, (int)taken);
    else if (link->going_away && list_empty(&link->calls))
        link_break(link, "the peer ended the session", 0);
}

static void keepalive_in(struct link *link, int64_t wait_us)
{
    if (wait_us < US_PER_MS)
        wait_us = US_PER_MS;
    const struct timeval wait = {.tv_sec = wait_us / US_PER_S, .tv_usec = wait_us % US_PER_S};
    event_add(link->keepalive, &wait);
}

/* The peer was heard: if a PING was out, the silence starts anew. */
static void note_life(struct link *link)
{
    link->received_us = clock_monotonic_us();
    if (!link->ping_sent)
        return;
    link->ping_sent = false;
    keepalive_in(link, link->keepalive_interval_ms * US_PER_MS);
}

/* As read(), but a device gives no more than a page at a time: its next ones are read too. */
static ssize_t read_buffer(const struct link *link, uint8_t buffer[READ_BUFFER])
{
    ssize_t length = read(link->fd, buffer, READ_BUFFER);
    if (link->is_socket || length <= 0)
        return length;
    ssize_t more = 1;
    while (more > 0 && length < (ssize_t)READ_BUFFER) {
        more = read(link->fd, buffer + length, READ_BUFFER - (size_t)length);
        length += more > 0 ? more : 0;
    }
    return length; /* what ended it, if anything did, is told again */
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;
    uint8_t buffer[READ_BUFFER];
    link_enter(link);
    for (int i = 0; i < READS_PER_TURN && !link->freed && !link->broken; i++) {
        ssize_t length = read_buffer(link, buffer);
        if (length < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
                link_break(link, "cannot read from the peer", errno);
            break;
        }
        if (length == 0) {
            link_break(link, "the peer closed the stream", 0);
            break;
        }
        note_life(link);
        take_bytes(link, buffer, (size_t)length);
        if ((size_t)length < sizeof buffer)
            break;
        tell_ready(link);
    }
    link_leave(link);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;
    link_enter(link);
    link_leave(link);
}

static void on_keepalive(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;
    int64_t interval = link->keepalive_interval_ms * US_PER_MS;
    int64_t timeout = link->keepalive_timeout_ms * US_PER_MS;
    int64_t silence = clock_monotonic_us() - link->received_us;
    link_enter(link);
    if (silence < interval) {
        keepalive_in(link, interval - silence);
    } else if (!link->ping_sent) {
        link_check(link, nghttp2_submit_ping(link->session, NGHTTP2_FLAG_NONE, NULL));
        link->ping_sent = true;
        keepalive_in(link, timeout);
    } else {
        link_break(link, "the peer does not answer", ETIMEDOUT);
    }
    link_leave(link);
}

void link_set_keepalive(struct link *link, unsigned interval_ms, unsigned timeout_ms)
{
    link->keepalive_interval_ms = interval_ms;
    link->keepalive_timeout_ms = timeout_ms;
    link->ping_sent = false;
    if (link->keepalive)
        event_del(link->keepalive);
    if (interval_ms == 0 || link->broken)
        return;
    if (!link->keepalive)
        link->keepalive = evtimer_new(link->base, on_keepalive, link);
    if (link->keepalive)
        keepalive_in(link, interval_ms * US_PER_MS);
    else
        link_break(link, "no memory for a timer", ENOMEM);
}

static int prepare_fd(struct link *link, struct hearth_failure *failure)
{
    struct stat status;
    int flags = fcntl(link->fd, F_GETFL);
    if (flags < 0 || fcntl(link->fd, F_SETFL, flags | O_NONBLOCK) || fstat(link->fd, &status))
        return hearth_fail_errno(failure, errno, "link_failed", "cannot use the link's stream");
    link->is_socket = S_ISSOCK(status.st_mode);
    if (link->is_socket) {
        /* Only TCP has this option, and only there does it matter. */
        int on = 1;
        setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return 0;
}

static int link_new(struct link **ret_link, struct event_base *base, int fd, bool is_server,
                    const struct link_events *events, void *arg, struct hearth_failure *failure)
{
    struct link *link = calloc(1, sizeof *link);
    if (!link) {
        close(fd);
        return hearth_fail_errno(failure, ENOMEM, "link_failed", "cannot make a link");
    }
    link->base = base;
    link->fd = fd;
    link->is_server = is_server;
    link->events = events;
    link->arg = arg;
    link->received_us = clock_monotonic_us();
    list_init(&link->calls);
    list_init(&link->ready);
    list_init(&link->spent);
    link->output = output_new();
    int error = link->output
                    ? prepare_fd(link, failure)
                    : hearth_fail_errno(failure, ENOMEM, "link_failed", "cannot make a link");
    if (!error) {
        link->read_event = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, link);
        link->write_event = event_new(base, fd, EV_WRITE, on_writable, link);
        if (!link->read_event || !link->write_event || link_session_new(link) ||
            event_add(link->read_event, NULL))
            error = hearth_fail_errno(failure, ENOMEM, "link_failed", "cannot make a link");
    }
    if (error) {
        link_free(link);
        return error;
    }
    event_active(link->write_event, EV_WRITE, 0);
    *ret_link = link;
    return 0;
}

int link_new_client(struct link **ret_link, struct event_base *base, int fd,
                    const struct link_events *events, void *arg, struct hearth_failure *failure)
{
    return link_new(ret_link, base, fd, false, events, arg, failure);
}

int link_new_server(struct link **ret_link, struct event_base *base, int fd,
                    const struct link_events *events, void *arg, struct hearth_failure *failure)
{
    return link_new(ret_link, base, fd, true, events, arg, failure);
}

static void free_event(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

void link_free(struct link *link)
{
    if (!link || link->freed)
        return;
    link_enter(link);
    link->freed = true;
    while (!list_empty(&link->calls))
        call_end_now(container_of(link->calls.next, struct link_call, siblings),
                     LINK_STATUS_CANCELLED, "the link was closed");
    free_event(&link->read_event);
    free_event(&link->write_event);
    free_event(&link->keepalive);
    nghttp2_session_del(link->session);
    link->session = NULL;
    chunk_list_free(&link->spent);
    output_free(steal_pointer(link->output));
    close(link->fd);
    link->fd = -1;
    leave(link);
}
