#include "base/clock.h"
#include "base/text.h"
#include "supervisord/exec_internal.h"
#include "supervisord/secret_internal.h"
#include "supervisord/shell_internal.h"
#include "supervisord/terminal.h"
#include "supervisord/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL_TIMEOUT_MS 30000
#define READ_TIMEOUT_MS (SHELL_IDLE_WAIT_MAX_MS + CALL_TIMEOUT_MS)
#define KILL_GRACE_MS 2000
#define CWD_MAX 4096
#define MARKS_MAX 8192
/* What is read with plain output from before it: what is on a screen that a program has taken. */
#define SEEN_BEFORE ((uint64_t)256 << 10)

/* One question to the agent, until it is answered. */
struct asking {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE], shell_id[ID_SIZE];
    const char *execution_mode;
    enum { OPENS, READS, CHANGES, CLOSES } kind;
    bool plain;
    uint64_t cursor;         /* that was asked for */
    unsigned max_characters; /* the same */
    size_t before;           /* bytes of raw that are older than that */
    struct hearth_failure failure;
    struct shell_status status; /* of an answer that takes its time */
    char *cwd;
    struct buf raw, text;
    struct shell_mark *marks;
    int error;
    shell_done done;
    void *arg;
};

/* Asking. */

static struct asking *asking_new(struct workspace *workspace, const char *shell_id, shell_done done,
                                 void *arg)
{
    struct asking *asking = calloc(1, sizeof *asking);
    if (!asking)
        abort();
    *asking = (struct asking){.supervisor = workspace->supervisor,
                              .execution_mode = workspace_execution_mode(workspace),
                              .done = done,
                              .arg = arg};
    memcpy(asking->workspace_id, workspace->workspace_id, sizeof asking->workspace_id);
    snprintf(asking->shell_id, sizeof asking->shell_id, "%s", shell_id);
    return asking;
}

static void asking_end(struct asking *asking, int error, const struct hearth_failure *failure,
                       const struct shell_status *status)
{
    shell_done done = asking->done;
    void *arg = asking->arg;
    done(arg, error, failure, status);
    free(asking->cwd);
    free(asking->marks);
    buf_free(&asking->raw);
    buf_free(&asking->text);
    free(asking);
}

static struct workspace *workspace_of(const struct asking *asking)
{
    return supervisor_workspace(asking->supervisor, asking->workspace_id);
}

static void not_found(struct hearth_failure *failure)
{
    hearth_fail(failure, HEARTH_ENOTFOUND, "shell_not_found",
                "the workspace knows of no such shell");
    hearth_failure_field(failure, "/shell_id");
    hearth_failure_hint(failure, "shell_list tells which there are; open one with shell_open.");
}

/* Nobody is left to ask: what was known of it answers, if it can. */
static void end_from_memory(struct asking *asking, struct workspace *workspace,
                            const struct hearth_failure *otherwise)
{
    struct shell_status status;
    struct hearth_failure failure = *otherwise;
    struct known_shell *known = known_shell_find(workspace, asking->shell_id);
    if (!known) {
        asking_end(asking, (int)failure.error, &failure, NULL);
        return;
    }
    if (known->running) {
        known->running = false;
        known->ended_at = clock_wall_us();
    }
    if (asking->kind == CHANGES) {
        hearth_fail(&failure, HEARTH_ECONFLICT, "shell_ended",
                    "the shell has ended with its guest");
        hearth_failure_hint(&failure, "Open another one with shell_open, where the workspace is "
                                      "started; what this one wrote is gone.");
        asking_end(asking, (int)failure.error, &failure, NULL);
        return;
    }
    known_shell_status(workspace, known, &status);
    status.execution_mode = asking->execution_mode;
    status.cursor = status.next_cursor = status.total = asking->cursor;
    bool closes = asking->kind == CLOSES;
    asking_end(asking, 0, NULL, &status);
    if (closes)
        known_shell_forget(known);
}

static void answer_late(void *arg)
{
    struct asking *asking = arg;
    struct workspace *workspace = workspace_of(asking);
    if (workspace && shells_are_known_alone(workspace) && asking->kind != OPENS)
        end_from_memory(asking, workspace, &asking->failure);
    else
        asking_end(asking, (int)asking->failure.error, &asking->failure, NULL);
}

static void fail_later(struct asking *asking, const struct hearth_failure *failure)
{
    asking->failure = *failure;
    loop_defer(asking->supervisor->loop, answer_late, asking);
}

