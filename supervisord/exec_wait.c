#include "base/clock.h"
#include "base/text.h"
#include "supervisord/exec_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SNAPSHOT_TIMEOUT_MS 10000
#define ASK_TIMEOUT_MS 30000
/* What is told at once of a command's output as it comes: as others wait for no longer than a piece
 * takes, a command that floods is told in many. */
#define PIECE_BYTES ((uint64_t)16 << 10)

static void wait_free(struct exec_wait *wait)
{
    list_remove(&wait->link);
    timer_free(&wait->deadline);
    if (wait->call)
        agent_call_cancel(wait->call);
    free(wait);
}

static void answer(struct exec_wait *wait, int error, const struct hearth_failure *failure,
                   const struct exec_status *status)
{
    exec_done done = wait->done;
    void *arg = wait->arg;
    struct hearth_failure kept =
        failure ? *failure : HEARTH_FAILURE_NONE; /* it may be the wait's own */
    wait_free(wait);
    done(arg, error, &kept, status);
}

static void answer_failed(void *arg)
{
    struct exec_wait *wait = arg;
    if (wait->done)
        answer(wait, (int)wait->failure.error, &wait->failure, NULL);
    else
        wait_free(wait);
}

void exec_wait_fail(struct exec_wait *wait, const struct hearth_failure *failure)
{
    wait->failure = *failure;
    wait->exec = NULL;
    wait->deferred = true;
    list_remove(&wait->link);
    loop_defer(wait->supervisor->loop, answer_failed, wait);
}

/* What is told of a command that runs may end within a character, which the next answer tells. */
static void leave_cut_character(struct exec_output *output)
{
    size_t last = output->omitted ? output->data.length - output->head : output->data.length;
    size_t begun = utf8_begun(output->data.data + (output->data.length - last), last);
    if (!begun || output->next < begun)
        return;
    output->data.length -= begun;
    output->next -= begun;
    if (output->head > output->data.length)
        output->head = output->data.length;
}

/* With output that the agent has just told. False: that was no whole character, and is not told. */
static bool answer_with(struct exec_wait *wait, const Hearth__Agent__V1__ExecState *state)
{
    struct exec_output output = {0}, errors = {0};
    struct exec_status status;
    struct hearth_failure failure;
    uint64_t limit = wait->exec->max_output_bytes;
    bool told = true;
    if (exec_output_set(&output, state->stdout, limit) ||
        exec_output_set(&errors, state->stderr, limit)) {
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        answer(wait, (int)failure.error, &failure, NULL);
    } else {
        leave_cut_character(&output);
        leave_cut_character(&errors);
        told = wait->snapshot || output.next > wait->stdout_offset ||
               errors.next > wait->stderr_offset;
        exec_fill_status(wait->exec, &status);
        status.started = status.started || state->pid != 0;
        exec_slice(&status, &output, &errors, wait->stdout_offset, wait->stderr_offset);
        if (told)
            answer(wait, 0, NULL, &status);
    }
    exec_output_free(&output);
    exec_output_free(&errors);
    return told;
}

static void answer_nothing_new(struct exec_wait *wait)
{
    Hearth__Agent__V1__ExecState state = HEARTH__AGENT__V1__EXEC_STATE__INIT;
    answer_with(wait, &state);
}

static bool news(const struct exec_wait *wait, const Hearth__Agent__V1__ExecState *state)
{
    return (state->stdout && state->stdout->next_offset > wait->stdout_seen) ||
           (state->stderr && state->stderr->next_offset > wait->stderr_seen);
}

static void see_to(struct exec_wait *wait, uint64_t stdout_seen, uint64_t stderr_seen)
{
    wait->stdout_seen = stdout_seen;
    wait->stderr_seen = stderr_seen;
}

static bool sees_cut_character(const struct exec_wait *wait)
{
    return wait->stdout_seen > wait->stdout_offset || wait->stderr_seen > wait->stderr_offset;
}

static void ask(struct exec_wait *wait);

