/* What is remembered of a workspace's shells, and the list of them. */
#include "base/clock.h"
#include "base/text.h"
#include "supervisord/shell_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CWD_MAX 4096
#define LIST_TIMEOUT_MS 30000

struct known_shell *known_shell_find(struct workspace *workspace, const char *shell_id)
{
    list_for_each(cursor, next, &workspace->shells)
    {
        struct known_shell *known = container_of(cursor, struct known_shell, link);
        if (strcmp(known->shell_id, shell_id) == 0)
            return known;
    }
    return NULL;
}

void known_shell_forget(struct known_shell *known)
{
    list_remove(&known->link);
    free(known->cwd);
    free(known);
}

bool shells_are_known_alone(const struct workspace *workspace)
{
    return workspace->state == WORKSPACE_STOPPED || workspace->state == WORKSPACE_FAILED;
}

static bool opened_later(const struct known_shell *one, const struct known_shell *other)
{
    return one->started_at != other->started_at ? one->started_at > other->started_at
                                                : strcmp(one->shell_id, other->shell_id) > 0;
}

/* Answers come in any order, and a daemon that was restarted learns of all at once. */
static void put_in_order(struct workspace *workspace, struct known_shell *known)
{
    struct list *position = &workspace->shells;
    while (position->previous != &workspace->shells &&
           opened_later(container_of(position->previous, struct known_shell, link), known))
        position = position->previous;
    list_insert(position, &known->link);
}

static struct known_shell *add(struct workspace *workspace, const struct shell_status *status)
{
    size_t count = 0;
    list_for_each(cursor, next, &workspace->shells) count++;
    if (count >= SHELLS_KNOWN_MAX)
        known_shell_forget(container_of(workspace->shells.next, struct known_shell, link));
    struct known_shell *known = calloc(1, sizeof *known);
    if (!known)
        return NULL;
    snprintf(known->shell_id, sizeof known->shell_id, "%s", status->shell_id);
    known->cwd = text_copy(status->cwd);
    known->started_at = status->started_at;
    put_in_order(workspace, known);
    return known;
}

void known_shell_remember(struct workspace *workspace, const struct shell_status *status)
{
    struct known_shell *known = known_shell_find(workspace, status->shell_id);
    if (!known && !(known = add(workspace, status)))
        return;
    known->cols = status->cols;
    known->rows = status->rows;
    known->running = status->running;
    known->exit_known = status->exit_known;
    known->exit_code = status->exit_code;
    known->ended_at = status->ended_at;
}

void shells_forget(struct workspace *workspace)
{
    while (!list_empty(&workspace->shells))
        known_shell_forget(container_of(workspace->shells.next, struct known_shell, link));
}

void shells_guest_ended(struct workspace *workspace)
{
    list_for_each(cursor, next, &workspace->shells)
    {
        struct known_shell *known = container_of(cursor, struct known_shell, link);
        if (!known->running)
            continue;
        known->running = false;
        known->ended_at = clock_wall_us();
    }
}

void known_shell_status(const struct workspace *workspace, const struct known_shell *known,
                        struct shell_status *ret_status)
{
    *ret_status = (struct shell_status){
        .workspace_id = workspace->workspace_id,
        .shell_id = known->shell_id,
        .cwd = known->cwd ? known->cwd : "/workspace",
        .cols = known->cols,
        .rows = known->rows,
        .running = known->running,
        .exit_known = known->exit_known,
        .exit_code = known->exit_code,
        .started_at = known->started_at,
        .ended_at = known->ended_at,
        .idle = true,
        .output = "",
    };
}

static unsigned bounded(uint32_t value, unsigned most)
{
    return value > most ? most : value;
}

