/* link_echo_server SOCKET: the echo service on a Unix socket, for a stock gRPC client to call. Says
 * "ready" once it listens; ends with its standard input. */
#include "echo_service.h"

#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct echo_service service;

static void on_down(struct link *link, void *arg, const struct hearth_failure *why)
{
    link_free(link);
}

static const struct link_events events = {.on_down = on_down, .on_call = echo_on_call};

static void on_connection(evutil_socket_t listener, short what, void *arg)
{
    struct link *link;
    struct hearth_failure failure;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0 && link_new_server(&link, arg, fd, &events, &service, &failure))
        fprintf(stderr, "%s\n", failure.detail);
}

/* One line of input is answered by what the service has seen. */
static void on_input(evutil_socket_t fd, short what, void *arg)
{
    char line[64];
    if (read(fd, line, sizeof line) <= 0) {
        event_base_loopbreak(arg);
        return;
    }
    printf("%u started %u ended %u cancelled\n", service.started, service.ended, service.cancelled);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path)
        return 2;
    memcpy(address.sun_path, argv[1], strlen(argv[1]) + 1);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) {
        perror(argv[1]);
        return 1;
    }
    struct event_base *base = event_base_new();
    struct event *connections =
        event_new(base, listener, EV_READ | EV_PERSIST, on_connection, base);
    struct event *input = event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, base);
    event_add(connections, NULL);
    event_add(input, NULL);
    puts("ready");
    fflush(stdout);
    event_base_dispatch(base);
    return 0;
}