/* There is news for one that waits for output. */
static void tell_or_wait(struct exec_wait *wait, const Hearth__Agent__V1__ExecState *state)
{
    if (sees_cut_character(wait))
        see_to(wait, wait->stdout_offset, wait->stderr_offset); /* from the character's beginning */
    else if (answer_with(wait, state))
        return;
    else
        see_to(wait, state->stdout ? state->stdout->next_offset : wait->stdout_offset,
               state->stderr ? state->stderr->next_offset : wait->stderr_offset);
    ask(wait);
}

static void told(void *arg, enum link_status status, const struct hearth_failure *failure,
                 const ProtobufCMessage *reply)
{
    (void)failure;
    struct exec_wait *wait = arg;
    const Hearth__Agent__V1__ExecState *state = (const Hearth__Agent__V1__ExecState *)reply;
    wait->call = NULL;
    if (status == LINK_STATUS_OK && !state->running && state->exit) {
        /* The watcher hears the same in a moment and ends every wait; where only output was asked
         * for and there is some, it goes out first. */
        if (!wait->until_end && !sees_cut_character(wait) && news(wait, state))
            answer_with(wait, state);
        return;
    }
    if (status == LINK_STATUS_OK && wait->snapshot)
        answer_with(wait, state);
    else if (status == LINK_STATUS_OK && !wait->until_end && news(wait, state))
        tell_or_wait(wait, state);
    else if (wait->snapshot)
        answer_nothing_new(wait); /* the link is down: what is known is that it runs */
    else if (status == LINK_STATUS_OK)
        ask(wait);
    /* else: the deadline or the end will answer. */
}

static void ask(struct exec_wait *wait)
{
    Hearth__Agent__V1__ExecReadRequest request = HEARTH__AGENT__V1__EXEC_READ_REQUEST__INIT;
    int64_t left = wait->deadline.deadline_us == CLOCK_NEVER
                       ? ASK_TIMEOUT_MS
                       : (wait->deadline.deadline_us - clock_monotonic_us()) / US_PER_MS;
    request.exec_id = wait->exec->exec_id;
    request.stdout_offset = wait->stdout_seen;
    request.stderr_offset = wait->stderr_seen;
    request.max_bytes = wait->exec->max_output_bytes;
    if (!wait->until_end && request.max_bytes > PIECE_BYTES)
        request.max_bytes = PIECE_BYTES;
    request.wait_ms = wait->snapshot || left <= 0 ? 0
                      : left > ASK_TIMEOUT_MS     ? ASK_TIMEOUT_MS
                                                  : (uint32_t)left;
    wait->call = agent_call(&wait->exec->workspace->sandbox->link, "ExecRead", &request.base,
                            &hearth__agent__v1__exec_state__descriptor,
                            wait->snapshot ? SNAPSHOT_TIMEOUT_MS : 2 * ASK_TIMEOUT_MS, told, wait);
}

/* The time is up and it runs still: one last look at its output. */
static void deadline_passed(void *arg)
{
    struct exec_wait *wait = arg;
    if (wait->overdue) {
        struct hearth_failure failure;
        int error = hearth_fail(&failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                                "the guest has not told of the command's end, though its time "
                                "limit is long over");
        hearth_failure_hint(&failure, "The guest may hang: workspace_stop ends it, workspace_start "
                                      "starts it again with its files.");
        answer(wait, error, &failure, NULL);
        return;
    }
    wait->due = !wait->exec->noted;
    if (wait->due) {
        exec_note(wait->exec);
        return;
    }
    wait->snapshot = true;
    see_to(wait, wait->stdout_offset, wait->stderr_offset);
    if (wait->call)
        agent_call_cancel(steal_pointer(wait->call));
    ask(wait);
}

void exec_wait_bound(struct exec_wait *wait, int64_t after_ms)
{
    wait->overdue = true;
    timer_set(&wait->deadline, clock_monotonic_us() + after_ms * US_PER_MS);
}

void exec_wait_noted(struct exec *exec)
{
    list_for_each(cursor, next, &exec->waits)
    {
        struct exec_wait *wait = container_of(cursor, struct exec_wait, link);
        if (wait->due)
            deadline_passed(wait);
    }
}

