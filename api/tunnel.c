#include "api/tunnel.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>

#define HIGH_WATER ((size_t)256 << 10)
#define LOW_WATER ((size_t)64 << 10)

struct side {
    struct tunnel *tunnel;
    struct bufferevent *events;
    bool ended;    /* it sends no more */
    bool finished; /* and was told that nothing more comes to it */
};

struct tunnel {
    struct event_base *base;
    struct http_request *request;
    struct side client, guest;
};

static void cut(struct tunnel *tunnel)
{
    bufferevent_free(tunnel->client.events);
    bufferevent_free(tunnel->guest.events);
    http_upgrade_close(tunnel->request);
    free(tunnel);
}

static struct side *other(struct side *side)
{
    struct tunnel *tunnel = side->tunnel;
    return side == &tunnel->client ? &tunnel->guest : &tunnel->client;
}

/* False: the tunnel has ended. */
static bool pass_end(struct side *to)
{
    struct tunnel *tunnel = to->tunnel;
    if (!other(to)->ended || to->finished ||
        evbuffer_get_length(bufferevent_get_output(to->events)))
        return true;
    shutdown(bufferevent_getfd(to->events), SHUT_WR);
    to->finished = true;
    if (!other(to)->finished)
        return true;
    cut(tunnel);
    return false;
}

static void on_read(struct bufferevent *events, void *arg)
{
    struct side *from = arg, *to = other(from);
    bufferevent_write_buffer(to->events, bufferevent_get_input(events));
    if (evbuffer_get_length(bufferevent_get_output(to->events)) >= HIGH_WATER)
        bufferevent_disable(events, EV_READ);
}

static void on_write(struct bufferevent *events, void *arg)
{
    struct side *to = arg, *from = other(to);
    (void)events;
    if (pass_end(to) && !from->ended)
        bufferevent_enable(from->events, EV_READ);
}

static void on_event(struct bufferevent *events, short what, void *arg)
{
    struct side *from = arg;
    (void)events;
    if (!(what & BEV_EVENT_EOF)) {
        cut(from->tunnel);
        return;
    }
    from->ended = true;
    pass_end(other(from));
}

static void attach(struct tunnel *tunnel, struct side *side, struct bufferevent *events)
{
    *side = (struct side){.tunnel = tunnel, .events = events};
    bufferevent_setcb(events, on_read, on_write, on_event, side);
    bufferevent_setwatermark(events, EV_READ, 0, HIGH_WATER);
    bufferevent_setwatermark(events, EV_WRITE, LOW_WATER, 0);
    bufferevent_enable(events, EV_READ | EV_WRITE);
}

static void on_taken(void *arg, int fd, const void *extra, size_t length)
{
    struct tunnel *tunnel = arg;
    struct bufferevent *guest = tunnel->guest.events;
    struct bufferevent *client = fd >= 0 ? bufferevent_socket_new(tunnel->base, fd, 0) : NULL;
    if (!client) {
        bufferevent_free(guest);
        if (fd >= 0)
            http_upgrade_close(tunnel->request);
        free(tunnel);
        return;
    }
    attach(tunnel, &tunnel->client, client);
    attach(tunnel, &tunnel->guest, guest);
    if (length)
        bufferevent_write(guest, extra, length);
    bufferevent_write_buffer(client, bufferevent_get_input(guest));
}

static void on_drain(void *arg)
{
    cut(arg);
}

static const struct http_upgrade_events upgrade_events = {.on_taken = on_taken,
                                                          .on_drain = on_drain};

void tunnel_begin(struct event_base *base, struct http_request *request, struct bufferevent *guest)
{
    struct tunnel *tunnel = calloc(1, sizeof *tunnel);
    if (!tunnel)
        abort();
    tunnel->base = base;
    tunnel->request = request;
    tunnel->guest.events = guest;
    bufferevent_disable(guest, EV_READ);
    bufferevent_setcb(guest, NULL, NULL, NULL, NULL);
    http_upgrade(request, &upgrade_events, tunnel);
}
