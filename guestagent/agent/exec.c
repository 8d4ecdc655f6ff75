/* Commands: spawned, drained into rings, timed, ended, reaped, and read by any number of readers.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "guestagent/agent/exec_internal.h"
#include "guestagent/agent/secrets.h"
#include "guestagent/agent/spawn_command.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD_DEFAULT ((uint64_t)512 << 10)
#define TAIL_DEFAULT ((uint64_t)512 << 10)
#define KEEP_MAX ((uint64_t)64 << 20) /* head or tail of one stream */
#define GRACE_DEFAULT_MS 2000
#define DRAIN_DEFAULT_MS 1000
#define EXIT_TIMED_OUT 124
#define CHUNK ((size_t)64 << 10)
#define GIVE_UP_TURNS 32 /* chunks: more than a pipe holds */

static struct exec *find(struct agent *agent, const char *exec_id)
{
    struct map_entry *entry = map_find(&agent->execs, exec_id);
    return entry ? container_of(entry, struct exec, entry) : NULL;
}

static void free_event(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

static struct event *start_timer(struct exec *exec, uint32_t ms, event_callback_fn fn, void *arg)
{
    struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    struct event *event = evtimer_new(exec->agent->base, fn, arg);
    if (event)
        event_add(event, &interval);
    return event;
}

/* Ends. */

static void free_output(struct output *output)
{
    redact_stream_free(output->redact);
    ring_free(&output->ring);
}

static void exec_free(struct exec *exec)
{
    struct agent *agent = exec->agent;
    map_remove(&agent->execs, &exec->entry);
    list_remove(&exec->link);
    free_output(&exec->out);
    free_output(&exec->err);
    free(exec->pending);
    free(exec);
}

static size_t memory_of(const struct exec *exec)
{
    return sizeof *exec + ring_memory(&exec->out.ring) + ring_memory(&exec->err.ring);
}

static void drop_finished(struct exec *exec)
{
    exec->agent->finished_count--;
    exec->agent->finished_memory -= memory_of(exec);
    exec_free(exec);
}

static void keep_finished(struct exec *exec)
{
    struct agent *agent = exec->agent;
    list_remove(&exec->link);
    list_append(&agent->finished, &exec->link);
    agent->running_count--;
    agent->finished_count++;
    agent->finished_memory += memory_of(exec);
    while (agent->finished_count > 1 && (agent->finished_count > AGENT_FINISHED_MAX ||
                                         agent->finished_memory > AGENT_RING_MEMORY))
        drop_finished(container_of(agent->finished.next, struct exec, link));
}

static void close_output(struct output *output)
{
    free_event(&output->event);
    if (output->fd >= 0)
        close(output->fd);
    output->fd = -1;
    redact_stream_end(output->redact, ring_sink, &output->ring);
    redact_stream_free(steal_pointer(output->redact));
}

/* The end of all of it: exit is known, both streams have ended, or were given up, and of one that
 * was made to end nothing is left. */
static void maybe_finish(struct exec *exec)
{
    if (!exec->running || !exec->exited || exec->rest || exec->out.fd >= 0 || exec->err.fd >= 0)
        return;
    exec->running = false;
    exec->drained = exec->out.ended && exec->err.ended;
    exec->ended_us = clock_monotonic_us();
    exec_input_close(exec);
    free_event(&exec->timeout);
    free_event(&exec->killer);
    free_event(&exec->drainer);
    keep_finished(exec);
    exec_answer_satisfied(exec);
    stop_child_ended(exec->agent);
}

/* One piece of what the pipe holds. False: there is nothing more for now, or ever. */
static bool take_output(struct output *output)
{
    static char chunk[CHUNK];
    ssize_t got = read(output->fd, chunk, sizeof chunk);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got > 0) {
        redact_stream_put(output->redact, chunk, (size_t)got, ring_sink, &output->ring);
        return true;
    }
    output->ended = true;
    close_output(output);
    return false;
}

