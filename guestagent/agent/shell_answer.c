/* Readers of a shell: for what it wrote after a cursor, for its being idle, for its end. */
#include "guestagent/agent/shell_internal.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define READ_DEFAULT 65536
#define READ_MAX ((uint64_t)1 << 20) /* characters; at most 4 MiB in a message */
#define WAIT_DEFAULT_MS 30000        /* of a wait for idleness */
#define PROMPT_WAIT_MS 2000
#define MARKS_MAX TEXT_MARKS_MAX

enum waits_for { FOR_OUTPUT, FOR_IDLENESS, FOR_THE_PROMPT, FOR_THE_END };

struct waiter {
    struct list link; // shell::waiters
    struct shell *shell;
    struct link_call *call;
    enum waits_for what;
    uint64_t cursor, max;
    int64_t idle_us, until_us; /* until: CLOCK_NEVER for no bound */
    bool marks;
    struct event *timer;
};

static void fill_state(Hearth__Agent__V1__ShellState *state, const struct shell *shell)
{
    hearth__agent__v1__shell_state__init(state);
    state->shell_id = (char *)(uintptr_t)shell->shell_id;
    state->cwd = shell->cwd;
    state->running = shell->running;
    state->pid = (uint32_t)shell->pid;
    state->cols = shell->cols;
    state->rows = shell->rows;
    state->started_at_us = (uint64_t)shell->started_wall_us;
    state->ended_at_us = shell->running ? 0 : (uint64_t)shell->ended_wall_us;
    state->exit_code = shell->exit_code;
    state->signal = (uint32_t)shell->signal;
    state->total = shell->text.characters;
    int64_t idle = clock_monotonic_us() - shell->active_us;
    state->idle_us = idle > 0 ? (uint64_t)idle : 0;
}

void shell_reply_state(const struct shell *shell, struct link_call *call)
{
    Hearth__Agent__V1__ShellState state;
    fill_state(&state, shell);
    state.cursor = state.next_cursor = state.total;
    link_call_reply(call, &state.base);
}

/* One piece of memory from the ring's parts; NULL: no memory. */
static uint8_t *joined(const struct text_slice *slice, size_t *ret_length)
{
    size_t length = 0;
    for (unsigned i = 0; i < slice->count; i++)
        length += slice->segments[i].length;
    uint8_t *data = malloc(length + 1);
    *ret_length = length;
    for (unsigned i = 0, at = 0; data && i < slice->count; at += slice->segments[i++].length)
        memcpy(data + at, slice->segments[i].data, slice->segments[i].length);
    return data;
}

struct marks {
    Hearth__Agent__V1__ShellMark *marks, **list;
};

/* Those within what is told, and the last before it. */
static void fill_marks(struct marks *marks, Hearth__Agent__V1__ShellState *state,
                       const struct text_ring *text)
{
    marks->marks = calloc(text->mark_count + 1, sizeof *marks->marks);
    marks->list = calloc(text->mark_count + 1, sizeof(void *));
    if (!marks->marks || !marks->list)
        return;
    for (unsigned i = 0; i < text->mark_count; i++) {
        const struct text_mark *mark = &text->marks[i];
        bool passed = i + 1 < text->mark_count && text->marks[i + 1].character <= state->cursor;
        if (passed || mark->character >= state->next_cursor)
            continue;
        Hearth__Agent__V1__ShellMark *out = &marks->marks[state->n_marks];
        hearth__agent__v1__shell_mark__init(out);
        out->character = mark->character;
        out->time_us = (uint64_t)mark->time_us;
        out->cols = mark->cols;
        out->rows = mark->rows;
        marks->list[state->n_marks++] = out;
    }
    state->marks = marks->list;
}

static void waiter_free(struct waiter *waiter)
{
    list_remove(&waiter->link);
    shell_free_event(&waiter->timer);
    free(waiter);
}

static void answer_output(struct waiter *waiter)
{
    struct shell *shell = waiter->shell;
    struct link_call *call = waiter->call;
    struct text_slice slice;
    struct marks marks = {0};
    Hearth__Agent__V1__ShellState state;
    text_ring_read(&shell->text, waiter->cursor, waiter->max, &slice);
    fill_state(&state, shell);
    state.cursor = slice.cursor;
    state.next_cursor = slice.next;
    state.lost = slice.lost;
    state.idle = !shell->running || (waiter->idle_us && (int64_t)state.idle_us >= waiter->idle_us);
    state.data.data = joined(&slice, &state.data.len);
    if (waiter->marks)
        fill_marks(&marks, &state, &shell->text);
    waiter_free(waiter);
    if (state.data.data)
        link_call_reply(call, &state.base);
    else
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
    free(state.data.data);
    free(marks.marks);
    free(marks.list);
}

static void answer_state(struct waiter *waiter)
{
    const struct shell *shell = waiter->shell;
    struct link_call *call = waiter->call;
    waiter_free(waiter);
    shell_reply_state(shell, call);
}

static void answer(struct waiter *waiter)
{
    if (waiter->what == FOR_THE_PROMPT || waiter->what == FOR_THE_END)
        answer_state(waiter);
    else
        answer_output(waiter);
}

