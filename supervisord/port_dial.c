#include "supervisord/port_internal.h"

#include "base/socket.h"
#include "supervisord/passage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECT_US (10 * US_PER_S) /* as the agent waits */

/* Asks the driver for a socket, connects it and has a passage to it; or has the agent do the like
 * and a forward to that. */
struct port_dial {
    struct list link; // sandbox::dials
    struct sandbox
        *sandbox; /* NULL: cancelled or ended, and freed as soon as the driver has told */
    struct loop *loop;
    unsigned port;
    int client_fd, guest_fd; /* -1: not there yet, or given */
    bool asked;              /* the driver has yet to tell */
    struct watch connected;
    struct timer deadline;
    struct passage *passage;
    struct forward *forward;
    const struct forward_events *events;
    void *arg;
};

static void release(struct port_dial *dial)
{
    list_remove(&dial->link);
    dial->sandbox = NULL;
    watch_free(&dial->connected);
    timer_free(&dial->deadline);
    if (dial->client_fd >= 0)
        socket_reset(steal_fd(&dial->client_fd));
    if (dial->guest_fd >= 0)
        close(steal_fd(&dial->guest_fd));
    if (!dial->asked)
        free(dial);
}

/* The owner is told last: it may free what the dial belongs to. */
static void finish(struct port_dial *dial, enum link_status status, const char *message)
{
    const struct forward_events *events = dial->events;
    void *arg = dial->arg;
    release(dial);
    events->on_end(arg, status, message);
}

static void on_passage_end(void *arg, int error)
{
    struct port_dial *dial = arg;
    dial->passage = NULL;
    finish(dial, error ? LINK_STATUS_ABORTED : LINK_STATUS_OK, error ? strerror(-error) : NULL);
}

static void on_connected(void *arg)
{
    struct port_dial *dial = arg;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(dial->guest_fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    watch_free(&dial->connected);
    timer_unset(&dial->deadline);
    if (error) {
        finish(dial,
               error == ECONNREFUSED ? LINK_STATUS_FAILED_PRECONDITION : LINK_STATUS_UNAVAILABLE,
               strerror(error));
        return;
    }
    dial->passage = passage_new(dial->sandbox->supervisor->passages, steal_fd(&dial->client_fd),
                                steal_fd(&dial->guest_fd), on_passage_end, dial);
    if (!dial->passage)
        finish(dial, LINK_STATUS_RESOURCE_EXHAUSTED, "out of memory");
    else if (dial->events->on_open)
        dial->events->on_open(dial->arg);
}

static void on_late(void *arg)
{
    finish(arg, LINK_STATUS_DEADLINE_EXCEEDED, "the connection was not taken in time");
}

static void connect_socket(struct port_dial *dial)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)dial->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(dial->guest_fd, (const struct sockaddr *)&address, sizeof address) < 0 &&
        errno != EINPROGRESS) {
        finish(dial, LINK_STATUS_UNAVAILABLE, strerror(errno));
        return;
    }
    timer_set(&dial->deadline, clock_monotonic_us() + CONNECT_US);
    if (watch_init_writable(&dial->connected, dial->loop, dial->guest_fd, on_connected, dial))
        finish(dial, LINK_STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

static void on_forward_open(void *arg)
{
    const struct port_dial *dial = arg;
    if (dial->events->on_open)
        dial->events->on_open(dial->arg);
}

static void on_forward_end(void *arg, enum link_status status, const char *message)
{
    struct port_dial *dial = arg;
    dial->forward = NULL;
    finish(dial, status, message);
}

static const struct forward_events forward_events = {.on_open = on_forward_open,
                                                     .on_end = on_forward_end};

static void ask_agent(struct port_dial *dial)
{
    struct hearth_failure failure;
    struct link *link = dial->sandbox->link.link;
    if (!link)
        finish(dial, LINK_STATUS_UNAVAILABLE, "the guest's agent does not answer");
    else if (forward_dial(&dial->forward, link, loop_base(dial->loop), steal_fd(&dial->client_fd),
                          dial->port, &forward_events, dial, &failure))
        finish(dial, LINK_STATUS_UNAVAILABLE, failure.detail);
}

static void on_socket(void *arg, int fd, const struct hearth_failure *failure)
{
    struct port_dial *dial = arg;
    (void)failure;
    dial->asked = false;
    if (!dial->sandbox) {
        if (fd >= 0)
            close(fd);
        free(dial);
        return;
    }
    dial->guest_fd = fd;
    if (fd >= 0)
        connect_socket(dial);
    else
        ask_agent(dial);
}

static void no_socket(void *arg)
{
    on_socket(arg, -1, NULL);
}

struct port_dial *port_dial(struct sandbox *sandbox, int fd, unsigned port,
                            const struct forward_events *events, void *arg)
{
    struct guest *guest = &sandbox->guest;
    struct port_dial *dial = calloc(1, sizeof *dial);
    if (!dial)
        abort();
    *dial = (struct port_dial){
        .sandbox = sandbox,
        .loop = sandbox->supervisor->loop,
        .port = port,
        .client_fd = fd,
        .guest_fd = -1,
        .asked = true,
        .events = events,
        .arg = arg,
    };
    list_init(&dial->link);
    list_append(&sandbox->dials, &dial->link);
    timer_init(&dial->deadline, dial->loop, on_late, dial);
    if (guest->driver->operations->port_socket)
        guest->driver->operations->port_socket(guest->driver, guest, on_socket, dial);
    else
        loop_defer(dial->loop, no_socket, dial);
    return dial;
}

void port_dial_free(struct port_dial *dial)
{
    passage_free(steal_pointer(dial->passage));
    forward_free(steal_pointer(dial->forward));
    release(dial);
}

void port_dials_cut(struct sandbox *sandbox)
{
    while (!list_empty(&sandbox->dials)) {
        struct port_dial *dial = container_of(sandbox->dials.next, struct port_dial, link);
        passage_free(steal_pointer(dial->passage));
        forward_free(steal_pointer(dial->forward));
        finish(dial, LINK_STATUS_UNAVAILABLE, "the guest is not running");
    }
}
