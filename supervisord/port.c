#include "supervisord/port_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 512
#define ACCEPTS_PER_TURN 64
#define LISTEN_AGAIN_US US_PER_S
#define ACCEPT_AGAIN_US (100 * US_PER_MS)

struct port {
    struct published *published;
    int fd; /* -1: it cannot be had yet */
    struct watch watch;
    bool watched;
};

struct published {
    struct workspace *workspace;
    size_t count;
    struct port_pair pairs[SERVICE_PORTS_MAX];
    struct port ports[SERVICE_PORTS_MAX];
    struct timer again;
    struct list connections; // connection::link
};

/* One that a client made; its bytes are the dial's. */
struct connection {
    struct list link; // published::connections
    struct published *published;
    struct port_dial *dial;
};

/* Connections. */

static void connection_free(struct connection *connection)
{
    struct workspace *workspace = connection->published->workspace;
    list_remove(&connection->link);
    workspace->port_connections--;
    workspace->used_us = clock_boot_us();
    free(connection);
}

static void on_end(void *arg, enum link_status status, const char *message)
{
    if (status != LINK_STATUS_OK)
        log_debug("port_connection_ended", "status=%d", (int)status);
    (void)message;
    connection_free(arg);
}

static const struct forward_events dial_events = {.on_end = on_end};

static void serve(struct port *port, int fd)
{
    struct published *published = port->published;
    struct workspace *workspace = published->workspace;
    struct hearth_failure failure;
    if (port_connection_begin(workspace, &failure)) {
        socket_reset(fd); /* so the client hears of it as it would from a host */
        return;
    }
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        abort();
    connection->published = published;
    list_init(&connection->link);
    list_append(&published->connections, &connection->link);
    connection->dial =
        port_dial(workspace->sandbox, fd, published->pairs[port - published->ports].guest_port,
                  &dial_events, connection);
}

static bool link_is_up(const struct published *published)
{
    const struct sandbox *sandbox = published->workspace->sandbox;
    return sandbox && sandbox->link.state == AGENTLINK_UP;
}

static void pause_port(struct port *port)
{
    if (port->watched)
        watch_free(&port->watch);
    port->watched = false;
}

static void woken(void *arg)
{
    (void)arg; /* ports_link_up has been told, or the ports are closed with their service */
}

static void on_connection(void *arg)
{
    struct port *port = arg;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (!link_is_up(port->published)) {
            pause_port(port); /* who comes waits in the backlog for ports_link_up */
            (void)workspace_wake(port->published->workspace, true, woken, NULL);
            return;
        }
        int fd = accept4(port->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            serve(port, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_port(port);
            timer_set(&port->published->again, clock_monotonic_us() + ACCEPT_AGAIN_US);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        }
    }
}

static void watch_port(struct port *port)
{
    if (port->fd >= 0 && !port->watched)
        port->watched = watch_init(&port->watch, port->published->workspace->supervisor->loop,
                                   port->fd, on_connection, port) == 0;
}

/* Listening. */

static int try_listen(struct port *port)
{
    struct port_pair *pair = &port->published->pairs[port - port->published->ports];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(pair->host_port)};
    socklen_t size = sizeof address;
    const int on = 1;
    inet_pton(AF_INET, PORT_HOST, &address.sin_addr);
    auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* What lingers of connections that were is no reason to refuse; a listener of another is. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return errno;
    pair->host_port = ntohs(address.sin_port);
    port->fd = steal_fd(&fd);
    watch_port(port);
    return 0;
}

static void listen_again(void *arg)
{
    struct published *published = arg;
    bool missing = false;
    timer_unset(&published->again);
    for (size_t i = 0; i < published->count; i++) {
        struct port *port = &published->ports[i];
        if (port->fd < 0 && try_listen(port))
            missing = true;
        watch_port(port);
    }
    if (missing)
        timer_set(&published->again, clock_monotonic_us() + LISTEN_AGAIN_US);
}

