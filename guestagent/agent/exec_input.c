/* A command's standard input: queued, written as its pipe takes it, answered when it has. */
#include "guestagent/agent/exec_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An ExecInput whose bytes the pipe has not taken yet. */
struct input {
    struct list link; // exec::inputs
    struct link_call *call;
    uint64_t until, length;
};

void exec_input_close(struct exec *exec)
{
    if (exec->stdin_event)
        event_free(exec->stdin_event);
    exec->stdin_event = NULL;
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

void exec_input_write(struct exec *exec)
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
            exec_input_close(exec);
            return;
        }
        exec->pending_at += (size_t)put;
        exec->taken += (uint64_t)put;
    }
    answer_inputs(exec);
    exec->pending_at = exec->pending_length = 0;
    if (!exec->stdin_open)
        exec_input_close(exec);
}

static void on_input_room(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    exec_input_write(arg);
}

int exec_input_queue(struct exec *exec, const void *data, size_t length)
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

int exec_input_watch(struct exec *exec, int fd)
{
    exec->stdin_fd = fd;
    exec->stdin_event = event_new(exec->agent->base, fd, EV_WRITE, on_input_room, exec);
    return exec->stdin_event ? 0 : -ENOMEM;
}

void exec_drop_inputs(struct exec *exec, const struct link_call *call)
{
    list_for_each(cursor, next, &exec->inputs)
    {
        struct input *input = container_of(cursor, struct input, link);
        if (!call || input->call == call) {
            list_remove(&input->link);
            free(input);
        }
    }
}

void exec_handle_input(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ExecInputRequest *request)
{
    struct exec *exec = exec_find_or_refuse(agent, call, request->exec_id);
    if (!exec)
        return;
    struct input *input = exec->stdin_fd >= 0 && exec->stdin_open ? calloc(1, sizeof *input) : NULL;
    if (!input) {
        call_refuse(call, LINK_STATUS_FAILED_PRECONDITION, "the command's input is closed");
        return;
    }
    if (exec->pending_length + request->data.len > LINK_MESSAGE_MAX ||
        exec_input_queue(exec, request->data.data, request->data.len)) {
        free(input);
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "too much input waits to be read");
        return;
    }
    *input = (struct input){.call = call, .until = exec->queued, .length = request->data.len};
    list_init(&input->link);
    list_append(&exec->inputs, &input->link);
    if (request->end)
        exec->stdin_open = false;
    exec_input_write(exec);
}