struct exec_wait *exec_wait_new(struct exec *exec, int wait_ms, exec_done done, void *arg)
{
    struct exec_wait *wait = calloc(1, sizeof *wait);
    if (!wait)
        abort();
    *wait = (struct exec_wait){.exec = exec, .until_end = true, .done = done, .arg = arg};
    list_init(&wait->link);
    if (!exec)
        return wait;
    wait->supervisor = exec->supervisor;
    memcpy(wait->exec_id, exec->exec_id, sizeof wait->exec_id);
    list_append(&exec->waits, &wait->link);
    timer_init(&wait->deadline, exec->supervisor->loop, deadline_passed, wait);
    if (wait_ms >= 0)
        timer_set(&wait->deadline, clock_monotonic_us() + wait_ms * US_PER_MS);
    return wait;
}

void exec_finish_waits(struct exec *exec, int error, const struct hearth_failure *failure)
{
    while (!list_empty(&exec->waits)) {
        struct exec_wait *wait = container_of(exec->waits.next, struct exec_wait, link);
        struct exec_status status;
        exec_fill_status(exec, &status);
        exec_slice(&status, &exec->output, &exec->errors, wait->stdout_offset, wait->stderr_offset);
        answer(wait, error, failure, error ? NULL : &status);
    }
}

void exec_wait_cancel(struct exec_wait *wait)
{
    wait->done = NULL;
    if (!wait->deferred)
        wait_free(wait);
}

const char *exec_wait_id(const struct exec_wait *wait)
{
    return wait->exec_id;
}

/* Reading from the history. */

static int answer_row(void *arg, const struct row_exec *row)
{
    struct exec_wait *wait = arg;
    struct exec_status status;
    exec_done done = wait->done;
    exec_status_from_row(row, wait->stdout_offset, wait->stderr_offset, &status);
    wait->done = NULL;
    done(wait->arg, 0, NULL, &status);
    return 0;
}

static void answer_from_history(void *arg)
{
    struct exec_wait *wait = arg;
    if (wait->done &&
        rows_find_exec(wait->supervisor->history_reader, wait->workspace_id, wait->exec_id,
                       answer_row, wait, &wait->failure) == 0 &&
        wait->done) {
        hearth_fail(&wait->failure, HEARTH_ENOTFOUND, "exec_not_found",
                    "the workspace knows of no such command");
        hearth_failure_field(&wait->failure, "/exec_id");
    }
    answer_failed(wait);
}

/* Of a command that has ended: from what is kept of it until it is recorded, else from the history.
 * It is looked up only now, because the recording may come, and free it, before the turn ends. */
static void answer_ended(void *arg)
{
    struct exec_wait *wait = arg;
    struct workspace *workspace = supervisor_workspace(wait->supervisor, wait->workspace_id);
    struct exec *exec = workspace ? exec_find(workspace, wait->exec_id) : NULL;
    struct exec_status status;
    if (!wait->done || !exec) {
        answer_from_history(wait);
        return;
    }
    exec_fill_status(exec, &status);
    exec_slice(&status, &exec->output, &exec->errors, wait->stdout_offset, wait->stderr_offset);
    answer(wait, 0, NULL, &status);
}

void exec_read(struct workspace *workspace, const char *exec_id, const char *cursor, int wait_ms,
               bool until_end, exec_done done, void *arg, struct exec_wait **ret_wait)
{
    bool good_id = id_valid(exec_id, "ex");
    struct exec *exec = good_id ? exec_find(workspace, exec_id) : NULL;
    bool running = exec && !exec->ended;
    struct exec_wait *wait = exec_wait_new(running ? exec : NULL, wait_ms, done, arg);
    struct hearth_failure failure;
    wait->supervisor = workspace->supervisor;
    wait->until_end = until_end;
    *ret_wait = wait;
    if (exec_cursor_parse(cursor, &wait->stdout_offset, &wait->stderr_offset, &failure)) {
        exec_wait_fail(wait, &failure);
        return;
    }
    see_to(wait, wait->stdout_offset, wait->stderr_offset);
    if (running) {
        if (!until_end)
            ask(wait);
        return;
    }
    wait->deferred = true;
    if (good_id)
        memcpy(wait->exec_id, exec_id, strlen(exec_id) + 1);
    memcpy(wait->workspace_id, workspace->workspace_id, sizeof wait->workspace_id);
    loop_defer(workspace->supervisor->loop, answer_ended, wait);
}
