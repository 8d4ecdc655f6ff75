/* Is a service ready? A file, a port and a URL are looked at every few milliseconds, whatever
 * interval was asked for, so that readiness is seen when it comes; a command is run at the
 * interval, and so is a URL that answers with an error. Nothing waits: the agent has one thread. */
#include "guestagent/agent/service.h"

#include "guestagent/agent/spawn_command.h"

#include <errno.h>
#include <event2/util.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 10
#define ANSWER_S 2 /* for a connection to be made, and then for the answer */
#define INTERVAL_DEFAULT_MS 500
#define TIMEOUT_DEFAULT_MS 30000

static void look(evutil_socket_t fd, short what, void *arg);

static void free_event(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

static void look_in(struct service *service, uint32_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    if (!service->probe.timer)
        service->probe.timer = evtimer_new(service->agent->base, look, service);
    if (service->probe.timer)
        event_add(service->probe.timer, &wait);
}

static void look_again_soon(struct service *service)
{
    look_in(service, service->probe.interval_ms < LOOK_MS ? service->probe.interval_ms : LOOK_MS);
}

/* Parsing */

/* HOST:PORT, [IPV6]:PORT; the host is an address or localhost. */
static bool parse_address(struct probe *probe, const char *text)
{
    char address[80];
    bool local = strncmp(text, "localhost:", 10) == 0;
    if (snprintf(address, sizeof address, "%s%s", local ? "127.0.0.1:" : "",
                 local ? text + 10 : text) >= (int)sizeof address ||
        !strchr(address, ':'))
        return false;
    probe->address_length = sizeof probe->address;
    return evutil_parse_sockaddr_port(address, (struct sockaddr *)&probe->address,
                                      &probe->address_length) == 0;
}

/* http://HOST[:PORT][/PATH] */
static bool parse_url(struct probe *probe, const char *url)
{
    char host[80];
    static const char scheme[] = "http://";
    if (strncmp(url, scheme, strlen(scheme)) != 0)
        return false;
    const char *begin = url + strlen(scheme);
    size_t length = strcspn(begin, "/?#"), path = strcspn(begin + length, "#");
    if (!length || length + 4 >= sizeof host || strpbrk(begin, " \r\n\t"))
        return false;
    snprintf(host, sizeof host, "%.*s", (int)length, begin);
    const char *after = host[0] == '[' ? strchr(host, ']') : host;
    if (!after)
        return false;
    bool has_port = strchr(after, ':') != NULL;
    if (asprintf(&probe->target,
                 "GET %s%.*s HTTP/1.1\r\nHost: %s\r\nUser-Agent: hearth\r\nAccept: */*\r\n"
                 "Connection: close\r\n\r\n",
                 begin[length] == '/' ? "" : "/", (int)path, begin + length, host) < 0) {
        probe->target = NULL;
        return false;
    }
    if (!has_port)
        strcat(host, ":80");
    return parse_address(probe, host);
}

bool probe_parse(struct probe *probe, const Hearth__Agent__V1__ServiceStartRequest *request)
{
    const char *texts[] = {NULL, request->ready_file, request->ready_tcp, request->ready_http,
                           request->ready_command};
    for (int kind = PROBE_FILE; kind <= PROBE_COMMAND; kind++)
        if (*texts[kind] && probe->kind != PROBE_NONE)
            return false;
        else if (*texts[kind])
            probe->kind = (enum probe_kind)kind;
    probe->timeout_ms = request->ready_timeout_ms ? request->ready_timeout_ms : TIMEOUT_DEFAULT_MS;
    probe->interval_ms =
        request->ready_interval_ms ? request->ready_interval_ms : INTERVAL_DEFAULT_MS;
    switch (probe->kind) {
    case PROBE_NONE:
        return true;
    case PROBE_TCP:
        return parse_address(probe, request->ready_tcp);
    case PROBE_HTTP:
        return parse_url(probe, request->ready_http);
    case PROBE_FILE:
        probe->target = strdup(request->ready_file);
        break;
    case PROBE_COMMAND: /* nobody reads what it prints */
        if (asprintf(&probe->target, "exec >/dev/null 2>&1\n%s", request->ready_command) < 0)
            probe->target = NULL;
        break;
    }
    return probe->target != NULL;
}

/* Connections */

static void hang_up(struct probe *probe)
{
    free_event(&probe->socket_event);
    if (probe->fd >= 0)
        close(probe->fd);
    probe->fd = -1;
}

static void await(struct service *service, short what, event_callback_fn fn)
{
    static const struct timeval limit = {.tv_sec = ANSWER_S};
    struct probe *probe = &service->probe;
    free_event(&probe->socket_event);
    probe->socket_event = event_new(service->agent->base, probe->fd, what, fn, service);
    if (!probe->socket_event || event_add(probe->socket_event, &limit) < 0) {
        hang_up(probe);
        look_in(service, probe->interval_ms);
    }
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct service *service = arg;
    struct probe *probe = &service->probe;
    unsigned status = 0;
    ssize_t got = what & EV_READ ? read(fd, probe->head + probe->received,
                                        sizeof probe->head - 1 - probe->received)
                                 : 0;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        await(service, EV_READ, on_answer);
        return;
    }
    probe->received += got > 0 ? (size_t)got : 0;
    probe->head[probe->received] = '\0';
    if (got > 0 && probe->received < sizeof probe->head - 1) {
        await(service, EV_READ, on_answer);
        return;
    }
    hang_up(probe);
    if (sscanf(probe->head, "HTTP/1.%*1[01] %3u", &status) == 1 && status >= 200 && status < 400)
        service_is_ready(service);
    else
        look_in(service, probe->interval_ms);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
    struct service *service = arg;
    struct probe *probe = &service->probe;
    int error = ETIMEDOUT;
    socklen_t size = sizeof error;
    if (what & EV_WRITE)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        hang_up(probe);
        look_again_soon(service);
        return;
    }
    if (probe->kind == PROBE_TCP) {
        hang_up(probe);
        service_is_ready(service);
        return;
    }
    size_t length = strlen(probe->target);
    if (send(fd, probe->target, length, MSG_NOSIGNAL) != (ssize_t)length) {
        hang_up(probe);
        look_in(service, probe->interval_ms);
        return;
    }
    probe->received = 0;
    await(service, EV_READ, on_answer);
}

