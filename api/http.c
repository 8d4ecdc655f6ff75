#include "api/http_internal.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_US (250 * US_PER_MS)
#define DEFAULT_CONNECTIONS 1024
#define DEFAULT_HEAD_TIMEOUT_MS 10000
#define DEFAULT_BODY_TIMEOUT_MS 30000
#define DEFAULT_REQUEST_TIMEOUT_MS 120000

/* The only place that turns libmicrohttpd. True where it has more to do. */
static bool run_once(struct http_server *server)
{
    if (server->awaited)
        http_connection_check_peers(server);
    server->running = true;
    server->run_again = false;
    MHD_run(server->daemon);
    server->running = false;
    MHD_UNSIGNED_LONG_LONG wait_ms;
    return server->run_again ||
           (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES && wait_ms == 0);
}

static void run(void *arg)
{
    struct http_server *server = arg;
    if (server->running) {
        server->run_again = true;
        return;
    }
    /* Again at once only where large bodies move, which come in small pieces: other parts of the
     * daemon have their turn in between. */
    size_t moved;
    bool more;
    server->moved = 0;
    do {
        moved = server->moved;
        more = run_once(server);
    } while (more && server->moved - moved >= HTTP_POOL_SIZE / 4 && server->moved < HTTP_TURN_MAX);
    http_request_give_bodies(server);
    if (more)
        timer_set(&server->again, clock_monotonic_us());
}

static void run_deferred(void *arg)
{
    struct http_server *server = arg;
    server->run_scheduled = false;
    if (server->freed) {
        free(server);
        return;
    }
    run(server);
}

void http_server_schedule_run(struct http_server *server)
{
    if (server->running) {
        server->run_again = true;
    } else if (!server->run_scheduled) {
        server->run_scheduled = true;
        loop_defer(server->loop, run_deferred, server);
    }
}

/* Ends what is under way on a connection. */
static void end_connection(struct http_connection *connection)
{
    if (connection->phase == HTTP_PHASE_UPGRADED)
        http_upgrade_drain(connection->request);
    else
        http_connection_cut(connection);
}

/* What a token asked for while it worked, and is not done when it has expired. */
static void end_expired(struct http_server *server)
{
    int64_t now = clock_wall_us();
    list_for_each(cursor, following, &server->connections)
    {
        struct http_connection *connection = container_of(cursor, struct http_connection, link);
        const struct http_request *request = connection->request;
        if (request && request->identified && request->principal.expires_at &&
            request->principal.expires_at <= now && !connection->ended) {
            connection->ended = true;
            end_connection(connection);
        }
    }
}

/* libmicrohttpd 0.9.75 can leave a connection with data unserved until it is run again; and room
 * that another part of the process made for descriptors is announced by nobody. */
static void on_tick(void *arg)
{
    struct http_server *server = arg;
    end_expired(server);
    run(server);
    http_server_check_accept(server);
    http_server_keep_ticking(server);
}

void http_server_keep_ticking(struct http_server *server)
{
    if (timer_pending(&server->tick) ||
        (list_empty(&server->connections) && !server->accept_paused))
        return;
    timer_set(&server->tick, clock_monotonic_us() + TICK_US);
}

void http_server_check_accept(struct http_server *server)
{
    if (server->accept_paused && !server->draining)
        http_listen_pause(server, false);
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = arg;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = server->accepting;
        server->accepting->mhd = mhd;
    } else {
        if (server->accepting == *context)
            server->accepting = NULL;
        http_connection_free(*context);
    }
}

static void on_library_log(void *arg, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
static void on_library_log(void *arg, const char *format, va_list arguments)
{
    (void)arg;
    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    char text[256], quoted[300];
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = '\0';
    log_debug("http_library", "text=%s", log_quote(quoted, sizeof quoted, text));
}

/* Requests are routed on what was sent: no decoding but ours. */
static size_t keep_escapes(void *arg, struct MHD_Connection *mhd, char *text)
{
    (void)arg;
    (void)mhd;
    return strlen(text);
}

static int start_library(struct http_server *server, struct hearth_failure *failure)
{
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_NO_LISTEN_SOCKET |
            MHD_USE_ERROR_LOG,
        0, NULL, NULL, http_request_on_access, server, MHD_OPTION_EXTERNAL_LOGGER, on_library_log,
        NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_NOTIFY_COMPLETED,
        http_request_on_completed, server, MHD_OPTION_URI_LOG_CALLBACK, http_request_on_uri, server,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HTTP_POOL_SIZE, MHD_OPTION_CONNECTION_LIMIT, ~0U, MHD_OPTION_CONNECTION_TIMEOUT, 0U,
        MHD_OPTION_END);
    const union MHD_DaemonInfo *info =
        server->daemon ? MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info || watch_init(&server->daemon_watch, server->loop, info->epoll_fd, run, server) < 0)
        return hearth_fail(failure, HEARTH_EINTERNAL, NULL, "cannot start libmicrohttpd");
    return 0;
}

static int64_t timeout_us(uint32_t milliseconds, uint32_t otherwise)
{
    return (milliseconds ? milliseconds : otherwise) * US_PER_MS;
}

