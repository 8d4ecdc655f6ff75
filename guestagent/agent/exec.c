/* Commands: spawned, drained into rings, timed, ended, reaped, and read by any number of readers.
 */
#include "base/clock.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/ring.h"
#include "guestagent/agent/spawn_command.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD_DEFAULT ((uint64_t)512 << 10)
#define TAIL_DEFAULT ((uint64_t)512 << 10)
#define KEEP_MAX ((uint64_t)64 << 20) /* head or tail of one stream */
#define READ_DEFAULT ((uint64_t)1 << 20)
#define READ_MAX ((uint64_t)3 << 20) /* two streams fit in one message */
#define GRACE_DEFAULT_MS 2000
#define DRAIN_DEFAULT_MS 1000
#define EXIT_TIMED_OUT 124
#define CHUNK ((size_t)64 << 10)

struct output {
    struct exec *exec;
    struct ring ring;
    int fd; /* -1 once ended or given up */
    struct event *event;
    bool ended; /* end of file was seen */
};

struct exec {
    struct agent *agent;
    char exec_id[64];
    struct map_entry entry; // agent::execs
    struct list link;       // agent::running or agent::finished
    struct list waiters;    // waiter::link
    struct list inputs;     // input::link
    pid_t pid;              /* 0 once reaped */
    bool running;           /* exit or streams are still awaited */
    bool started, exited, timed_out, cancelled, drained;
    int exit_code, signal;
    char problem[160];
    int64_t started_wall_us, started_us, ended_us;
    struct output out, err;
    int stdin_fd;
    bool stdin_open; /* more may come by ExecInput */
    struct event *stdin_event;
    char *pending; /* not yet taken by the pipe */
    size_t pending_length, pending_at;
    uint64_t queued, taken; /* bytes of input ever queued and ever taken */
    uint32_t kill_grace_ms, drain_ms;
    struct event *timeout, *killer, *drainer;
};

/* A reader that waits for output or the end. */
struct waiter {
    struct list link; // exec::waiters
    struct exec *exec;
    struct link_call *call;
    uint64_t stdout_offset, stderr_offset, max_bytes;
    bool until_end;
    struct event *deadline;
};

/* An ExecInput whose bytes the pipe has not taken yet. */
struct input {
    struct list link; // exec::inputs
    struct link_call *call;
    uint64_t until, length;
};

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

/* Answers. */

struct reply {
    Hearth__Agent__V1__ExecSegment segments[2][RING_SEGMENTS_MAX], *lists[2][RING_SEGMENTS_MAX];
    Hearth__Agent__V1__ExecOutput outputs[2];
    Hearth__Agent__V1__ExecExit exit;
    Hearth__Agent__V1__ExecState state;
};

static void fill_output(struct reply *reply, int index, const struct output *output,
                        uint64_t offset, uint64_t max)
{
    struct ring_segment found[RING_SEGMENTS_MAX];
    Hearth__Agent__V1__ExecOutput *message = &reply->outputs[index];
    hearth__agent__v1__exec_output__init(message);
    unsigned count = max ? ring_read(&output->ring, offset, max, found, &message->next_offset) : 0;
    for (unsigned i = 0; i < count; i++) {
        Hearth__Agent__V1__ExecSegment *segment = &reply->segments[index][i];
        hearth__agent__v1__exec_segment__init(segment);
        segment->offset = found[i].offset;
        segment->data.data = (uint8_t *)(uintptr_t)found[i].data;
        segment->data.len = found[i].length;
        reply->lists[index][i] = segment;
    }
    message->n_segments = count;
    message->segments = reply->lists[index];
    message->total = output->ring.total;
    message->ended = output->ended;
    if (!max)
        message->next_offset = output->ring.total;
}

static void fill_reply(struct reply *reply, struct exec *exec, uint64_t stdout_offset,
                       uint64_t stderr_offset, uint64_t max)
{
    hearth__agent__v1__exec_state__init(&reply->state);
    reply->state.exec_id = exec->exec_id;
    reply->state.running = exec->running;
    reply->state.started_at_us = (uint64_t)exec->started_wall_us;
    reply->state.pid = (uint32_t)exec->pid;
    fill_output(reply, 0, &exec->out, stdout_offset, max);
    fill_output(reply, 1, &exec->err, stderr_offset, max);
    reply->state.stdout = &reply->outputs[0];
    reply->state.stderr = &reply->outputs[1];
    if (exec->running)
        return;
    hearth__agent__v1__exec_exit__init(&reply->exit);
    reply->exit.started = exec->started;
    reply->exit.exit_code = exec->exit_code;
    reply->exit.signal = (uint32_t)exec->signal;
    reply->exit.timed_out = exec->timed_out;
    reply->exit.cancelled = exec->cancelled;
    reply->exit.drained = exec->drained;
    reply->exit.duration_us = (uint64_t)(exec->ended_us - exec->started_us);
    reply->exit.problem = exec->problem;
    reply->state.exit = &reply->exit;
}