/* What was written before the limit passed is taken still, however late the loop comes to it. */
static void give_up(struct output *output)
{
    for (int turn = 0; turn < GIVE_UP_TURNS && output->fd >= 0 && take_output(output); turn++)
        ;
    close_output(output);
}

static void drain_limit_passed(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct exec *exec = arg;
    give_up(&exec->out);
    give_up(&exec->err);
    maybe_finish(exec);
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    struct output *output = arg;
    struct exec *exec = output->exec;
    (void)fd;
    (void)what;
    if (!take_output(output) && output->fd >= 0)
        return;
    maybe_finish(exec);
    if (exec->running)
        exec_answer_satisfied(exec);
}

static void signal_group(struct exec *exec, int signal)
{
    pid_t group = exec->pid ? exec->pid : exec->rest;
    if (group > 0)
        kill(-group, signal);
}

static void start_draining(struct exec *exec)
{
    maybe_finish(exec);
    if (exec->running)
        exec->drainer = start_timer(exec, exec->drain_ms, drain_limit_passed, exec);
}

static void rest_ended(struct exec *exec)
{
    exec->rest = 0;
    free_event(&exec->killer);
    start_draining(exec);
}

static void kill_now(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct exec *exec = arg;
    signal_group(exec, SIGKILL);
    if (exec->rest)
        rest_ended(exec);
}

static void end_group(struct exec *exec, uint32_t grace_ms)
{
    signal_group(exec, SIGTERM);
    signal_group(exec, SIGCONT);
    free_event(&exec->killer);
    if (!exec->exited)
        exec->killer = start_timer(exec, grace_ms, kill_now, exec);
}

static void time_is_up(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct exec *exec = arg;
    if (exec->exited)
        return;
    exec->timed_out = true;
    end_group(exec, exec->kill_grace_ms);
}

/* It was asked to end, and is not yet made to: a shell ends at once, and the others of its group
 * have the rest of the grace to clean up. */
static bool in_grace(const struct exec *exec)
{
    return exec->killer && evtimer_pending(exec->killer, NULL);
}

static void exec_exited(struct exec *exec, int status)
{
    exec->exited = true;
    exec->rest = in_grace(exec) ? exec->pid : 0;
    exec->pid = 0;
    if (WIFSIGNALED(status)) {
        exec->signal = WTERMSIG(status);
        exec->exit_code = 128 + exec->signal;
    } else {
        exec->exit_code = WEXITSTATUS(status);
    }
    if (exec->timed_out)
        exec->exit_code = EXIT_TIMED_OUT;
    if (!exec->rest)
        start_draining(exec);
}

static struct exec *find_pid(struct agent *agent, pid_t pid)
{
    list_for_each(cursor, next, &agent->running)
    {
        struct exec *exec = container_of(cursor, struct exec, link);
        if (exec->pid == pid)
            return exec;
    }
    return NULL;
}

/* Orphans come to the agent, so it is there when the last of a group is reaped. */
static void look_for_rests(struct agent *agent)
{
    list_for_each(cursor, next, &agent->running)
    {
        struct exec *exec = container_of(cursor, struct exec, link);
        if (exec->rest && kill(-exec->rest, 0) < 0 && errno == ESRCH)
            rest_ended(exec);
    }
}

static bool reap_one(struct agent *agent)
{
    /* Looked at before it is reaped: its group's number is not reused as long as it is a
     * zombie. */
    siginfo_t ended = {0};
    if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) < 0 || !ended.si_pid)
        return false;
    struct exec *exec = find_pid(agent, ended.si_pid);
    if (exec && (exec->timed_out || exec->cancelled) && !in_grace(exec))
        signal_group(exec, SIGKILL);
    bool service = !exec && service_reap_first(agent, ended.si_pid);
    int status;
    if (waitpid(ended.si_pid, &status, WNOHANG) != ended.si_pid)
        return true;
    if (exec)
        exec_exited(exec, status);
    else if (service)
        service_reaped(agent, ended.si_pid, status);
    else
        shell_child_ended(agent, ended.si_pid, status);
    service_orphan_ended(agent);
    return true;
}

