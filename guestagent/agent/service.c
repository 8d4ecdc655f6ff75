/* The life of a service: spawned in a group of its own, looked at until it is ready, drained into
 * rings of its newest output, restarted if it is to be, and ended as a whole. */
#include "guestagent/agent/service.h"

#include "base/clock.h"
#include "guestagent/agent/secrets.h"
#include "guestagent/agent/spawn_command.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_DEFAULT ((uint64_t)256 << 10)
#define LOG_MAX ((uint64_t)1 << 20)
#define GRACE_DEFAULT_MS 5000
#define DRAIN_MS 1000
#define KILLED_US ((int64_t)1000000) /* for the killed to be gone */
#define KILLED_LOOK_MS 20
#define RESTART_FIRST_MS 100
#define RESTART_LAST_MS 30000
#define STEADY_US ((int64_t)10 * 1000000) /* ran so long: what failed before is forgotten */
#define CHUNK ((size_t)64 << 10)

struct service *service_find(struct agent *agent, const char *name)
{
    list_for_each(cursor, next, &agent->services)
    {
        struct service *service = container_of(cursor, struct service, link);
        if (strcmp(service->name, name) == 0)
            return service;
    }
    return NULL;
}

bool service_settled(const struct service *service)
{
    return !service->pid && !service->restart;
}

bool service_silent(const struct service *service)
{
    return service_settled(service) && !service->strays_end && service->out.fd < 0 &&
           service->err.fd < 0;
}

static void free_event(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

static void set_timer(struct service *service, struct event **timer, uint32_t ms,
                      event_callback_fn fn)
{
    struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    free_event(timer);
    *timer = evtimer_new(service->agent->base, fn, service);
    if (*timer)
        event_add(*timer, &interval);
}

/* Output */

static void close_output(struct service_output *output)
{
    free_event(&output->event);
    if (output->fd >= 0)
        close(output->fd);
    output->fd = -1;
    redact_stream_end(output->redact, ring_sink, &output->ring);
    redact_stream_free(steal_pointer(output->redact));
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    static char chunk[CHUNK];
    struct service_output *output = arg;
    (void)what;
    ssize_t got = read(fd, chunk, sizeof chunk);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        redact_stream_put(output->redact, chunk, (size_t)got, ring_sink, &output->ring);
        service_logged(output->service);
    } else {
        close_output(output);
        service_fell_silent(output->service);
    }
}

/* What has left the group holds its output: it is let go. */
static void drain_limit_passed(evutil_socket_t fd, short what, void *arg)
{
    struct service *service = arg;
    (void)fd;
    (void)what;
    free_event(&service->drainer);
    close_output(&service->out);
    close_output(&service->err);
    service_fell_silent(service);
}

static bool watch_output(struct service_output *output, int fd)
{
    close_output(output);
    output->fd = fd;
    output->redact = secrets_stream(output->service->agent);
    output->event =
        event_new(output->service->agent->base, fd, EV_READ | EV_PERSIST, on_output, output);
    return output->event && event_add(output->event, NULL) == 0;
}

/* Ends */

static void signal_group(const struct service *service, int number)
{
    if (service->group > 0)
        kill(-service->group, number);
}

/* Of its group, or what has left that. */
static bool has_left_some(const struct service *service)
{
    return (service->group > 0 && kill(-service->group, 0) == 0) ||
           service_signal_strays(service, 0);
}

static size_t kill_what_is_left(struct service *service)
{
    signal_group(service, SIGKILL);
    service->group = 0;
    return service_signal_strays(service, SIGKILL);
}

static void drain(struct service *service)
{
    if (service->out.fd >= 0 || service->err.fd >= 0)
        set_timer(service, &service->drainer, DRAIN_MS, drain_limit_passed);
}

static void strays_ended(struct service *service)
{
    service->strays_end = false;
    service->group = 0;
    free_event(&service->killer);
    drain(service);
    service_fell_silent(service);
}

/* Not all are our children, whose end is told. */
static void look_at_strays(evutil_socket_t fd, short what, void *arg)
{
    struct service *service = arg;
    (void)fd;
    (void)what;
    if (clock_monotonic_us() < service->killed_us + KILLED_US &&
        service_signal_strays(service, SIGKILL))
        set_timer(service, &service->killer, KILLED_LOOK_MS, look_at_strays);
    else
        strays_ended(service);
}

/* All that an ended service has left, in its group or not. Where there is some a stop is answered
 * when it is gone. */
static void kill_strays(struct service *service)
{
    service->strays_end = kill_what_is_left(service) > 0;
    service->killed_us = clock_monotonic_us();
    if (service->strays_end)
        set_timer(service, &service->killer, KILLED_LOOK_MS, look_at_strays);
}

static void kill_now(evutil_socket_t fd, short what, void *arg)
{
    struct service *service = arg;
    (void)fd;
    (void)what;
    if (service->pid) { /* its end is what is waited for */
        signal_group(service, SIGKILL);
        service_signal_strays(service, SIGKILL);
        return;
    }
    kill_strays(service);
    if (!service->strays_end)
        strays_ended(service);
}