static void waiter_free(struct waiter *waiter)
{
    list_remove(&waiter->link);
    free_event(&waiter->deadline);
    free(waiter);
}

static void answer(struct waiter *waiter)
{
    struct reply reply;
    struct link_call *call = waiter->call;
    fill_reply(&reply, waiter->exec, waiter->stdout_offset, waiter->stderr_offset,
               waiter->max_bytes);
    waiter_free(waiter);
    link_call_reply(call, &reply.state.base);
}

static bool satisfied(const struct waiter *waiter)
{
    const struct exec *exec = waiter->exec;
    return !exec->running || (!waiter->until_end && (exec->out.ring.total > waiter->stdout_offset ||
                                                     exec->err.ring.total > waiter->stderr_offset));
}

static void answer_satisfied(struct exec *exec)
{
    list_for_each(cursor, next, &exec->waiters)
    {
        struct waiter *waiter = container_of(cursor, struct waiter, link);
        if (satisfied(waiter))
            answer(waiter);
    }
}

static void waiter_expired(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    answer(arg);
}

static void wait_for(struct exec *exec, struct link_call *call,
                     const Hearth__Agent__V1__ExecReadRequest *request)
{
    struct waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return;
    }
    *waiter = (struct waiter){.exec = exec,
                              .call = call,
                              .stdout_offset = request->stdout_offset,
                              .stderr_offset = request->stderr_offset,
                              .max_bytes = request->max_bytes ? request->max_bytes : READ_DEFAULT,
                              .until_end = request->until_end};
    if (waiter->max_bytes > READ_MAX)
        waiter->max_bytes = READ_MAX;
    list_init(&waiter->link);
    list_append(&exec->waiters, &waiter->link);
    if (!request->wait_ms || satisfied(waiter))
        answer(waiter);
    else if (request->wait_ms != UINT32_MAX)
        waiter->deadline = start_timer(exec, request->wait_ms, waiter_expired, waiter);
}

/* Ends. */

static void exec_free(struct exec *exec)
{
    struct agent *agent = exec->agent;
    map_remove(&agent->execs, &exec->entry);
    list_remove(&exec->link);
    ring_free(&exec->out.ring);
    ring_free(&exec->err.ring);
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
}

static void close_input(struct exec *exec)
{
    free_event(&exec->stdin_event);
    if (exec->stdin_fd >= 0)
        close(exec->stdin_fd);
    exec->stdin_fd = -1;
    free(exec->pending); /* nobody reads it any more */
    exec->pending = NULL;
    exec->pending_at = exec->pending_length = 0;
    while (!list_empty(&exec->inputs)) {
        struct input *input = container_of(exec->inputs.next, struct input, link);
        Hearth__Agent__V1__ExecInputReply reply = HEARTH__AGENT__V1__EXEC_INPUT_REPLY__INIT;
        struct link_call *call = input->call;
        uint64_t begin = input->until - input->length;
        reply.accepted = exec->taken > begin ? exec->taken - begin : 0;
        reply.closed = true;
        list_remove(&input->link);
        free(input);
        link_call_reply(call, &reply.base);
    }
}

/* The end of all of it: exit is known and both streams have ended, or were given up. */
static void maybe_finish(struct exec *exec)
{
    if (!exec->running || !exec->exited || exec->out.fd >= 0 || exec->err.fd >= 0)
        return;
    exec->running = false;
    exec->drained = exec->out.ended && exec->err.ended;
    exec->ended_us = clock_monotonic_us();
    close_input(exec);
    free_event(&exec->timeout);
    free_event(&exec->killer);
    free_event(&exec->drainer);
    keep_finished(exec);
    answer_satisfied(exec);
}

static void drain_limit_passed(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct exec *exec = arg;
    close_output(&exec->out);
    close_output(&exec->err);
    maybe_finish(exec);
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    static char chunk[CHUNK];
    struct output *output = arg;
    struct exec *exec = output->exec;
    (void)what;
    ssize_t got = read(fd, chunk, sizeof chunk);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        ring_append(&output->ring, chunk, (size_t)got);
    } else {
        output->ended = true;
        close_output(output);
    }
    maybe_finish(exec);
    if (exec->running)
        answer_satisfied(exec);
}

static void signal_group(struct exec *exec, int signal)
{
    if (exec->pid > 0)
        kill(-exec->pid, signal);
}