static int cannot_listen(const struct published *published, size_t index, int errno_value,
                         struct hearth_failure *failure)
{
    char field[64];
    int error =
        errno_value == EADDRINUSE || errno_value == EACCES
            ? hearth_fail(failure, HEARTH_ECONFLICT, "port_taken", "port %u of the host is in use",
                          published->pairs[index].host_port)
            : hearth_fail_errno(failure, errno_value, "port_unavailable",
                                "cannot listen on port %u of the host",
                                published->pairs[index].host_port);
    snprintf(field, sizeof field, "/published_ports/%zu/host_port", index);
    hearth_failure_field(failure, field);
    hearth_failure_hint(failure, "Take another, or leave host_port out: a free one is found then.");
    return error;
}

static int check(const struct workspace *workspace, const struct port_pair *ports, size_t count,
                 struct hearth_failure *failure)
{
    if (workspace->network != NETWORK_PUBLISHED_PORTS &&
        workspace->network != NETWORK_EGRESS_AND_PUBLISHED_PORTS) {
        int error = hearth_fail(failure, HEARTH_EINVALID, "ports_not_allowed",
                                "the workspace's network policy publishes no ports");
        hearth_failure_field(failure, "/published_ports");
        hearth_failure_hint(failure,
                            "Create a workspace with network_policy published-ports, or reach the "
                            "port at /v1/workspaces/{workspace_id}/ports/{port}/.");
        return error;
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (ports[i].guest_port == ports[j].guest_port ||
                (ports[i].host_port && ports[i].host_port == ports[j].host_port)) {
                char field[64];
                int error =
                    hearth_fail(failure, HEARTH_EINVALID, "bad_ports", "a port is published once");
                snprintf(field, sizeof field, "/published_ports/%zu", i);
                hearth_failure_field(failure, field);
                return error;
            }
    return 0;
}

int ports_publish(struct published **ret_published, struct workspace *workspace,
                  const struct port_pair *ports, size_t count, bool resumed,
                  struct hearth_failure *failure)
{
    int error = check(workspace, ports, count, failure);
    if (error)
        return error;
    struct published *published = calloc(1, sizeof *published);
    if (!published)
        abort();
    published->workspace = workspace;
    published->count = count;
    list_init(&published->connections);
    timer_init(&published->again, workspace->supervisor->loop, listen_again, published);
    for (size_t i = 0; i < count; i++) {
        published->ports[i] = (struct port){.published = published, .fd = -1};
        published->pairs[i] = ports[i];
    }
    for (size_t i = 0; i < count; i++) {
        int errno_value = try_listen(&published->ports[i]);
        if (!errno_value)
            continue;
        if (!resumed) {
            error = cannot_listen(published, i, errno_value, failure);
            ports_close(published);
            return error;
        }
        log_warning("port_not_back", "workspace=%s port=%u detail=\"%s\"", workspace->workspace_id,
                    ports[i].host_port, strerror(errno_value));
        timer_set(&published->again, clock_monotonic_us() + LISTEN_AGAIN_US);
    }
    *ret_published = published;
    return 0;
}

void ports_close(struct published *published)
{
    if (!published)
        return;
    for (size_t i = 0; i < published->count; i++) {
        pause_port(&published->ports[i]);
        if (published->ports[i].fd >= 0)
            close(published->ports[i].fd);
    }
    list_for_each(cursor, next, &published->connections)
    {
        struct connection *connection = container_of(cursor, struct connection, link);
        port_dial_free(connection->dial);
        connection_free(connection);
    }
    timer_free(&published->again);
    free(published);
}

const struct port_pair *ports_list(const struct published *published, size_t *ret_count)
{
    *ret_count = published ? published->count : 0;
    return published ? published->pairs : NULL;
}

void ports_link_up(struct published *published)
{
    for (size_t i = 0; published && i < published->count; i++)
        watch_port(&published->ports[i]);
}

void ports_write(const struct published *published, char text[PORTS_TEXT_SIZE])
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; published && i < published->count; i++)
        used += (size_t)snprintf(text + used, PORTS_TEXT_SIZE - used, "%s%u:%u", i ? " " : "",
                                 published->pairs[i].guest_port, published->pairs[i].host_port);
}

size_t ports_parse(const char *text, struct port_pair ports[SERVICE_PORTS_MAX])
{
    size_t count = 0;
    for (int used; count < SERVICE_PORTS_MAX; text += used, count++)
        if (sscanf(text, "%hu:%hu%n", &ports[count].guest_port, &ports[count].host_port, &used) < 2)
            break;
    return count;
}
