/* Readers of a command: each waits for output past its offsets or for the end, and consumes
 * nothing. */
#include "guestagent/agent/exec_internal.h"

#include <event2/event.h>
#include <stdlib.h>

#define READ_DEFAULT ((uint64_t)1 << 20)
#define READ_MAX ((uint64_t)3 << 20) /* two streams fit in one message */

/* A reader that waits for output or the end. */
struct waiter {
    struct list link; // exec::waiters
    struct exec *exec;
    struct link_call *call;
    uint64_t stdout_offset, stderr_offset, max_bytes;
    bool until_end;
    struct event *deadline;
};

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
    if (waiter->deadline)
        event_free(waiter->deadline);
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

void exec_answer_satisfied(struct exec *exec)
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

static void set_deadline(struct waiter *waiter, uint32_t ms)
{
    struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    waiter->deadline = evtimer_new(waiter->exec->agent->base, waiter_expired, waiter);
    if (waiter->deadline)
        event_add(waiter->deadline, &interval);
}

void exec_wait_for(struct exec *exec, struct link_call *call,
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
        set_deadline(waiter, request->wait_ms);
}

void exec_drop_waiters(struct exec *exec, const struct link_call *call)
{
    list_for_each(cursor, next, &exec->waiters)
    {
        struct waiter *waiter = container_of(cursor, struct waiter, link);
        if (!call || waiter->call == call)
            waiter_free(waiter);
    }
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