void exec_reap(struct agent *agent)
{
    while (reap_one(agent))
        ;
    look_for_rests(agent);
}

void exec_free_all(struct agent *agent)
{
    struct list *heads[] = {&agent->running, &agent->finished};
    for (int i = 0; i < 2; i++)
        while (!list_empty(heads[i])) {
            struct exec *exec = container_of(heads[i]->next, struct exec, link);
            exec_drop_waiters(exec, NULL);
            exec_drop_inputs(exec, NULL);
            close_output(&exec->out);
            close_output(&exec->err);
            exec_input_close(exec);
            free_event(&exec->timeout);
            free_event(&exec->killer);
            free_event(&exec->drainer);
            exec_free(exec);
        }
    map_free(&agent->execs);
}

void exec_signal_all(struct agent *agent, int signal)
{
    list_for_each(cursor, next, &agent->running)
        signal_group(container_of(cursor, struct exec, link), signal);
}

/* Starting. */

static bool watch_output(struct exec *exec, struct output *output, int fd)
{
    output->fd = fd;
    output->event = event_new(exec->agent->base, fd, EV_READ | EV_PERSIST, on_output, output);
    return output->event && event_add(output->event, NULL) == 0;
}

static uint64_t bounded(uint64_t value, uint64_t otherwise)
{
    return value == 0 ? otherwise : value > KEEP_MAX ? KEEP_MAX : value;
}

static struct exec *exec_new(struct agent *agent,
                             const Hearth__Agent__V1__ExecStartRequest *request)
{
    struct exec *exec = calloc(1, sizeof *exec);
    if (!exec)
        return NULL;
    exec->agent = agent;
    exec->running = true;
    exec->stdin_fd = -1;
    exec->stdin_open = request->stdin_open;
    exec->kill_grace_ms = request->kill_grace_ms ? request->kill_grace_ms : GRACE_DEFAULT_MS;
    exec->drain_ms = request->drain_ms ? request->drain_ms : DRAIN_DEFAULT_MS;
    exec->out = (struct output){.exec = exec, .fd = -1, .redact = secrets_stream(agent)};
    exec->err = (struct output){.exec = exec, .fd = -1, .redact = secrets_stream(agent)};
    ring_init(&exec->out.ring, bounded(request->head_bytes, HEAD_DEFAULT),
              bounded(request->tail_bytes, TAIL_DEFAULT));
    ring_init(&exec->err.ring, bounded(request->head_bytes, HEAD_DEFAULT),
              bounded(request->tail_bytes, TAIL_DEFAULT));
    list_init(&exec->link);
    list_init(&exec->waiters);
    list_init(&exec->inputs);
    snprintf(exec->exec_id, sizeof exec->exec_id, "%s", request->exec_id);
    if (map_insert(&agent->execs, &exec->entry, exec->exec_id)) {
        free_output(&exec->out);
        free_output(&exec->err);
        free(exec);
        return NULL;
    }
    list_append(&agent->running, &exec->link);
    agent->running_count++;
    exec->started_us = clock_monotonic_us();
    exec->started_wall_us = clock_wall_us();
    return exec;
}

static void launch(struct exec *exec, const Hearth__Agent__V1__ExecStartRequest *request)
{
    struct command_pipes pipes;
    struct command command = {.arguments = request->argv,
                              .argument_count = request->n_argv,
                              .cwd = request->cwd,
                              .variables = request->environment,
                              .variable_count = request->n_environment,
                              .secrets = exec->agent->secrets,
                              .secret_variables = request->secret_environment,
                              .secret_variable_count = request->n_secret_environment,
                              .limits = &exec->agent->child_limits};
    int error = spawn_command(&command, &exec->pid, &pipes, exec->problem, sizeof exec->problem,
                              &exec->exit_code);
    if (error) {
        secrets_clean(exec->agent, exec->problem, sizeof exec->problem);
        exec->exited = true;
        exec->out.ended = exec->err.ended = true;
        maybe_finish(exec);
        return;
    }
    exec->started = true;
    bool whole = exec_input_watch(exec, pipes.input) == 0 &&
                 exec_input_queue(exec, request->stdin.data, request->stdin.len) == 0;
    whole = watch_output(exec, &exec->out, pipes.output) && whole;
    whole = watch_output(exec, &exec->err, pipes.errors) && whole;
    if (!whole) {
        snprintf(exec->problem, sizeof exec->problem, "the agent is out of memory");
        signal_group(exec, SIGKILL);
        exec_input_close(exec);
        return;
    }
    if (request->timeout_ms)
        exec->timeout = start_timer(exec, request->timeout_ms, time_is_up, exec);
    exec_input_write(exec);
}