static void kill_now(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    signal_group(arg, SIGKILL);
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

static void exec_exited(struct exec *exec, int status)
{
    exec->exited = true;
    exec->pid = 0;
    if (WIFSIGNALED(status)) {
        exec->signal = WTERMSIG(status);
        exec->exit_code = 128 + exec->signal;
    } else {
        exec->exit_code = WEXITSTATUS(status);
    }
    if (exec->timed_out)
        exec->exit_code = EXIT_TIMED_OUT;
    maybe_finish(exec);
    if (exec->running)
        exec->drainer = start_timer(exec, exec->drain_ms, drain_limit_passed, exec);
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

void exec_reap(struct agent *agent)
{
    for (;;) {
        /* Looked at before it is reaped: its group's number is not reused as long as it is a
         * zombie. */
        siginfo_t ended = {0};
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) < 0 || !ended.si_pid)
            return;
        struct exec *exec = find_pid(agent, ended.si_pid);
        if (exec && (exec->timed_out || exec->cancelled))
            signal_group(exec, SIGKILL);
        int status;
        if (waitpid(ended.si_pid, &status, WNOHANG) == ended.si_pid && exec)
            exec_exited(exec, status);
    }
}

void exec_end_all(struct agent *agent)
{
    list_for_each(cursor, next, &agent->running)
        signal_group(container_of(cursor, struct exec, link), SIGTERM);
}

/* Input. */

static void answer_inputs(struct exec *exec)
{
    list_for_each(cursor, next, &exec->inputs)
    {
        struct input *input = container_of(cursor, struct input, link);
        if (input->until > exec->taken)
            return;
        Hearth__Agent__V1__ExecInputReply reply = HEARTH__AGENT__V1__EXEC_INPUT_REPLY__INIT;
        struct link_call *call = input->call;
        reply.accepted = input->length;
        list_remove(&input->link);
        free(input);
        link_call_reply(call, &reply.base);
    }
}

static void write_input(struct exec *exec)
{
    while (exec->stdin_fd >= 0 && exec->pending_at < exec->pending_length) {
        ssize_t put = write(exec->stdin_fd, exec->pending + exec->pending_at,
                            exec->pending_length - exec->pending_at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN) {
            event_add(exec->stdin_event, NULL);
            return;
        }
        if (put < 0) { /* nobody reads it any more */
            close_input(exec);
            return;
        }
        exec->pending_at += (size_t)put;
        exec->taken += (uint64_t)put;
    }
    answer_inputs(exec);
    exec->pending_at = exec->pending_length = 0;
    if (!exec->stdin_open)
        close_input(exec);
}

static void on_input_room(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    write_input(arg);
}

static int queue_input(struct exec *exec, const void *data, size_t length)
{
    if (!length)
        return 0;
    char *pending = realloc(exec->pending, exec->pending_length + length);
    if (!pending)
        return -ENOMEM;
    memcpy(pending + exec->pending_length, data, length);
    exec->pending = pending;
    exec->pending_length += length;
    exec->queued += length;
    return 0;
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
    exec->out = (struct output){.exec = exec, .fd = -1};
    exec->err = (struct output){.exec = exec, .fd = -1};
    ring_init(&exec->out.ring, bounded(request->head_bytes, HEAD_DEFAULT),
              bounded(request->tail_bytes, TAIL_DEFAULT));
    ring_init(&exec->err.ring, bounded(request->head_bytes, HEAD_DEFAULT),
              bounded(request->tail_bytes, TAIL_DEFAULT));
    list_init(&exec->link);
    list_init(&exec->waiters);
    list_init(&exec->inputs);
    snprintf(exec->exec_id, sizeof exec->exec_id, "%s", request->exec_id);
    if (map_insert(&agent->execs, &exec->entry, exec->exec_id)) {
        free(exec);
        return NULL;
    }
    list_append(&agent->running, &exec->link);
    exec->started_us = clock_monotonic_us();
    exec->started_wall_us = clock_wall_us();
    return exec;
}