int http_server_new(struct http_server **ret_server, const struct http_config *config,
                    const struct http_handler *handler, void *arg, struct hearth_failure *failure)
{
    struct http_server *server = calloc(1, sizeof *server);
    if (!server)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "cannot allocate the HTTP server");
    server->loop = supervisor_loop(config->supervisor);
    server->supervisor = config->supervisor;
    server->handler = handler;
    server->handler_arg = arg;
    server->reserve_fd = server->peer_epoll = -1;
    server->max_connections =
        config->max_connections ? config->max_connections : DEFAULT_CONNECTIONS;
    server->max_connections_per_token = config->max_connections_per_token
                                            ? config->max_connections_per_token
                                            : server->max_connections;
    server->head_timeout_us = timeout_us(config->head_timeout_ms, DEFAULT_HEAD_TIMEOUT_MS);
    server->body_timeout_us = timeout_us(config->body_timeout_ms, DEFAULT_BODY_TIMEOUT_MS);
    server->request_timeout_us = timeout_us(config->request_timeout_ms, DEFAULT_REQUEST_TIMEOUT_MS);
    server->allowed_hosts = text_copy(config->allowed_hosts);
    server->allowed_origins = text_copy(config->allowed_origins);
    list_init(&server->connections);
    list_init(&server->bodies);
    memcpy(server->id_prefix, "rq_", 3);
    id_random_text(server->id_prefix + 3, 7);
    timer_init(&server->again, server->loop, run, server);
    timer_init(&server->tick, server->loop, on_tick, server);
    timer_init(&server->drain_timer, server->loop, NULL, server);

    int error = start_library(server, failure);
    if (!error)
        error = http_connection_watch_peers(server, failure);
    if (!error)
        error = http_listen_open(server, config, failure);
    if (error) {
        http_server_free(server);
        return error;
    }
    http_server_keep_ticking(server);
    *ret_server = server;
    return 0;
}

const char *http_server_url(const struct http_server *server)
{
    return server->url[0] ? server->url : NULL;
}

static void finish_drain(void *arg)
{
    struct http_server *server = arg;
    timer_unset(&server->drain_timer);
    void (*drained)(void *arg) = server->drained;
    server->drained = NULL;
    if (drained)
        drained(server->drained_arg);
}

static void drain_late(void *arg)
{
    struct http_server *server = arg;
    server->cuts_late = true;
    list_for_each(cursor, following, &server->connections)
    {
        http_connection_cut(container_of(cursor, struct http_connection, link));
    }
    finish_drain(server);
}

bool http_server_cuts_late(const struct http_server *server)
{
    return server->cuts_late;
}

void http_server_check_drained(struct http_server *server)
{
    if (server->drained && list_empty(&server->connections)) {
        /* Not from within libmicrohttpd: the caller may free the server in done. */
        server->drain_timer.fn = finish_drain;
        timer_set(&server->drain_timer, clock_monotonic_us());
    }
}

void http_server_drain(struct http_server *server, unsigned timeout_ms, void (*done)(void *arg),
                       void *arg)
{
    server->draining = true;
    server->drained = done;
    server->drained_arg = arg;
    http_listen_close(server);
    list_for_each(cursor, following, &server->connections)
    {
        struct http_connection *connection = container_of(cursor, struct http_connection, link);
        if (!connection->request)
            http_connection_cut(connection);
        else
            http_upgrade_drain(connection->request);
    }
    server->drain_timer.fn = drain_late;
    timer_set(&server->drain_timer, clock_monotonic_us() + timeout_ms * US_PER_MS);
    http_server_check_drained(server);
}

void http_server_cut_token(struct http_server *server, const char *token_id,
                           const struct http_request *except)
{
    list_for_each(cursor, following, &server->connections)
    {
        struct http_connection *connection = container_of(cursor, struct http_connection, link);
        struct http_request *request = connection->request;
        if (!request || request == except || !request->identified ||
            strcmp(request->principal.token_id, token_id) != 0)
            continue;
        end_connection(connection);
    }
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    server->drained = NULL;
    http_listen_close(server);
    list_for_each(cursor, following, &server->connections)
    {
        struct http_connection *connection = container_of(cursor, struct http_connection, link);
        if (connection->request)
            http_upgrade_drain(connection->request);
        http_connection_cut(connection);
    }
    watch_free(&server->daemon_watch);
    if (server->daemon) {
        server->running = true;
        MHD_run(server->daemon); /* lets what was suspended end: the library insists on it */
        MHD_stop_daemon(server->daemon);
    }
    watch_free(&server->peer_watch);
    if (server->peer_epoll >= 0)
        close(server->peer_epoll);
    if (server->reserve_fd >= 0)
        close(server->reserve_fd);
    timer_free(&server->again);
    timer_free(&server->tick);
    timer_free(&server->drain_timer);
    map_free(&server->buckets);
    free(server->allowed_hosts);
    free(server->allowed_origins);
    if (server->run_scheduled)
        server->freed = true;
    else
        free(server);
}

void http_server_get_stats(const struct http_server *server, struct http_stats *ret_stats)
{
    *ret_stats = server->stats;
}