void exec_handle_start(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ExecStartRequest *request)
{
    size_t length = strlen(request->exec_id);
    if (!length || length >= sizeof((struct exec *)0)->exec_id || !request->n_argv) {
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "exec_id and argv are needed");
        return;
    }
    if (find(agent, request->exec_id)) {
        call_refuse(call, LINK_STATUS_ALREADY_EXISTS, "there is an exec of this ID");
        return;
    }
    if (agent->stop.phase != STOP_NONE) {
        call_refuse(call, LINK_STATUS_UNAVAILABLE, "the guest is stopping");
        return;
    }
    if (agent->running_count >= agent->execs_max) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED,
                    "%u commands run in this guest, as many as can at one time",
                    agent->running_count);
        return;
    }
    if (!secrets_known_or_refuse(agent, call, request->secret_environment,
                                 request->n_secret_environment))
        return;
    struct exec *exec = exec_new(agent, request);
    if (!exec) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return;
    }
    Hearth__Agent__V1__ExecReadRequest now = HEARTH__AGENT__V1__EXEC_READ_REQUEST__INIT;
    launch(exec, request);
    exec_wait_for(exec, call, request->read ? request->read : &now);
}

struct exec *exec_find_or_refuse(struct agent *agent, struct link_call *call, const char *exec_id)
{
    struct exec *exec = find(agent, exec_id);
    if (!exec)
        call_refuse(call, LINK_STATUS_NOT_FOUND, "there is no exec of this ID");
    return exec;
}

void exec_handle_read(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__ExecReadRequest *request)
{
    struct exec *exec = exec_find_or_refuse(agent, call, request->exec_id);
    if (exec)
        exec_wait_for(exec, call, request);
}

void exec_handle_cancel(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ExecCancelRequest *request)
{
    struct exec *exec = exec_find_or_refuse(agent, call, request->exec_id);
    if (!exec)
        return;
    if (exec->running && !exec->exited) {
        exec->cancelled = true;
        end_group(exec, request->kill_grace_ms ? request->kill_grace_ms : exec->kill_grace_ms);
    }
    Hearth__Agent__V1__Empty empty = HEARTH__AGENT__V1__EMPTY__INIT;
    link_call_reply(call, &empty.base);
}

static void forget_more(struct agent *agent, const Hearth__Agent__V1__ExecForgetRequest *request)
{
    for (size_t i = 0; i < request->n_more; i++) {
        struct exec *exec = find(agent, request->more[i]);
        if (exec && !exec->running)
            drop_finished(exec);
    }
}

void exec_handle_forget(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ExecForgetRequest *request)
{
    forget_more(agent, request);
    struct exec *exec = exec_find_or_refuse(agent, call, request->exec_id);
    if (!exec)
        return;
    if (exec->running) {
        call_refuse(call, LINK_STATUS_FAILED_PRECONDITION, "the command is running");
        return;
    }
    drop_finished(exec);
    Hearth__Agent__V1__Empty empty = HEARTH__AGENT__V1__EMPTY__INIT;
    link_call_reply(call, &empty.base);
}

void exec_call_gone(struct agent *agent, struct link_call *call)
{
    list_for_each(cursor, next, &agent->running)
    {
        struct exec *exec = container_of(cursor, struct exec, link);
        exec_drop_waiters(exec, call);
        exec_drop_inputs(exec, call);
    }
}