void service_orphan_ended(struct agent *agent)
{
    list_for_each(cursor, next, &agent->services)
    {
        struct service *service = container_of(cursor, struct service, link);
        if (service->strays_end && !has_left_some(service))
            strays_ended(service);
    }
}

static void settle(struct service *service, enum service_phase phase, const char *reason)
{
    service->phase = phase;
    service->reason = reason;
    probe_end(service);
    free_event(&service->deadline);
    service_changed(service);
}

static void not_ready_in_time(evutil_socket_t fd, short what, void *arg)
{
    struct service *service = arg;
    (void)fd;
    (void)what;
    free_event(&service->deadline);
    free_event(&service->restart);
    probe_end(service);
    service->late = true;
    if (service->pid)
        signal_group(service, SIGKILL); /* its end is what is told */
    else
        settle(service, SERVICE_FAILED, "readiness_timeout");
}

void service_is_ready(struct service *service)
{
    service->ready = true;
    service->ready_us = clock_monotonic_us();
    probe_end(service);
    free_event(&service->deadline);
    service_changed(service);
}

static void launch(struct service *service);

static void restart_now(evutil_socket_t fd, short what, void *arg)
{
    struct service *service = arg;
    (void)fd;
    (void)what;
    free_event(&service->restart);
    service->restarts++;
    launch(service);
}

static void restart_later(struct service *service)
{
    uint32_t wait = RESTART_FIRST_MS;
    if (service->ended_us - service->started_us >= STEADY_US)
        service->failures = 0;
    for (unsigned i = 0; i < service->failures && wait < RESTART_LAST_MS; i++)
        wait *= 2;
    service->failures++;
    set_timer(service, &service->restart, wait < RESTART_LAST_MS ? wait : RESTART_LAST_MS,
              restart_now);
    /* The deadline of a start goes on: it may be ready yet. */
    service->phase = SERVICE_EXITED;
    service->reason = "restarting";
    probe_end(service);
    service_changed(service);
}

/* It was asked to end, and is not yet made to. */
static bool in_grace(const struct service *service)
{
    return service->stopping && service->killer && evtimer_pending(service->killer, NULL);
}

/* Of one that is asked to end the others have the rest of its grace to end too: a shell ends at
 * once, and what it has started has yet to clean up. */
static void leave_or_kill_the_rest(struct service *service)
{
    if (in_grace(service) && has_left_some(service)) {
        service->strays_end = true;
        return;
    }
    free_event(&service->killer);
    service->group = 0; /* service_reap_first has killed it */
    if (service->stopping)
        kill_strays(service);
}

static void exited(struct service *service, int status)
{
    service->pid = 0;
    service->has_exit = true;
    service->exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    service->ended_us = clock_monotonic_us();
    leave_or_kill_the_rest(service);
    if (!service->strays_end)
        drain(service);
    if (service->agent->stop.phase != STOP_NONE)
        settle(service, SERVICE_STOPPED, "workspace_stopped");
    else if (service->stopping)
        settle(service, SERVICE_STOPPED, service->stopping);
    else if (service->late)
        settle(service, SERVICE_FAILED, "readiness_timeout");
    else if (service->request->restart_on_failure && service->exit_code != 0)
        restart_later(service);
    else if (!service->ready)
        settle(service, SERVICE_FAILED, "exited_before_ready");
    else
        settle(service, SERVICE_EXITED, "exited");
}

bool service_reap_first(struct agent *agent, pid_t pid)
{
    list_for_each(cursor, next, &agent->services)
    {
        const struct service *service = container_of(cursor, struct service, link);
        if (service->pid == pid || service->probe.pid == pid) {
            if (service->pid != pid || !in_grace(service))
                kill(-pid, SIGKILL); /* what is left of its group */
            return true;
        }
    }
    return false;
}

void service_reaped(struct agent *agent, pid_t pid, int status)
{
    list_for_each(cursor, next, &agent->services)
    {
        struct service *service = container_of(cursor, struct service, link);
        if (service->pid == pid) {
            exited(service, status);
            return;
        }
        if (service->probe.pid == pid) {
            probe_exited(service, status);
            return;
        }
    }
}

/* It has ended before, by itself: there may be what it has left. */
static void stop_strays(struct service *service, uint32_t grace_ms)
{
    if (service->strays_end || !service_signal_strays(service, SIGTERM))
        return;
    service->strays_end = true;
    set_timer(service, &service->killer, grace_ms, kill_now);
}

void service_stop(struct service *service, uint32_t grace_ms, const char *reason)
{
    grace_ms = grace_ms ? grace_ms : GRACE_DEFAULT_MS;
    if (service_settled(service)) {
        stop_strays(service, grace_ms);
        return;
    }
    service->stopping = reason;
    if (service->restart) {
        free_event(&service->restart);
        settle(service, SERVICE_STOPPED, reason);
        stop_strays(service, grace_ms);
        return;
    }
    probe_end(service);
    free_event(&service->deadline);
    if (service->killer)
        return;
    signal_group(service, SIGTERM);
    signal_group(service, SIGCONT);
    service_signal_strays(service, SIGTERM);
    set_timer(service, &service->killer, grace_ms, kill_now);
}