/* What the agent's status means for a shell. */
static void shell_failure(const struct asking *asking, enum link_status status,
                          const struct hearth_failure *told, struct hearth_failure *failure)
{
    const char *said = told->detail;
    *failure = *told;
    char detail[sizeof failure->detail];
    snprintf(detail, sizeof detail, "%s", utf8_valid(said, strlen(said)) ? said : "it was refused");
    if (status == LINK_STATUS_NOT_FOUND && asking->kind != OPENS) {
        not_found(failure);
    } else if (status == LINK_STATUS_FAILED_PRECONDITION && asking->kind != OPENS) {
        hearth_fail(failure, HEARTH_ECONFLICT, "shell_ended", "the shell has ended");
    } else if (status == LINK_STATUS_FAILED_PRECONDITION) {
        hearth_fail(failure, HEARTH_EINVALID, "bad_cwd", "%s", detail);
        hearth_failure_field(failure, "/cwd");
    } else if (status == LINK_STATUS_RESOURCE_EXHAUSTED && asking->kind == OPENS) {
        hearth_fail(failure, HEARTH_EQUOTA, "too_many_shells", "%s", detail);
        hearth_failure_hint(failure, "Close one that is not used with shell_close.");
    } else if (status == LINK_STATUS_RESOURCE_EXHAUSTED) {
        hearth_fail(failure, HEARTH_ECONFLICT, "shell_input_full", "%s", detail);
        failure->retryable = true;
        hearth_failure_hint(failure, "What runs in the shell does not read: wait, or signal it.");
    }
}

static void take_marks(struct asking *asking, const Hearth__Agent__V1__ShellState *state)
{
    size_t count = state->n_marks < MARKS_MAX ? state->n_marks : MARKS_MAX;
    asking->marks = calloc(count + 1, sizeof *asking->marks);
    for (size_t i = 0; asking->marks && i < count; i++)
        asking->marks[asking->status.mark_count++] =
            (struct shell_mark){.character = state->marks[i]->character,
                                .time_us = (int64_t)(state->marks[i]->time_us & INT64_MAX),
                                .cols = state->marks[i]->cols,
                                .rows = state->marks[i]->rows};
    asking->status.marks = asking->marks;
}

static int take_state(struct asking *asking, const Hearth__Agent__V1__ShellState *state)
{
    shell_status_take(&asking->status, state);
    asking->cwd = text_copy(asking->status.cwd);
    asking->status.workspace_id = asking->workspace_id;
    asking->status.shell_id = asking->shell_id;
    asking->status.cwd = asking->cwd ? asking->cwd : "/";
    asking->status.execution_mode = asking->execution_mode;
    if (state->n_marks)
        take_marks(asking, state);
    return utf8_repair(&asking->raw, (const char *)state->data.data, state->data.len);
}

static void end_with_output(struct asking *asking, const struct buf *output)
{
    if (output->length) {
        asking->status.output = output->data;
        asking->status.output_length = output->length;
    }
    asking_end(asking, 0, NULL, &asking->status);
}

static void render(void *arg)
{
    struct asking *asking = arg;
    asking->failure.error = (enum hearth_error)terminal_render(
        &asking->text, asking->raw.data, asking->raw.length, asking->before, asking->status.cols,
        asking->status.rows);
}

/* More was read than was asked for: the state is told as if it had not been. */
static void set_older_apart(struct asking *asking)
{
    struct shell_status *status = &asking->status;
    struct buf *raw = &asking->raw;
    uint64_t older = asking->cursor > status->cursor ? asking->cursor - status->cursor : 0;
    uint64_t there =
        status->next_cursor > status->cursor ? status->next_cursor - status->cursor : 0;
    older = older < there ? older : there;
    asking->before = utf8_skip(raw->data, raw->length, 0, older);
    if (there - older > asking->max_characters) {
        there = older + asking->max_characters;
        raw->length = utf8_skip(raw->data, raw->length, asking->before, asking->max_characters);
    }
    status->lost = status->cursor > asking->cursor ? status->cursor - asking->cursor : 0;
    status->next_cursor = status->cursor + there;
    status->cursor += older;
}

static void rendered(void *arg)
{
    struct asking *asking = arg;
    struct hearth_failure failure;
    if (!asking->failure.error) {
        end_with_output(asking, &asking->text);
        return;
    }
    hearth_fail(&failure, asking->failure.error, "shell_not_renderable",
                "this output cannot be shown as text within its time and size");
    hearth_failure_hint(&failure, "Read it with plain=false, or less of it with max_chars.");
    asking_end(asking, (int)failure.error, &failure, NULL);
}