void shell_status_take(struct shell_status *ret_status, const Hearth__Agent__V1__ShellState *state)
{
    const char *cwd =
        state->cwd && strlen(state->cwd) < CWD_MAX && utf8_valid(state->cwd, strlen(state->cwd))
            ? state->cwd
            : "/";
    *ret_status = (struct shell_status){
        .cwd = cwd,
        .cols = bounded(state->cols, SHELL_COLS_MAX),
        .rows = bounded(state->rows, SHELL_ROWS_MAX),
        .running = state->running,
        .exit_known = !state->running,
        .exit_code = state->exit_code,
        .started_at = (int64_t)(state->started_at_us & INT64_MAX),
        .ended_at = state->running ? 0 : (int64_t)(state->ended_at_us & INT64_MAX),
        .cursor = state->cursor,
        .next_cursor = state->next_cursor,
        .total = state->total,
        .lost = state->lost,
        .idle = state->idle,
        .output = "",
    };
}

/* The list. */

struct listing {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE];
    struct hearth_failure failure;
    shells_listed done;
    void *arg;
};

static struct workspace *workspace_of(const struct listing *listing)
{
    return supervisor_workspace(listing->supervisor, listing->workspace_id);
}

/* In the order of their opening. */
static void tell_known(struct listing *listing, struct workspace *workspace)
{
    struct shell_status shells[SHELLS_KNOWN_MAX];
    size_t count = 0;
    list_for_each(cursor, next, &workspace->shells)
    {
        known_shell_status(workspace, container_of(cursor, struct known_shell, link),
                           &shells[count]);
        shells[count].execution_mode = workspace_execution_mode(workspace);
        count++;
    }
    listing->done(listing->arg, 0, NULL, shells, count);
}

static void list_late(void *arg)
{
    auto_free struct listing *listing = arg;
    struct workspace *workspace = workspace_of(listing);
    if (workspace && shells_are_known_alone(workspace)) {
        shells_guest_ended(workspace);
        tell_known(listing, workspace);
    } else {
        listing->done(listing->arg, (int)listing->failure.error, &listing->failure, NULL, 0);
    }
}

/* What the guest does not tell of has ended with an earlier run of it. */
static void learn(struct workspace *workspace, const Hearth__Agent__V1__ShellListReply *reply)
{
    shells_guest_ended(workspace);
    for (size_t i = 0; i < reply->n_shells && i < SHELLS_KNOWN_MAX; i++) {
        struct shell_status status;
        if (!id_valid(reply->shells[i]->shell_id, "sh"))
            continue;
        shell_status_take(&status, reply->shells[i]);
        status.shell_id = reply->shells[i]->shell_id;
        known_shell_remember(workspace, &status);
    }
}

static void list_told(void *arg, enum link_status status, const struct hearth_failure *failure,
                      const ProtobufCMessage *reply)
{
    auto_free struct listing *listing = arg;
    struct workspace *workspace = workspace_of(listing);
    if (status != LINK_STATUS_OK || !workspace) {
        struct hearth_failure gone;
        hearth_fail(&gone, HEARTH_ENOTFOUND, "workspace_not_found", "the workspace is gone");
        const struct hearth_failure *why = status != LINK_STATUS_OK ? failure : &gone;
        listing->done(listing->arg, (int)why->error, why, NULL, 0);
        return;
    }
    learn(workspace, (const Hearth__Agent__V1__ShellListReply *)reply);
    tell_known(listing, workspace);
}

void shell_list(struct workspace *workspace, shells_listed done, void *arg)
{
    Hearth__Agent__V1__Empty empty = HEARTH__AGENT__V1__EMPTY__INIT;
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing)
        abort();
    *listing = (struct listing){.supervisor = workspace->supervisor, .done = done, .arg = arg};
    memcpy(listing->workspace_id, workspace->workspace_id, sizeof listing->workspace_id);
    if (workspace_ready(workspace, &listing->failure))
        loop_defer(workspace->supervisor->loop, list_late, listing);
    else
        agent_call(&workspace->sandbox->link, "ShellList", &empty.base,
                   &hearth__agent__v1__shell_list_reply__descriptor, LIST_TIMEOUT_MS, list_told,
                   listing);
}
