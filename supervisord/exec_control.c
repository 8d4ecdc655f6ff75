/* Input, cancel and history of commands. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisord/exec_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTROL_TIMEOUT_MS 30000
#define KILL_GRACE_MS 2000

struct control {
    struct supervisor *supervisor;
    char exec_id[ID_SIZE], workspace_id[ID_SIZE];
    struct hearth_failure failure;
    exec_done done;
    void *arg;
};

static struct control *control_new(struct workspace *workspace, const char *exec_id, exec_done done,
                                   void *arg)
{
    struct control *control = calloc(1, sizeof *control);
    if (!control)
        abort();
    *control = (struct control){.supervisor = workspace->supervisor, .done = done, .arg = arg};
    snprintf(control->exec_id, sizeof control->exec_id, "%s", exec_id);
    memcpy(control->workspace_id, workspace->workspace_id, sizeof control->workspace_id);
    return control;
}

static void control_failed(void *arg)
{
    auto_free struct control *control = arg;
    control->done(control->arg, (int)control->failure.error, &control->failure, NULL);
}

/* What does not run is told apart: it has ended, or never was. */
static void looked_up(void *arg, int error, const struct hearth_failure *failure,
                      const struct exec_status *status)
{
    auto_free struct control *control = arg;
    (void)status;
    if (error)
        control->failure = *failure;
    else
        hearth_fail(&control->failure, HEARTH_ECONFLICT, "exec_ended", "the command has ended");
    hearth_failure_field(&control->failure, "/exec_id");
    control->done(control->arg, (int)control->failure.error, &control->failure, NULL);
}

/* The exec if it runs and can be reached; else the completion is on its way. */
static struct exec *running(struct workspace *workspace, struct control *control)
{
    struct exec *exec =
        id_valid(control->exec_id, "ex") ? exec_find(workspace, control->exec_id) : NULL;
    if (exec && !exec->ended && workspace_ready(workspace, &control->failure) == 0)
        return exec;
    if (control->failure.error) {
        loop_defer(workspace->supervisor->loop, control_failed, control);
    } else {
        struct exec_wait *wait;
        exec_read(workspace, control->exec_id, NULL, 0, true, looked_up, control, &wait);
    }
    return NULL;
}

static void controlled(void *arg, enum link_status status, const struct hearth_failure *failure,
                       const ProtobufCMessage *reply)
{
    (void)reply;
    auto_free struct control *control = arg;
    if (status != LINK_STATUS_OK) {
        control->done(control->arg, (int)failure->error, failure, NULL);
        return;
    }
    struct exec_status status_now = {.exec_id = control->exec_id,
                                     .workspace_id = control->workspace_id,
                                     .running = true,
                                     .started = true};
    control->done(control->arg, 0, NULL, &status_now);
}

void exec_input(struct workspace *workspace, const char *exec_id, const void *data, size_t length,
                bool end, exec_done done, void *arg)
{
    struct control *control = control_new(workspace, exec_id, done, arg);
    struct exec *exec = running(workspace, control);
    if (!exec)
        return;
    Hearth__Agent__V1__ExecInputRequest request = HEARTH__AGENT__V1__EXEC_INPUT_REQUEST__INIT;
    request.exec_id = exec->exec_id;
    request.data.data = (uint8_t *)(uintptr_t)data;
    request.data.len = length;
    request.end = end;
    workspace_touch(workspace);
    agent_call(&workspace->sandbox->link, "ExecInput", &request.base,
               &hearth__agent__v1__exec_input_reply__descriptor, CONTROL_TIMEOUT_MS, controlled,
               control);
}

void exec_cancel(struct workspace *workspace, const struct principal *principal,
                 const char *request_id, const char *exec_id, exec_done done, void *arg)
{
    struct control *control = control_new(workspace, exec_id, done, arg);
    struct exec *exec = running(workspace, control);
    if (!exec)
        return;
    Hearth__Agent__V1__ExecCancelRequest request = HEARTH__AGENT__V1__EXEC_CANCEL_REQUEST__INIT;
    request.exec_id = exec->exec_id;
    request.kill_grace_ms = KILL_GRACE_MS;
    workspace_touch(workspace);
    if (principal)
        exec_audit(exec, principal, request_id, "workspace_exec_cancel");
    /* The wait for its end tells how it went; a link that is down asks nothing, and the command's
     * time-out stands. */
    agent_call(&workspace->sandbox->link, "ExecCancel", &request.base,
               &hearth__agent__v1__empty__descriptor, CONTROL_TIMEOUT_MS, NULL, NULL);
    exec_wait_new(exec, -1, done, arg);
    free(control);
}

/* History. */

static bool some_unrecorded(const struct workspace *workspace)
{
    for (size_t i = 0; i < workspace->execs.bucket_count; i++)
        for (struct map_entry *entry = workspace->execs.buckets[i]; entry; entry = entry->next)
            if (container_of(entry, struct exec, entry)->ended)
                return true;
    return false;
}

void exec_when_recorded(struct workspace *workspace, void (*fn)(void *arg), void *arg)
{
    if (some_unrecorded(workspace))
        supervisor_when_written(workspace->supervisor, fn, arg);
    else
        loop_defer(workspace->supervisor->loop, fn, arg);
}

struct page {
    exec_page_visit visit;
    void *arg;
    unsigned count, limit;
    uint64_t last;
    bool more;
};

enum { PAGE_FULL = HEARTH_ECANCELLED };

static int visit_row(void *arg, const struct row_exec *row)
{
    struct page *page = arg;
    if (strcmp(row->state, "running") == 0)
        return 0;
    struct exec_status status;
    exec_status_from_row(row, 0, 0, &status);
    if (page->count == page->limit || !page->visit(page->arg, &status)) {
        page->more = true;
        return PAGE_FULL;
    }
    page->count++;
    page->last = row->sequence;
    return 0;
}

int exec_history(struct workspace *workspace, unsigned limit, const char *cursor,
                 exec_page_visit visit, void *arg, char ret_cursor[32],
                 struct hearth_failure *failure)
{
    struct page page = {.visit = visit, .arg = arg, .limit = limit};
    unsigned long long after = 0;
    if (cursor && *cursor) {
        char *end;
        after = strtoull(cursor, &end, 10);
        if (*end || strspn(cursor, "0123456789") != strlen(cursor) || strlen(cursor) > 19)
            return supervisor_bad_cursor(failure);
    }
    /* One more than asked for tells whether there are more; running ones are passed over. */
    int error =
        rows_page_execs(workspace->supervisor->history_reader, workspace->workspace_id, after,
                        limit + 1 + workspace->tenant->running_execs, visit_row, &page, failure);
    if (error && error != PAGE_FULL)
        return error;
    snprintf(ret_cursor, 32, "%s", "");
    if (page.more)
        snprintf(ret_cursor, 32, "%" PRIu64, page.last);
    return 0;
}