static void launch(struct exec *exec, const Hearth__Agent__V1__ExecStartRequest *request)
{
    struct command_pipes pipes;
    int error = spawn_command(request, &exec->pid, &pipes, exec->problem, sizeof exec->problem,
                              &exec->exit_code);
    if (error) {
        exec->exited = true;
        exec->out.ended = exec->err.ended = true;
        maybe_finish(exec);
        return;
    }
    exec->started = true;
    exec->stdin_fd = pipes.input;
    exec->stdin_event = event_new(exec->agent->base, pipes.input, EV_WRITE, on_input_room, exec);
    bool whole =
        exec->stdin_event && queue_input(exec, request->stdin.data, request->stdin.len) == 0;
    whole = watch_output(exec, &exec->out, pipes.output) && whole;
    whole = watch_output(exec, &exec->err, pipes.errors) && whole;
    if (!whole) {
        snprintf(exec->problem, sizeof exec->problem, "the agent is out of memory");
        signal_group(exec, SIGKILL);
        close_input(exec);
        return;
    }
    if (request->timeout_ms)
        exec->timeout = start_timer(exec, request->timeout_ms, time_is_up, exec);
    write_input(exec);
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
    struct exec *exec = agent->execs.count < AGENT_EXECS_MAX ? exec_new(agent, request) : NULL;
    if (!exec) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED,
                    "the agent runs as many commands as it can");
        return;
    }
    Hearth__Agent__V1__ExecReadRequest now = HEARTH__AGENT__V1__EXEC_READ_REQUEST__INIT;
    launch(exec, request);
    wait_for(exec, call, request->read ? request->read : &now);
}

/* The other calls. */

static struct exec *find_or_refuse(struct agent *agent, struct link_call *call, const char *exec_id)
{
    struct exec *exec = find(agent, exec_id);
    if (!exec)
        call_refuse(call, LINK_STATUS_NOT_FOUND, "there is no exec of this ID");
    return exec;
}

void exec_handle_read(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__ExecReadRequest *request)
{
    struct exec *exec = find_or_refuse(agent, call, request->exec_id);
    if (exec)
        wait_for(exec, call, request);
}

void exec_handle_input(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ExecInputRequest *request)
{
    struct exec *exec = find_or_refuse(agent, call, request->exec_id);
    if (!exec)
        return;
    struct input *input = exec->stdin_fd >= 0 && exec->stdin_open ? calloc(1, sizeof *input) : NULL;
    if (!input) {
        call_refuse(call, LINK_STATUS_FAILED_PRECONDITION, "the command's input is closed");
        return;
    }
    if (exec->pending_length + request->data.len > LINK_MESSAGE_MAX ||
        queue_input(exec, request->data.data, request->data.len)) {
        free(input);
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "too much input waits to be read");
        return;
    }
    *input = (struct input){.call = call, .until = exec->queued, .length = request->data.len};
    list_init(&input->link);
    list_append(&exec->inputs, &input->link);
    if (request->end)
        exec->stdin_open = false;
    write_input(exec);
}

void exec_handle_cancel(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ExecCancelRequest *request)
{
    struct exec *exec = find_or_refuse(agent, call, request->exec_id);
    if (!exec)
        return;
    if (exec->running && !exec->exited) {
        exec->cancelled = true;
        end_group(exec, request->kill_grace_ms ? request->kill_grace_ms : exec->kill_grace_ms);
    }
    Hearth__Agent__V1__Empty empty = HEARTH__AGENT__V1__EMPTY__INIT;
    link_call_reply(call, &empty.base);
}

void exec_handle_list(struct agent *agent, struct link_call *call)
{
    Hearth__Agent__V1__ExecListReply reply = HEARTH__AGENT__V1__EXEC_LIST_REPLY__INIT;
    struct reply *states = calloc(agent->execs.count + 1, sizeof *states);
    Hearth__Agent__V1__ExecState **list = calloc(agent->execs.count + 1, sizeof *list);
    if (!states || !list) {
        free(states);
        free(list);
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return;
    }
    struct list *heads[] = {&agent->finished, &agent->running};
    for (int i = 0; i < 2; i++)
        list_for_each(cursor, next, heads[i])
        {
            struct reply *state = &states[reply.n_execs];
            fill_reply(state, container_of(cursor, struct exec, link), 0, 0, 0);
            list[reply.n_execs++] = &state->state;
        }
    reply.execs = list;
    link_call_reply(call, &reply.base);
    free(states);
    free(list);
}

void exec_handle_forget(struct agent *agent, struct link_call *call,
                        const Hearth__Agent__V1__ExecForgetRequest *request)
{
    struct exec *exec = find_or_refuse(agent, call, request->exec_id);
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

static void forget_call(struct exec *exec, struct link_call *call)
{
    list_for_each(cursor, next, &exec->waiters)
    {
        struct waiter *waiter = container_of(cursor, struct waiter, link);
        if (waiter->call == call)
            waiter_free(waiter);
    }
    list_for_each(cursor, next, &exec->inputs)
    {
        struct input *input = container_of(cursor, struct input, link);
        if (input->call == call) {
            list_remove(&input->link);
            free(input);
        }
    }
}

void exec_call_gone(struct agent *agent, struct link_call *call)
{
    list_for_each(cursor, next, &agent->running)
        forget_call(container_of(cursor, struct exec, link), call);
}