static void connect_to(struct service *service)
{
    struct probe *probe = &service->probe;
    probe->fd = socket(probe->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe->fd >= 0 && (connect(probe->fd, (const struct sockaddr *)&probe->address,
                                   (socklen_t)probe->address_length) == 0 ||
                           errno == EINPROGRESS)) {
        await(service, EV_WRITE, on_connected);
        return;
    }
    hang_up(probe);
    look_again_soon(service);
}

/* Commands */

static void run_command(struct service *service)
{
    static char shell[] = "/bin/sh", flags[] = "-lc";
    struct probe *probe = &service->probe;
    char *argv[] = {shell, flags, probe->target}, problem[160];
    struct command_pipes pipes;
    int exit_code;
    const struct command command = {
        .arguments = argv,
        .argument_count = 3,
        .cwd = service->request->cwd,
        .variables = service->request->environment,
        .variable_count = service->request->n_environment,
        .secrets = service->agent->secrets,
        .secret_variables = service->request->secret_environment,
        .secret_variable_count = service->request->n_secret_environment,
        .limits = &service->agent->child_limits,
    };
    if (spawn_command(&command, &probe->pid, &pipes, problem, sizeof problem, &exit_code)) {
        probe->pid = 0;
        look_in(service, probe->interval_ms);
        return;
    }
    close(pipes.input);
    close(pipes.output);
    close(pipes.errors);
}

void probe_exited(struct service *service, int status)
{
    service->probe.pid = 0;
    if (!service->probe.timer) /* it has been given up */
        return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        service_is_ready(service);
    else
        look_in(service, service->probe.interval_ms);
}

/* The looking */

static void look(evutil_socket_t fd, short what, void *arg)
{
    struct service *service = arg;
    struct probe *probe = &service->probe;
    struct stat status;
    (void)fd;
    (void)what;
    if (probe->kind == PROBE_COMMAND) {
        if (!probe->pid)
            run_command(service);
    } else if (probe->kind != PROBE_FILE) {
        connect_to(service);
    } else if (stat(probe->target, &status) == 0) {
        service_is_ready(service);
    } else {
        look_again_soon(service);
    }
}

void probe_begin(struct service *service)
{
    look_in(service, 0);
}

void probe_end(struct service *service)
{
    free_event(&service->probe.timer);
    hang_up(&service->probe);
    if (service->probe.pid)
        kill(-service->probe.pid, SIGKILL); /* reaped as any other child */
}
