#include "api/http_internal.h"

#include "base/failure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEER_EVENTS_PER_TURN 64

bool http_bucket_enter(struct http_server *server, struct http_bucket **bucket, const char *key)
{
    if (*bucket && !strcmp((*bucket)->key, key))
        return true;
    http_bucket_leave(server, bucket);
    struct map_entry *entry = map_find(&server->buckets, key);
    struct http_bucket *found = entry ? container_of(entry, struct http_bucket, entry) : NULL;
    if (!found) {
        found = calloc(1, sizeof *found);
        if (!found)
            return false;
        snprintf(found->key, sizeof found->key, "%s", key);
        if (map_insert(&server->buckets, &found->entry, found->key) < 0) {
            free(found);
            return false;
        }
    }
    if (found->connections >= server->max_connections_per_token)
        return false;
    found->connections++;
    *bucket = found;
    return true;
}

void http_bucket_leave(struct http_server *server, struct http_bucket **bucket)
{
    struct http_bucket *left = *bucket;
    *bucket = NULL;
    if (!left || --left->connections)
        return;
    map_remove(&server->buckets, &left->entry);
    free(left);
}

/* The second set: libmicrohttpd does not look at a suspended connection, nor can it tell an idle
 * one from one that sends a head byte by byte. */
static void watch_peer(struct http_connection *connection, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    epoll_ctl(connection->server->peer_epoll, operation, connection->fd, &event);
}

static void await_byte(struct http_connection *connection, bool awaited)
{
    if (connection->awaited == awaited)
        return;
    connection->awaited = awaited;
    connection->server->awaited += awaited ? 1 : -1U;
    watch_peer(connection, EPOLL_CTL_MOD, EPOLLRDHUP | EPOLLET | (awaited ? EPOLLIN : 0));
}

static void on_peer(struct http_connection *connection, uint32_t events)
{
    if (events & EPOLLIN) {
        await_byte(connection, false);
        if (connection->phase == HTTP_PHASE_IDLE) {
            connection->phase = HTTP_PHASE_HEAD;
            http_connection_set_deadline(connection, clock_monotonic_us() +
                                                         connection->server->head_timeout_us);
        }
    }
    if (events & (EPOLLHUP | EPOLLERR))
        connection->peer_gone = true;
    if (events & EPOLLRDHUP)
        connection->peer_half_closed = true;
    if (connection->request && (connection->peer_gone || connection->peer_half_closed))
        http_request_peer_left(connection->request);
}

void http_connection_check_peers(struct http_server *server)
{
    struct epoll_event events[PEER_EVENTS_PER_TURN];
    int count = epoll_wait(server->peer_epoll, events, PEER_EVENTS_PER_TURN, 0);
    /* No connection is freed in between: that is done inside MHD_run alone. */
    for (int i = 0; i < count; i++)
        on_peer(events[i].data.ptr, events[i].events);
}

static void on_peers(void *arg)
{
    http_connection_check_peers(arg);
}

int http_connection_watch_peers(struct http_server *server, struct hearth_failure *failure)
{
    server->peer_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (server->peer_epoll < 0 ||
        watch_init(&server->peer_watch, server->loop, server->peer_epoll, on_peers, server) < 0)
        return hearth_fail_errno(failure, errno, NULL, "cannot watch for clients that leave");
    return 0;
}

static void on_deadline(void *arg)
{
    struct http_connection *connection = arg;
    struct http_server *server = connection->server;
    int64_t now = clock_monotonic_us();
    timer_unset(&connection->timer);
    if (connection->deadline_us > now) {
        timer_set(&connection->timer, connection->deadline_us);
        return;
    }
    connection->deadline_us = CLOCK_NEVER;
    if (connection->phase == HTTP_PHASE_IDLE && now < connection->idle_until_us) {
        /* Quiet for as long as a head may take: from the next byte on it is a head. */
        await_byte(connection, true);
        http_connection_set_deadline(connection, connection->idle_until_us);
    } else if (connection->phase == HTTP_PHASE_HEAD) {
        struct hearth_failure failure;
        hearth_fail(&failure, HEARTH_ETIMEDOUT, "request_timeout",
                    "the request's head did not come within %lld ms",
                    (long long)(server->head_timeout_us / US_PER_MS));
        http_reply_raw_problem(connection, connection->request, &failure);
        http_connection_cut(connection);
    } else if (connection->phase == HTTP_PHASE_REQUEST && connection->request) {
        http_request_expired(connection->request);
    } else {
        http_connection_cut(connection);
    }
}

struct http_connection *http_connection_new(struct http_listener *listener, int fd, uid_t uid)
{
    struct http_server *server = listener->server;
    struct http_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    connection->server = server;
    connection->fd = fd;
    connection->local = listener->local;
    connection->port = listener->port;
    connection->uid = uid;
    connection->deadline_us = CLOCK_NEVER;
    list_init(&connection->link);
    timer_init(&connection->timer, server->loop, on_deadline, connection);
    char key[sizeof connection->uid_bucket->key];
    snprintf(key, sizeof key, "uid %u", (unsigned)uid);
    if (listener->local && !http_bucket_enter(server, &connection->uid_bucket, key)) {
        free(connection);
        return NULL;
    }
    watch_peer(connection, EPOLL_CTL_ADD, EPOLLRDHUP | EPOLLET);
    http_connection_set_deadline(connection, clock_monotonic_us() + server->head_timeout_us);
    list_append(&server->connections, &connection->link);
    server->stats.connections++;
    return connection;
}

void http_connection_free(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    http_bucket_leave(server, &connection->uid_bucket);
    http_bucket_leave(server, &connection->token_bucket);
    timer_free(&connection->timer);
    server->awaited -= connection->awaited;
    list_remove(&connection->link);
    server->stats.connections--;
    free(connection);
    http_server_check_accept(server);
    http_server_check_drained(server);
}

void http_connection_set_deadline(struct http_connection *connection, int64_t deadline_us)
{
    connection->deadline_us = deadline_us;
    if (deadline_us < connection->timer.deadline_us)
        timer_set(&connection->timer, deadline_us);
}

void http_connection_set_idle(struct http_connection *connection)
{
    int64_t now = clock_monotonic_us();
    connection->phase = HTTP_PHASE_IDLE;
    connection->idle_until_us = now + HTTP_KEEPALIVE_US;
    http_connection_set_deadline(connection, now + connection->server->head_timeout_us);
}

void http_connection_cut(struct http_connection *connection)
{
    struct http_request *request = connection->request;
    connection->phase = HTTP_PHASE_LINGER;
    if (request) {
        http_request_tell_gone(request);
        request->stage = HTTP_STAGE_DEAD;
        http_request_resume(request);
    }
    shutdown(connection->fd, SHUT_RDWR);
}