static bool satisfied(const struct waiter *waiter)
{
    const struct shell *shell = waiter->shell;
    if (!shell->running)
        return true;
    if (waiter->what == FOR_OUTPUT || waiter->what == FOR_THE_PROMPT)
        return shell->text.characters > waiter->cursor;
    return waiter->what == FOR_IDLENESS &&
           clock_monotonic_us() - shell->active_us >= waiter->idle_us;
}

static void set_timer(struct waiter *waiter);

/* Idle for long enough, or out of time, or there has been output since: then for the rest. */
static void timer_passed(evutil_socket_t fd, short what, void *arg)
{
    struct waiter *waiter = arg;
    (void)fd;
    (void)what;
    if (satisfied(waiter) || clock_monotonic_us() >= waiter->until_us)
        answer(waiter);
    else
        set_timer(waiter);
}

static void set_timer(struct waiter *waiter)
{
    int64_t at = waiter->until_us, idle_at = waiter->shell->active_us + waiter->idle_us;
    if (waiter->what == FOR_IDLENESS && idle_at < at)
        at = idle_at;
    shell_free_event(&waiter->timer);
    if (at != CLOCK_NEVER)
        waiter->timer = shell_timer(waiter->shell, at - clock_monotonic_us(), timer_passed, waiter);
}

static struct waiter *waiter_new(struct shell *shell, struct link_call *call, enum waits_for what)
{
    struct waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return NULL;
    }
    waiter->shell = shell;
    waiter->call = call;
    waiter->what = what;
    waiter->until_us = CLOCK_NEVER;
    list_init(&waiter->link);
    list_append(&shell->waiters, &waiter->link);
    return waiter;
}

void shell_handle_read(struct agent *agent, struct link_call *call,
                       const Hearth__Agent__V1__ShellReadRequest *request)
{
    struct shell *shell = shell_find_or_refuse(agent, call, request->shell_id);
    struct waiter *waiter =
        shell ? waiter_new(shell, call, request->idle_ms ? FOR_IDLENESS : FOR_OUTPUT) : NULL;
    if (!waiter)
        return;
    uint32_t wait_ms = request->wait_ms ? request->wait_ms : request->idle_ms ? WAIT_DEFAULT_MS : 0;
    waiter->cursor = request->cursor;
    waiter->max = request->max_characters ? request->max_characters : READ_DEFAULT;
    if (waiter->max > READ_MAX)
        waiter->max = READ_MAX;
    waiter->idle_us = request->idle_ms * US_PER_MS;
    waiter->marks = request->marks;
    if (wait_ms != UINT32_MAX)
        waiter->until_us = clock_monotonic_us() + wait_ms * US_PER_MS;
    if (!wait_ms || satisfied(waiter))
        answer(waiter);
    else
        set_timer(waiter);
}

void shell_wait_for_close(struct shell *shell, struct link_call *call)
{
    waiter_new(shell, call, FOR_THE_END);
}

void shell_wait_for_prompt(struct shell *shell, struct link_call *call)
{
    struct waiter *waiter = waiter_new(shell, call, FOR_THE_PROMPT);
    if (!waiter)
        return;
    waiter->until_us = clock_monotonic_us() + PROMPT_WAIT_MS * US_PER_MS;
    set_timer(waiter);
    if (!waiter->timer)
        answer(waiter);
}

void shell_answer_output(struct shell *shell)
{
    list_for_each(cursor, next, &shell->waiters)
    {
        struct waiter *waiter = container_of(cursor, struct waiter, link);
        if (waiter->what != FOR_IDLENESS && waiter->what != FOR_THE_END && satisfied(waiter))
            answer(waiter);
    }
}

bool shell_answer_ended(struct shell *shell)
{
    bool closed = shell->closing;
    while (!list_empty(&shell->waiters))
        answer(container_of(shell->waiters.next, struct waiter, link));
    return closed;
}

void shell_drop_waiters(struct shell *shell, const struct link_call *call)
{
    list_for_each(cursor, next, &shell->waiters)
    {
        struct waiter *waiter = container_of(cursor, struct waiter, link);
        if (!call || waiter->call == call)
            waiter_free(waiter);
    }
}

void shell_handle_list(struct agent *agent, struct link_call *call)
{
    Hearth__Agent__V1__ShellListReply reply = HEARTH__AGENT__V1__SHELL_LIST_REPLY__INIT;
    size_t count = agent->shells.by_id.count;
    Hearth__Agent__V1__ShellState *states = calloc(count + 1, sizeof *states);
    Hearth__Agent__V1__ShellState **list = calloc(count + 1, sizeof *list);
    struct list *heads[] = {&agent->shells.finished, &agent->shells.running};
    for (int i = 0; states && list && i < 2; i++)
        list_for_each(cursor, next, heads[i])
        {
            Hearth__Agent__V1__ShellState *state = &states[reply.n_shells];
            fill_state(state, container_of(cursor, struct shell, link));
            list[reply.n_shells++] = state;
        }
    reply.shells = list;
    if (states && list)
        link_call_reply(call, &reply.base);
    else
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
    free(states);
    free(list);
}