void service_signal_all(struct agent *agent, int signal)
{
    list_for_each(cursor, next, &agent->services)
        signal_group(container_of(cursor, struct service, link), signal);
}

/* Starts */

static void launch(struct service *service)
{
    const struct command command = {.arguments = service->request->argv,
                                    .argument_count = service->request->n_argv,
                                    .cwd = service->request->cwd,
                                    .variables = service->variables,
                                    .variable_count = service->request->n_environment + 1,
                                    .secrets = service->agent->secrets,
                                    .secret_variables = service->request->secret_environment,
                                    .secret_variable_count = service->request->n_secret_environment,
                                    .limits = &service->agent->child_limits};
    struct command_pipes pipes;
    char problem[160];
    service->started_us = clock_monotonic_us();
    free_event(&service->drainer);
    service->ready = false;
    service->ready_us = service->ended_us = 0;
    int error = spawn_command(&command, &service->pid, &pipes, problem, sizeof problem,
                              &service->exit_code);
    if (error) {
        service->pid = 0;
        service->has_exit = true;
        service->ended_us = service->started_us;
        secrets_clean(service->agent, problem, sizeof problem);
        ring_append(&service->err.ring, problem, strlen(problem));
        ring_append(&service->err.ring, "\n", 1);
        settle(service, SERVICE_FAILED, "cannot_start");
        return;
    }
    service->group = service->pid;
    close(pipes.input);
    service->has_exit = false;
    service->phase = SERVICE_RUNNING;
    service->reason = "";
    bool whole = watch_output(&service->out, pipes.output);
    if (!watch_output(&service->err, pipes.errors) || !whole)
        signal_group(service, SIGKILL);
    if (service->probe.kind == PROBE_NONE) {
        service_is_ready(service);
        return;
    }
    if (!service->deadline)
        set_timer(service, &service->deadline, service->probe.timeout_ms, not_ready_in_time);
    probe_begin(service);
    service_changed(service);
}

static void service_free(struct service *service)
{
    struct event **events[] = {&service->deadline, &service->killer, &service->drainer,
                               &service->restart};
    service_forgotten(service);
    probe_end(service);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        free_event(events[i]);
    close_output(&service->out);
    close_output(&service->err);
    ring_free(&service->out.ring);
    ring_free(&service->err.ring);
    free(service->probe.target);
    free(service->variables);
    if (service->request)
        hearth__agent__v1__service_start_request__free_unpacked(service->request, NULL);
    list_remove(&service->link);
    service->agent->service_count--;
    free(service);
}

void service_free_all(struct agent *agent)
{
    while (!list_empty(&agent->services))
        service_free(container_of(agent->services.next, struct service, link));
}

/* Room for one more: that of the name, or the oldest that does not run. */
static bool make_room(struct agent *agent, const char *name)
{
    struct service *same = service_find(agent, name);
    if (same) {
        kill_what_is_left(same); /* nobody could name it any more */
        service_free(same);
        return true;
    }
    if (agent->service_count < SERVICES_MAX)
        return true;
    list_for_each(cursor, next, &agent->services)
    {
        struct service *service = container_of(cursor, struct service, link);
        if (service_settled(service)) {
            service_free(service);
            return true;
        }
    }
    return false;
}

/* Those of the request, and the one that it is known by. */
static bool set_variables(struct service *service,
                          const Hearth__Agent__V1__ServiceStartRequest *request)
{
    service->variables =
        malloc((request->n_environment + 1) * sizeof *service->variables); /* borrowed texts */
    if (!service->variables)
        return false;
    hearth__agent__v1__environment_variable__init(&service->mark);
    service->mark.name = (char *)(uintptr_t)SERVICE_VARIABLE;
    service->mark.value = service->instance;
    for (size_t i = 0; i < request->n_environment; i++)
        service->variables[i] = request->environment[i];
    service->variables[request->n_environment] = &service->mark;
    return true;
}

struct service *service_start(struct agent *agent, Hearth__Agent__V1__ServiceStartRequest *request)
{
    struct service *service = make_room(agent, request->name) ? calloc(1, sizeof *service) : NULL;
    if (!service)
        return NULL;
    uint64_t kept = request->log_bytes ? request->log_bytes : LOG_DEFAULT;
    service->agent = agent;
    service->out = (struct service_output){.service = service, .fd = -1};
    service->err = (struct service_output){.service = service, .fd = -1};
    service->probe.fd = -1;
    ring_init(&service->out.ring, 0, kept < LOG_MAX ? kept : LOG_MAX);
    ring_init(&service->err.ring, 0, kept < LOG_MAX ? kept : LOG_MAX);
    memcpy(service->name, request->name, strlen(request->name) + 1);
    memcpy(service->instance, request->instance, strlen(request->instance) + 1);
    list_init(&service->link);
    list_append(&agent->services, &service->link);
    agent->service_count++;
    if (!probe_parse(&service->probe, request) || !set_variables(service, request)) {
        service_free(service);
        return NULL;
    }
    service->request = request;
    service->first_us = clock_monotonic_us();
    launch(service);
    return service;
}
