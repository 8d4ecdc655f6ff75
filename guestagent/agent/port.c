/* Connections to ports of the guest's own loopback, for the host: PortDial. */
#include "guestagent/agent/agent.h"
#include "guestagent/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_S 10

/* One that is asked for or being made, and then what the forward tells its end to. */
struct dial {
    struct agent *agent;
    struct link_call *call; /* NULL: the forward has it */
    struct event *event;    /* while it is being made */
    int fd;
};

static void dial_free(struct dial *dial)
{
    if (dial->event)
        event_free(dial->event);
    if (dial->fd >= 0)
        close(dial->fd);
    dial->agent->dial_count--;
    free(dial);
}

static void on_forward_end(void *arg, enum link_status status, const char *message)
{
    (void)status;
    (void)message;
    dial_free(arg);
}

static const struct forward_events forward_events = {.on_end = on_forward_end};

static void refuse(struct link_call *call, int errno_value)
{
    if (errno_value == ECONNREFUSED)
        call_refuse(call, LINK_STATUS_FAILED_PRECONDITION, "nobody listens on this port");
    else if (errno_value == ETIMEDOUT)
        call_refuse(call, LINK_STATUS_DEADLINE_EXCEEDED, "the connection was not taken in time");
    else
        call_refuse_errno(call, errno_value, "cannot connect");
}

static void made(struct dial *dial)
{
    struct link_call *call = steal_pointer(dial->call);
    if (dial->event)
        event_free(steal_pointer(dial->event));
    if (forward_serve(call, dial->agent->base, steal_fd(&dial->fd), &forward_events, dial))
        return;
    dial->call = call;
    refuse(call, ENOMEM);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
    struct dial *dial = arg;
    int error = ETIMEDOUT;
    socklen_t size = sizeof error;
    if (!(what & EV_TIMEOUT) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error)
        refuse(dial->call, error);
    else
        made(dial);
}

static int dial_port(struct dial *dial, uint32_t port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval limit = {.tv_sec = CONNECT_S};
    dial->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd < 0)
        return errno;
    if (connect(dial->fd, (const struct sockaddr *)&address, sizeof address) == 0) {
        made(dial);
        return 0;
    }
    if (errno != EINPROGRESS)
        return errno;
    dial->event = event_new(dial->agent->base, dial->fd, EV_WRITE, on_connected, dial);
    return dial->event && event_add(dial->event, &limit) == 0 ? 0 : ENOMEM;
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct dial *dial = arg;
    Hearth__Agent__V1__PortDialItem *item =
        hearth__agent__v1__port_dial_item__unpack(NULL, length, data);
    uint32_t port = item ? item->port : 0;
    if (item)
        hearth__agent__v1__port_dial_item__free_unpacked(item, NULL);
    if (dial->fd >= 0 || port < 1 || port > 65535) {
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT,
                    "the first item names a port, and nothing follows before the answer");
        return;
    }
    int error = dial_port(dial, port);
    if (error)
        refuse(call, error);
}

static void on_half_closed(struct link_call *call, void *arg)
{
    (void)arg;
    call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "the call ended before its connection began");
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    (void)call;
    (void)status;
    (void)message;
    dial_free(arg);
}

static const struct link_call_events dial_events = {
    .on_message = on_message, .on_half_closed = on_half_closed, .on_end = on_end};

void port_accept_dial(struct agent *agent, struct link_call *call)
{
    struct dial *dial = agent->dial_count < AGENT_DIALS_MAX ? calloc(1, sizeof *dial) : NULL;
    if (!dial) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED,
                    "%u connections are open in this guest, as many as can be", agent->dial_count);
        return;
    }
    dial->agent = agent;
    dial->call = call;
    dial->fd = -1;
    agent->dial_count++;
    link_call_accept(call, &dial_events, dial);
}