static void told(void *arg, enum link_status status, const struct hearth_failure *failure,
                 const ProtobufCMessage *reply)
{
    struct asking *asking = arg;
    struct workspace *workspace = workspace_of(asking);
    struct hearth_failure mine;
    if (status != LINK_STATUS_OK) {
        shell_failure(asking, status, failure, &mine);
        if (workspace && status == LINK_STATUS_NOT_FOUND && asking->kind != OPENS)
            end_from_memory(asking, workspace, &mine);
        else
            asking_end(asking, (int)mine.error, &mine, NULL);
        return;
    }
    if (take_state(asking, (const Hearth__Agent__V1__ShellState *)reply)) {
        hearth_fail(&mine, HEARTH_ENOMEMORY, NULL, "out of memory");
        asking_end(asking, (int)mine.error, &mine, NULL);
        return;
    }
    struct known_shell *known = workspace ? known_shell_find(workspace, asking->shell_id) : NULL;
    if (asking->kind == CLOSES && known)
        known_shell_forget(known);
    else if (asking->kind != CLOSES && workspace)
        known_shell_remember(workspace, &asking->status);
    if (asking->plain)
        set_older_apart(asking);
    if (asking->plain && asking->raw.length > asking->before)
        worker_submit(asking->supervisor->workers, render, rendered, asking);
    else
        end_with_output(asking, asking->plain ? &asking->text : &asking->raw);
}

/* The workspace's agent can be asked about this shell; else the completion is on its way. */
static bool may_ask(struct asking *asking, struct workspace *workspace)
{
    struct hearth_failure failure;
    if (!id_valid(asking->shell_id, "sh")) {
        not_found(&failure);
        asking->kind = OPENS; /* nothing is remembered of it either */
    } else if (workspace_ready(workspace, &failure) == 0) {
        return true;
    }
    fail_later(asking, &failure);
    return false;
}

static void ask(struct asking *asking, struct workspace *workspace, const char *method,
                const ProtobufCMessage *request, unsigned timeout_ms)
{
    agent_call(&workspace->sandbox->link, method, request,
               &hearth__agent__v1__shell_state__descriptor, timeout_ms, told, asking);
}

static void audit(struct workspace *workspace, const struct principal *principal,
                  const char *request_id, const char *operation)
{
    struct change *change = change_new();
    workspace_audit(workspace, change, principal, request_id, operation, "ok");
    change_commit(change, workspace->supervisor->writer, NULL, NULL);
}

/* Opening. */

#define SHELL_VARIABLES 2

static void fill_environment(Hearth__Agent__V1__EnvironmentVariable *variables,
                             Hearth__Agent__V1__EnvironmentVariable **list, const char *term)
{
    const struct exec_variable own[SHELL_VARIABLES] = {{"PS1", "hearth$ "}, {"HISTFILE", ""}};
    for (size_t i = 0; i < EXEC_DEFAULT_VARIABLES + SHELL_VARIABLES; i++) {
        struct exec_variable variable = i < EXEC_DEFAULT_VARIABLES
                                            ? exec_default_environment[i]
                                            : own[i - EXEC_DEFAULT_VARIABLES];
        if (strcmp(variable.name, "TERM") == 0)
            variable.value = term;
        hearth__agent__v1__environment_variable__init(&variables[i]);
        variables[i].name = (char *)(uintptr_t)variable.name;
        variables[i].value = (char *)(uintptr_t)variable.value;
        list[i] = &variables[i];
    }
}

void shell_open(struct workspace *workspace, const struct principal *principal,
                const struct shell_spec *spec, shell_done done, void *arg)
{
    Hearth__Agent__V1__EnvironmentVariable variables[EXEC_DEFAULT_VARIABLES + SHELL_VARIABLES],
        *list[EXEC_DEFAULT_VARIABLES + SHELL_VARIABLES];
    Hearth__Agent__V1__ShellOpenRequest request = HEARTH__AGENT__V1__SHELL_OPEN_REQUEST__INIT;
    char shell_id[ID_SIZE], cwd[CWD_MAX + sizeof "/workspace/"];
    id_make(shell_id, "sh", workspace->supervisor->config->node_tag);
    struct asking *asking = asking_new(workspace, shell_id, done, arg);
    asking->kind = OPENS;
    if (!may_ask(asking, workspace))
        return;
    auto_free Hearth__Agent__V1__SecretVariable **secrets =
        secret_variables_make(spec->secrets, spec->secret_count);
    struct hearth_failure failure;
    if (!secrets)
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (!secrets ||
        secret_variables_check(workspace, spec->secrets, spec->secret_count, &failure)) {
        fail_later(asking, &failure);
        return;
    }
    request.secret_environment = secrets;
    request.n_secret_environment = spec->secret_count;
    const char *where = spec->cwd ? spec->cwd : "/workspace";
    snprintf(cwd, sizeof cwd, "%s%s", *where == '/' ? "" : "/workspace/", where);
    fill_environment(variables, list, spec->term);
    request.shell_id = asking->shell_id;
    request.cwd = cwd;
    request.cols = spec->cols;
    request.rows = spec->rows;
    request.environment = list;
    request.n_environment = EXEC_DEFAULT_VARIABLES + SHELL_VARIABLES;
    workspace_touch(workspace);
    audit(workspace, principal, spec->request_id, "shell_open");
    ask(asking, workspace, "ShellOpen", &request.base, CALL_TIMEOUT_MS);
}

