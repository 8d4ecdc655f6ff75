/* Connections that become another protocol's: libmicrohttpd sends the 101 and lets go of the
 * socket, which is the owner's until it says that it is done. */
#include "api/http_internal.h"

#include <fcntl.h>

static void on_upgraded(void *arg, struct MHD_Connection *mhd, void *context, const char *extra,
                        size_t length, MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
    struct http_request *request = arg;
    struct http_connection *connection = request->connection;
    (void)mhd;
    (void)context;
    request->upgrade.handle = handle;
    connection->phase = HTTP_PHASE_UPGRADED;
    http_connection_set_deadline(connection, CLOCK_NEVER);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    request->upgrade.events->on_taken(request->upgrade.arg, fd, extra, length);
}

void http_upgrade(struct http_request *request, const struct http_upgrade_events *events, void *arg)
{
    if (request->handler_done)
        return;
    request->handler_done = true;
    request->upgrade.events = events;
    request->upgrade.arg = arg;
    http_reply_take_response(request, MHD_HTTP_SWITCHING_PROTOCOLS, NULL,
                             MHD_create_response_for_upgrade(on_upgraded, request));
}

void http_upgrade_close(struct http_request *request)
{
    struct http_server *server = request->connection->server;
    request->upgrade.events = NULL;
    request->connection->phase = HTTP_PHASE_LINGER;
    MHD_upgrade_action(request->upgrade.handle, MHD_UPGRADE_ACTION_CLOSE);
    http_server_schedule_run(server);
}

void http_upgrade_gone(struct http_request *request)
{
    const struct http_upgrade_events *events = request->upgrade.events;
    request->upgrade.events = NULL;
    if (events && !request->upgrade.handle)
        events->on_taken(request->upgrade.arg, -1, NULL, 0);
}

void http_upgrade_drain(struct http_request *request)
{
    if (request->upgrade.events && request->upgrade.handle)
        request->upgrade.events->on_drain(request->upgrade.arg);
}
