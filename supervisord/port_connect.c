#include "supervisord/port_internal.h"

#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* One connection from the first wish to its end: the caller has the other half of a socket pair. */
struct connecting {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE];
    unsigned port;
    int fd; /* the caller's half, until it is given */
    struct hearth_failure failure;
    port_connected done; /* NULL: told */
    void *arg;
};

int port_connection_begin(struct workspace *workspace, struct hearth_failure *failure)
{
    if (workspace->port_connections < PORT_CONNECTIONS_MAX) {
        workspace->port_connections++;
        return 0;
    }
    int error =
        hearth_fail(failure, HEARTH_EQUOTA, "too_many_port_connections",
                    "%d connections to the workspace's ports are open", PORT_CONNECTIONS_MAX);
    hearth_failure_hint(failure, "Close some that are not used.");
    return error;
}

void port_connection_end(struct supervisor *supervisor, const char *workspace_id)
{
    struct workspace *workspace = supervisor_workspace(supervisor, workspace_id);
    if (workspace) {
        workspace->port_connections--;
        workspace->used_us = clock_boot_us();
    }
}

static void tell(struct connecting *connecting, int error)
{
    port_connected done = steal_pointer(connecting->done);
    if (done)
        done(connecting->arg, error, error ? &connecting->failure : NULL,
             error ? -1 : steal_fd(&connecting->fd));
}

static void on_open(void *arg)
{
    tell(arg, 0);
}

static void end(struct connecting *connecting)
{
    if (connecting->fd >= 0)
        close(connecting->fd);
    port_connection_end(connecting->supervisor, connecting->workspace_id);
    free(connecting);
}

static void on_end(void *arg, enum link_status status, const char *message)
{
    struct connecting *connecting = arg;
    struct hearth_failure *failure = &connecting->failure;
    if (status == LINK_STATUS_FAILED_PRECONDITION) {
        hearth_fail(failure, HEARTH_EUNAVAILABLE, "port_not_listening",
                    "nobody listens on port %u in the workspace", connecting->port);
        hearth_failure_hint(failure, "Start what serves it, on 127.0.0.1 or on all addresses, "
                                     "then ask again.");
    } else {
        const char *said = message && utf8_valid(message, strlen(message)) ? message : "";
        hearth_fail(failure, HEARTH_EUNAVAILABLE, "port_unreachable",
                    "port %u in the workspace cannot be reached%s%.100s", connecting->port,
                    *said ? ": " : "", said);
    }
    tell(connecting, (int)failure->error);
    end(connecting);
}

static const struct forward_events events = {.on_open = on_open, .on_end = on_end};

static void refused(void *arg)
{
    struct connecting *connecting = arg;
    tell(connecting, (int)connecting->failure.error);
    free(connecting);
}

static void connect_now(struct connecting *connecting, struct workspace *workspace)
{
    int pair[2] = {-1, -1};
    int error = workspace_ready(workspace, &connecting->failure);
    if (!error && workspace->sandbox->link.state != AGENTLINK_UP)
        error = hearth_fail(&connecting->failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                            "the guest's agent does not answer");
    if (!error && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        error = hearth_fail_errno(&connecting->failure, errno, NULL, "cannot connect");
    if (!error) {
        connecting->fd = pair[1];
        error = port_connection_begin(workspace, &connecting->failure);
        if (error)
            close(pair[0]);
    }
    if (!error) {
        port_dial(workspace->sandbox, pair[0], connecting->port, &events, connecting);
        return;
    }
    if (connecting->fd >= 0)
        close(steal_fd(&connecting->fd));
    loop_defer(workspace->supervisor->loop, refused, connecting);
}

static void woken(void *arg)
{
    struct connecting *connecting = arg;
    struct workspace *workspace =
        supervisor_workspace(connecting->supervisor, connecting->workspace_id);
    if (workspace) {
        connect_now(connecting, workspace);
        return;
    }
    hearth_fail(&connecting->failure, HEARTH_ENOTFOUND, "workspace_not_found",
                "there is no such workspace");
    refused(connecting);
}

void port_connect(struct workspace *workspace, unsigned port, port_connected done, void *arg)
{
    struct connecting *connecting = calloc(1, sizeof *connecting);
    if (!connecting)
        abort();
    *connecting = (struct connecting){
        .supervisor = workspace->supervisor, .port = port, .fd = -1, .done = done, .arg = arg};
    memcpy(connecting->workspace_id, workspace->workspace_id, sizeof connecting->workspace_id);
    if (!workspace_wake(workspace, true, woken, connecting))
        connect_now(connecting, workspace);
}