/* The other calls. */

void shell_read(struct workspace *workspace, const char *shell_id,
                const struct shell_read_spec *spec, shell_done done, void *arg)
{
    Hearth__Agent__V1__ShellReadRequest request = HEARTH__AGENT__V1__SHELL_READ_REQUEST__INIT;
    struct asking *asking = asking_new(workspace, shell_id, done, arg);
    asking->kind = READS;
    asking->plain = spec->plain;
    asking->cursor = spec->cursor;
    asking->max_characters = spec->max_characters;
    if (!may_ask(asking, workspace))
        return;
    uint64_t before = !spec->plain ? 0 : spec->cursor < SEEN_BEFORE ? spec->cursor : SEEN_BEFORE;
    request.shell_id = asking->shell_id;
    request.cursor = spec->cursor - before;
    request.max_characters = spec->max_characters + (uint32_t)before;
    request.idle_ms = spec->idle_ms;
    request.wait_ms = spec->idle_ms ? SHELL_IDLE_WAIT_MAX_MS : spec->wait_ms;
    request.marks = spec->marks;
    ask(asking, workspace, "ShellRead", &request.base, READ_TIMEOUT_MS);
}

void shell_write(struct workspace *workspace, const char *shell_id, const char *data, size_t length,
                 shell_done done, void *arg)
{
    Hearth__Agent__V1__ShellInputRequest request = HEARTH__AGENT__V1__SHELL_INPUT_REQUEST__INIT;
    struct asking *asking = asking_new(workspace, shell_id, done, arg);
    asking->kind = CHANGES;
    if (!may_ask(asking, workspace))
        return;
    request.shell_id = asking->shell_id;
    request.data.data = (uint8_t *)(uintptr_t)data;
    request.data.len = length;
    workspace_touch(workspace);
    ask(asking, workspace, "ShellInput", &request.base, CALL_TIMEOUT_MS);
}

void shell_signal(struct workspace *workspace, const char *shell_id, int signal, shell_done done,
                  void *arg)
{
    Hearth__Agent__V1__ShellSignalRequest request = HEARTH__AGENT__V1__SHELL_SIGNAL_REQUEST__INIT;
    struct asking *asking = asking_new(workspace, shell_id, done, arg);
    asking->kind = CHANGES;
    if (!may_ask(asking, workspace))
        return;
    request.shell_id = asking->shell_id;
    request.signal = (uint32_t)signal;
    workspace_touch(workspace);
    ask(asking, workspace, "ShellSignal", &request.base, CALL_TIMEOUT_MS);
}

void shell_resize(struct workspace *workspace, const char *shell_id, unsigned cols, unsigned rows,
                  shell_done done, void *arg)
{
    Hearth__Agent__V1__ShellResizeRequest request = HEARTH__AGENT__V1__SHELL_RESIZE_REQUEST__INIT;
    struct asking *asking = asking_new(workspace, shell_id, done, arg);
    asking->kind = CHANGES;
    if (!may_ask(asking, workspace))
        return;
    request.shell_id = asking->shell_id;
    request.cols = cols;
    request.rows = rows;
    ask(asking, workspace, "ShellResize", &request.base, CALL_TIMEOUT_MS);
}

void shell_close(struct workspace *workspace, const struct principal *principal,
                 const char *shell_id, const char *request_id, shell_done done, void *arg)
{
    Hearth__Agent__V1__ShellCloseRequest request = HEARTH__AGENT__V1__SHELL_CLOSE_REQUEST__INIT;
    struct asking *asking = asking_new(workspace, shell_id, done, arg);
    asking->kind = CLOSES;
    if (!may_ask(asking, workspace))
        return;
    request.shell_id = asking->shell_id;
    request.kill_grace_ms = KILL_GRACE_MS;
    workspace_touch(workspace);
    audit(workspace, principal, request_id, "shell_close");
    ask(asking, workspace, "ShellClose", &request.base, CALL_TIMEOUT_MS);
}
