/* Listeners and accept. The accept is ours, not libmicrohttpd's: it knows the peer's uid, answers
 * where a cap is reached, and recovers when descriptors ran out (the library's own stays deaf). */
#include "api/http_internal.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define ACCEPTS_PER_TURN 64
#define SOCKET_MODE 0660

static int open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void refuse(struct http_server *server, int fd, enum hearth_error error, const char *code,
                   const char *detail)
{
    struct hearth_failure failure;
    hearth_fail(&failure, error, code, "%s", detail);
    server->stats.refused++;
    http_reply_refuse(fd, &failure);
}

static void serve(struct http_listener *listener, int fd)
{
    struct http_server *server = listener->server;
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t length = sizeof peer;
    if (listener->local && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) {
        close(fd);
        return;
    }
    server->stats.connections_total++;
    if (server->stats.connections >= server->max_connections) {
        refuse(server, fd, HEARTH_EUNAVAILABLE, "too_many_connections",
               "the daemon has as many connections as it takes");
        return;
    }
    struct http_connection *connection = http_connection_new(listener, fd, peer.uid);
    if (!connection) {
        refuse(server, fd, HEARTH_EQUOTA, "too_many_connections",
               "this user has as many connections as it may have");
        return;
    }
    /* The address is the library's to keep, not to use. */
    struct sockaddr address = {.sa_family = AF_UNIX};
    server->accepting = connection;
    /* Closes fd where it fails; on_connection then clears accepting if it had been told. */
    if (MHD_add_connection(server->daemon, fd, &address, sizeof address) != MHD_YES &&
        server->accepting)
        http_connection_free(connection);
    server->accepting = NULL;
}

/* With no descriptor left a client would wait without a word: the reserve is given up for as long
 * as it takes to refuse one. */
static bool refuse_without_descriptors(struct http_listener *listener)
{
    struct http_server *server = listener->server;
    if (server->reserve_fd < 0)
        return false;
    close(steal_fd(&server->reserve_fd));
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        refuse(server, fd, HEARTH_EUNAVAILABLE, "too_many_connections",
               "the daemon has no file descriptors left");
    server->reserve_fd = open_reserve();
    return fd >= 0 && server->reserve_fd >= 0;
}

static void on_readable(void *arg)
{
    struct http_listener *listener = arg;
    struct http_server *server = listener->server;
    if (server->reserve_fd < 0)
        server->reserve_fd = open_reserve();
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            serve(listener, fd);
            continue;
        }
        if (errno == EAGAIN)
            break;
        if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO)
            continue;
        if ((errno == EMFILE || errno == ENFILE) && refuse_without_descriptors(listener))
            continue;
        log_warning("http_accept_paused", "reason=\"%s\"", strerror(errno));
        http_listen_pause(server, true);
        break;
    }
    http_server_keep_ticking(server);
    http_server_schedule_run(server);
}

void http_listen_pause(struct http_server *server, bool paused)
{
    server->accept_paused = paused;
    for (size_t i = 0; i < server->listener_count; i++) {
        struct http_listener *listener = &server->listeners[i];
        if (paused && listener->active)
            watch_free(&listener->watch);
        if (!paused && !listener->active &&
            watch_init(&listener->watch, server->loop, listener->fd, on_readable, listener) < 0) {
            server->accept_paused = true;
            continue;
        }
        listener->active = !paused;
    }
}

int http_listener_add(struct http_server *server, int fd, bool local,
                      struct hearth_failure *failure)
{
    if (server->listener_count == HTTP_LISTENERS_MAX) {
        close(fd);
        return hearth_fail(failure, HEARTH_EINVALID, NULL, "too many listening sockets");
    }
    struct http_listener *listener = &server->listeners[server->listener_count++];
    *listener = (struct http_listener){.server = server, .fd = fd, .local = local};
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return hearth_fail_errno(failure, errno, "listen_failed", "cannot read the listen address");
    if (local) {
        const char *path = ((const struct sockaddr_un *)&address)->sun_path;
        if (*path && !*server->url)
            snprintf(server->url, sizeof server->url, "unix://%.*s",
                     (int)(length - offsetof(struct sockaddr_un, sun_path)), path);
        return 0;
    }
    bool v6 = address.ss_family == AF_INET6;
    listener->port = ntohs(v6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                              : ((struct sockaddr_in *)&address)->sin_port);
    snprintf(server->url, sizeof server->url, "http://%s:%u", v6 ? "[::1]" : "127.0.0.1",
             listener->port);
    return 0;
}

/* The caller holds the lock of the state directory: whatever lies at path is a dead daemon's. */
static int listen_local(struct http_server *server, const char *path,
                        struct hearth_failure *failure)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        return hearth_fail(failure, HEARTH_EINVALID, "listen_failed",
                           "the socket's path is longer than %zu bytes: %s",
                           sizeof address.sun_path - 1, path);
    memcpy(address.sun_path, path, length);
    struct stat status;
    if (lstat(path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode))
            return hearth_fail(failure, HEARTH_ECONFLICT, "listen_failed",
                               "%s is in the way and is no socket", path);
        unlink(path);
    }
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* fchmod first: bind makes the name with the socket's mode, so it is never wider. */
    if (fd < 0 || fchmod(fd, SOCKET_MODE) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return hearth_fail_errno(failure, errno, "listen_failed", "cannot listen on %s", path);
    if (stat(path, &status) < 0 || chmod(path, SOCKET_MODE) < 0 || listen(fd, SOMAXCONN) < 0)
        return hearth_fail_errno(failure, errno, "listen_failed", "cannot listen on %s", path);
    server->socket_device = status.st_dev;
    server->socket_inode = status.st_ino;
    server->socket_path = text_copy(path);
    return http_listener_add(server, steal_fd(&fd), true, failure);
}

static int parse_address(const char *text, struct sockaddr_storage *ret_address,
                         socklen_t *ret_size, struct hearth_failure *failure)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!length || length >= sizeof host || end == colon + 1 || *end || colon[1] == '-' ||
        port > 65535)
        return hearth_fail(failure, HEARTH_EINVALID, "listen_failed",
                           "listen must be 127.0.0.1:PORT or [::1]:PORT");
    memcpy(host, text, length);
    host[length] = '\0';
    *ret_address = (struct sockaddr_storage){0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;
    if (!strcmp(host, "[::1]")) {
        *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                    .sin6_port = htons((uint16_t)port),
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        *ret_size = sizeof *v6;
        return 0;
    }
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    *ret_size = sizeof *v4;
    if (inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1", &v4->sin_addr) == 1 &&
        ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET)
        return 0;
    int error = hearth_fail(failure, HEARTH_EINVALID, "listen_failed",
                            "%s is not an address of the loopback interface", host);
    hearth_failure_hint(failure, "Put a TLS proxy in front to serve other machines.");
    return error;
}

static int listen_loopback(struct http_server *server, const char *text,
                           struct hearth_failure *failure)
{
    struct sockaddr_storage address;
    socklen_t size;
    int error = parse_address(text, &address, &size, failure);
    if (error)
        return error;
    static const int on = 1;
    auto_close int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, SOMAXCONN) < 0)
        return hearth_fail_errno(failure, errno, "listen_failed", "cannot listen on %s", text);
    return http_listener_add(server, steal_fd(&fd), false, failure);
}

int http_listen_open(struct http_server *server, const struct http_config *config,
                     struct hearth_failure *failure)
{
    int taken = http_activation_take(server, failure);
    if (taken < 0)
        return taken;
    bool have_local = false, have_tcp = false;
    for (size_t i = 0; i < server->listener_count; i++)
        *(server->listeners[i].local ? &have_local : &have_tcp) = true;
    int error = 0;
    if (!have_local && config->socket_path && config->socket_path[0])
        error = listen_local(server, config->socket_path, failure);
    if (!error && !have_tcp && config->listen && config->listen[0])
        error = listen_loopback(server, config->listen, failure);
    if (error)
        return error;
    server->reserve_fd = open_reserve();
    http_listen_pause(server, false);
    return 0;
}

void http_listen_close(struct http_server *server)
{
    http_listen_pause(server, true);
    for (size_t i = 0; i < server->listener_count; i++)
        close(server->listeners[i].fd);
    server->listener_count = 0;
    struct stat status;
    if (server->socket_path && lstat(server->socket_path, &status) == 0 &&
        status.st_dev == server->socket_device && status.st_ino == server->socket_inode)
        unlink(server->socket_path);
    free(server->socket_path);
    server->socket_path = NULL;
}
