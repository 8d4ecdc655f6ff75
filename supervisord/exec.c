#include "supervisord/exec.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/exec_internal.h"
#include "supervisord/secret_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_FOREVER_MS UINT32_MAX
#define KILL_GRACE_MS 2000
#define DRAIN_MS 1000
#define OVERDUE_AFTER_MS 15000 /* an agent that answers at all has told of the time-out by then */
#define PRUNE_EVERY 64         /* commands between two prunings of a workspace's history */

const struct exec_variable exec_default_environment[EXEC_DEFAULT_VARIABLES] = {
    {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    {"HOME", "/root"},
    {"USER", "root"},
    {"LOGNAME", "root"},
    {"TERM", "xterm"},
    {"LANG", "C.UTF-8"},
};

/* A command that is only waited for is written as running once it has run for so long. */
#define NOTE_AFTER_US (5 * US_PER_MS)

struct exec *exec_find(struct workspace *workspace, const char *exec_id)
{
    struct map_entry *entry = map_find(&workspace->execs, exec_id);
    return entry ? container_of(entry, struct exec, entry) : NULL;
}

static void exec_free(struct exec *exec)
{
    timer_free(&exec->note_due);
    exec_output_free(&exec->output);
    exec_output_free(&exec->errors);
    free(exec->command);
    free(exec->cwd);
    free(exec);
}

static void note_due(void *arg)
{
    exec_note(arg);
}

static struct exec *exec_new(struct workspace *workspace, const char *exec_id,
                             const char *execution_mode)
{
    struct exec *exec = calloc(1, sizeof *exec);
    if (!exec)
        return NULL;
    exec->workspace = workspace;
    exec->supervisor = workspace->supervisor;
    exec->tenant = workspace->tenant;
    list_init(&exec->waits);
    timer_init(&exec->note_due, exec->supervisor->loop, note_due, exec);
    memcpy(exec->workspace_id, workspace->workspace_id, sizeof exec->workspace_id);
    snprintf(exec->exec_id, sizeof exec->exec_id, "%s", exec_id);
    exec->execution_mode = execution_mode_named(execution_mode);
    if (map_insert(&workspace->execs, &exec->entry, exec->exec_id)) {
        free(exec);
        return NULL;
    }
    workspace->tenant->running_execs++;
    return exec;
}

static void exec_row(const struct exec *exec, struct row_exec *ret_row)
{
    *ret_row = (struct row_exec){
        .exec_id = exec->exec_id,
        .workspace_id = exec->workspace_id,
        .tenant_id = exec->tenant->tenant_id,
        .sequence = exec->sequence,
        .command = exec->command,
        .cwd = exec->cwd,
        .state = !exec->ended    ? "running"
                 : exec->lost    ? "lost"
                 : exec->started ? "exited"
                                 : "failed",
        .execution_mode = exec->execution_mode,
        .problem = exec->problem,
        .started = exec->started,
        .timed_out = exec->timed_out,
        .cancelled = exec->cancelled,
        .drained = exec->drained,
        .truncated = exec->output.omitted || exec->errors.omitted,
        .signalled = exec->signal != 0,
        .exit_code = exec->exit_code,
        .signal = exec->signal,
        .started_at = exec->started_at,
        .ended_at = exec->ended_at,
        .duration_us = exec->duration_us,
        .stdout_data = exec->output.data.data,
        .stdout_length = exec->output.data.length,
        .stdout_bytes = exec->output.total,
        .stderr_data = exec->errors.data.data,
        .stderr_length = exec->errors.data.length,
        .stderr_bytes = exec->errors.total,
    };
}

void exec_fill_status(const struct exec *exec, struct exec_status *ret_status)
{
    *ret_status = (struct exec_status){
        .exec_id = exec->exec_id,
        .workspace_id = exec->workspace_id,
        .sequence = exec->sequence,
        .command = exec->command,
        .cwd = exec->cwd,
        .execution_mode = exec->execution_mode,
        .running = !exec->ended,
        .started = exec->started,
        .timed_out = exec->timed_out,
        .cancelled = exec->cancelled,
        .drained = exec->drained,
        .lost = exec->lost,
        .exit_code = exec->exit_code,
        .signal = exec->signal,
        .problem = *exec->problem ? exec->problem : NULL,
        .started_at = exec->started_at,
        .ended_at = exec->ended_at,
        .duration_us = exec->ended ? exec->duration_us : clock_wall_us() - exec->started_at,
    };
}

/* The end: told to those who wait, recorded, and only then forgotten by the agent, so that no crash
 * loses it. */

static void recorded(void *arg, int error, const struct hearth_failure *failure)
{
    struct exec *exec = arg;
    if (error)
        log_warning("exec_not_recorded", "exec=%s detail=\"%s\"", exec->exec_id, failure->detail);
    else
        events_written(exec->tenant, exec->ended_event);
    struct workspace *workspace = exec->workspace;
    if (workspace) {
        map_remove(&workspace->execs, &exec->entry);
        exec_forget_soon(workspace, exec->exec_id);
    }
    exec_free(exec);
}

static void add_ended(struct change *change, struct exec *exec, const char *state)
{
    const struct event_fact facts[] = {
        {.name = "exec_id", .text = exec->exec_id},
        {.name = "sequence", .number = (int64_t)exec->sequence},
        {.name = "state", .text = state},
        {.name = "exit_code", .number = exec->exit_code},
        {.name = "timed_out", .number = exec->timed_out, .is_boolean = true},
        {.name = "duration_ms", .number = exec->duration_us / US_PER_MS},
    };
    exec->ended_event = events_add(change, exec->tenant, "exec.ended", exec->workspace_id, facts,
                                   sizeof facts / sizeof *facts);
}

static void record(struct exec *exec)
{
    struct row_exec row;
    struct change *change = change_new();
    exec_row(exec, &row);
    change_put_exec(change, &row);
    add_ended(change, exec, row.state);
    if (exec->sequence % PRUNE_EVERY == 0)
        change_prune_execs(change, exec->workspace_id, exec->supervisor->config->history_entries);
    change_commit(change, exec->supervisor->history, recorded, exec);
}

static void remember_last(struct exec *exec)
{
    struct workspace *workspace = exec->workspace;
    if (!workspace || exec->sequence < workspace->last_command.sequence)
        return;
    char *command = text_copy(exec->command), *cwd = text_copy(exec->cwd);
    free(workspace->last_command.command);
    free(workspace->last_command.cwd);
    workspace->last_command.sequence = exec->sequence;
    workspace->last_command.command = command;
    workspace->last_command.cwd = cwd;
    workspace->last_command.exit_code = exec->exit_code;
    workspace->last_command.duration_us = exec->duration_us;
    workspace->last_command.recorded_at = exec->ended_at;
}

static void exec_end(struct exec *exec, int error, const struct hearth_failure *failure)
{
    exec->ended = true;
    timer_unset(&exec->note_due);
    exec->ended_at = clock_wall_us();
    exec->tenant->running_execs--;
    exec->supervisor->totals.execs_total++;
    if (exec->lost || !exec->started)
        exec->supervisor->totals.execs_failed++;
    remember_last(exec);
    if (exec->workspace && !exec->lost)
        workspace_touch(exec->workspace); /* kept, so that no restart expires it sooner */
    if (exec->workspace)
        expiry_exec_ended(exec->workspace);
    exec->held = exec->keyed && !exec->noted && !error;
    if (!exec->held)
        exec_finish_waits(exec, error, failure);
    record(exec);
}

void exec_finish(struct exec *exec, const Hearth__Agent__V1__ExecState *state)
{
    const Hearth__Agent__V1__ExecExit *result = state->exit;
    if (exec_output_set(&exec->output, state->stdout, exec->max_output_bytes) ||
        exec_output_set(&exec->errors, state->stderr, exec->max_output_bytes))
        snprintf(exec->problem, sizeof exec->problem, "out of memory for its output");
    exec->started = result->started;
    exec->exit_code = result->exit_code;
    exec->signal = (int)result->signal;
    exec->timed_out = result->timed_out;
    exec->cancelled = result->cancelled;
    exec->drained = result->drained;
    exec->duration_us = (int64_t)result->duration_us;
    if (result->problem && *result->problem)
        snprintf(exec->problem, sizeof exec->problem, "%s",
                 utf8_valid(result->problem, strlen(result->problem))
                     ? result->problem
                     : "the command could not be started");
    exec_end(exec, 0, NULL);
}

void exec_lose(struct exec *exec, const char *problem)
{
    exec->lost = true;
    exec->exit_code = -1;
    exec->duration_us = clock_wall_us() - exec->started_at;
    snprintf(exec->problem, sizeof exec->problem, "%s", problem);
    exec_end(exec, 0, NULL);
}

/* Watching for the end. */

static void watch(struct exec *exec);

static void watched(void *arg, enum link_status status, const struct hearth_failure *failure,
                    const ProtobufCMessage *reply)
{
    struct exec *exec = arg;
    const Hearth__Agent__V1__ExecState *state = (const Hearth__Agent__V1__ExecState *)reply;
    exec->watcher = NULL;
    if (status == LINK_STATUS_OK && !state->running && state->exit)
        exec_finish(exec, state);
    else if (status == LINK_STATUS_OK)
        watch(exec);
    else if (status == LINK_STATUS_NOT_FOUND)
        exec_lose(exec, "the guest knows nothing of it: whether it ran cannot be told");
    else if (status == LINK_STATUS_UNAVAILABLE || status == LINK_STATUS_CANCELLED)
        return; /* the link is down: exec_link_up watches again */
    else
        exec_lose(exec, failure->detail);
}

static void fill_read(Hearth__Agent__V1__ExecReadRequest *request, struct exec *exec)
{
    request->exec_id = exec->exec_id;
    request->max_bytes = exec->max_output_bytes;
    request->wait_ms = WATCH_FOREVER_MS;
    request->until_end = true;
}

static void watch(struct exec *exec)
{
    Hearth__Agent__V1__ExecReadRequest request = HEARTH__AGENT__V1__EXEC_READ_REQUEST__INIT;
    fill_read(&request, exec);
    exec->watcher = agent_call(&exec->workspace->sandbox->link, "ExecRead", &request.base,
                               &hearth__agent__v1__exec_state__descriptor, 0, watched, exec);
}

bool exec_any_runs(const struct workspace *workspace)
{
    for (size_t i = 0; i < workspace->execs.bucket_count; i++)
        for (struct map_entry *entry = workspace->execs.buckets[i]; entry; entry = entry->next)
            if (!container_of(entry, struct exec, entry)->ended)
                return true;
    return false;
}

void exec_link_up(struct workspace *workspace)
{
    for (size_t i = 0; i < workspace->execs.bucket_count; i++)
        for (struct map_entry *entry = workspace->execs.buckets[i]; entry; entry = entry->next) {
            struct exec *exec = container_of(entry, struct exec, entry);
            if (!exec->ended && !exec->watcher)
                watch(exec);
        }
}

/* Starting. */

static bool overridden(const char *name, const struct exec_variable *extra, size_t extra_count)
{
    for (size_t i = 0; i < extra_count; i++)
        if (strcmp(name, extra[i].name) == 0)
            return true;
    return false;
}

int exec_environment_make(struct exec_environment *ret_environment,
                          const struct exec_variable *extra, size_t extra_count)
{
    size_t most = extra_count + EXEC_DEFAULT_VARIABLES;
    struct exec_environment made = {.variables = calloc(most, sizeof *made.variables),
                                    .list = calloc(most, sizeof(void *))};
    for (size_t i = 0; made.variables && made.list && i < most; i++) {
        const struct exec_variable *variable = i < EXEC_DEFAULT_VARIABLES
                                                   ? &exec_default_environment[i]
                                                   : &extra[i - EXEC_DEFAULT_VARIABLES];
        if (i < EXEC_DEFAULT_VARIABLES && overridden(variable->name, extra, extra_count))
            continue;
        Hearth__Agent__V1__EnvironmentVariable *out = &made.variables[made.count];
        hearth__agent__v1__environment_variable__init(out);
        out->name = (char *)(uintptr_t)variable->name;
        out->value = (char *)(uintptr_t)variable->value;
        made.list[made.count++] = out;
    }
    *ret_environment = made;
    if (made.variables && made.list)
        return 0;
    exec_environment_free(ret_environment);
    return HEARTH_ENOMEMORY;
}

void exec_environment_free(struct exec_environment *environment)
{
    free(environment->variables);
    free(environment->list);
    *environment = (struct exec_environment){0};
}

static char *absolute_cwd(const char *cwd)
{
    struct buf text = {0};
    if (!cwd || !*cwd)
        return text_copy("/workspace");
    if (buf_printf(&text, "%s%s", cwd[0] == '/' ? "" : "/workspace/", cwd)) {
        buf_free(&text);
        return NULL;
    }
    return buf_steal(&text);
}

struct start_buffers {
    struct exec_environment environment;
    Hearth__Agent__V1__SecretVariable **secrets;
    char **argv, *cwd;
};

static int fill_start(Hearth__Agent__V1__ExecStartRequest *request, struct exec *exec,
                      const struct exec_spec *spec, struct start_buffers *buffers)
{
    buffers->argv = calloc(spec->argv_count + 3, sizeof(char *));
    buffers->secrets = secret_variables_make(spec->secrets, spec->secret_count);
    buffers->cwd = absolute_cwd(spec->cwd);
    if (!buffers->argv || !buffers->secrets || !buffers->cwd ||
        exec_environment_make(&buffers->environment, spec->environment, spec->environment_count))
        return HEARTH_ENOMEMORY;
    static char shell[] = "/bin/sh", flags[] = "-lc";
    if (spec->command) {
        buffers->argv[0] = shell;
        buffers->argv[1] = flags;
        buffers->argv[2] = (char *)(uintptr_t)spec->command;
        request->n_argv = 3;
    } else {
        for (size_t i = 0; i < spec->argv_count; i++)
            buffers->argv[i] = (char *)(uintptr_t)spec->argv[i];
        request->n_argv = spec->argv_count;
    }
    request->exec_id = exec->exec_id;
    request->argv = buffers->argv;
    request->cwd = buffers->cwd;
    request->n_environment = buffers->environment.count;
    request->environment = buffers->environment.list;
    request->secret_environment = buffers->secrets;
    request->n_secret_environment = spec->secret_count;
    request->stdin.data = (uint8_t *)(uintptr_t)spec->input;
    request->stdin.len = spec->input_length;
    request->stdin_open = spec->input_open;
    request->timeout_ms = spec->timeout_ms;
    request->kill_grace_ms = KILL_GRACE_MS;
    request->drain_ms = DRAIN_MS;
    request->head_bytes = exec->max_output_bytes / 2;
    request->tail_bytes = exec->max_output_bytes - exec->max_output_bytes / 2;
    return 0;
}

static int send_start(struct exec *exec, const struct exec_spec *spec)
{
    Hearth__Agent__V1__ExecStartRequest request = HEARTH__AGENT__V1__EXEC_START_REQUEST__INIT;
    Hearth__Agent__V1__ExecReadRequest read = HEARTH__AGENT__V1__EXEC_READ_REQUEST__INIT;
    struct start_buffers buffers = {0};
    int error = fill_start(&request, exec, spec, &buffers);
    fill_read(&read, exec);
    request.read = &read;
    if (!error)
        exec->watcher = agent_call(&exec->workspace->sandbox->link, "ExecStart", &request.base,
                                   &hearth__agent__v1__exec_state__descriptor, 0, watched, exec);
    exec_environment_free(&buffers.environment);
    free(buffers.argv);
    free(buffers.cwd);
    free(buffers.secrets);
    return error;
}

static struct exec *admit(struct workspace *workspace, const struct exec_spec *spec,
                          struct hearth_failure *failure)
{
    struct tenant *tenant = workspace->tenant;
    if (workspace_ready(workspace, failure) ||
        secret_variables_check(workspace, spec->secrets, spec->secret_count, failure))
        return NULL;
    if (tenant->running_execs >= tenant->max_running_execs) {
        hearth_fail(failure, HEARTH_EQUOTA, "quota_execs", "the tenant runs %u of %u commands",
                    tenant->running_execs, tenant->max_running_execs);
        return NULL;
    }
    char exec_id[ID_SIZE];
    id_make(exec_id, "ex", workspace->supervisor->config->node_tag);
    workspace_load_history(workspace);
    struct exec *exec = exec_new(workspace, exec_id, workspace_execution_mode(workspace));
    if (exec) {
        char *texts[] = {exec_command_text(spec), absolute_cwd(spec->cwd)};
        workspace_redact_texts(workspace, texts, 2);
        exec->command = texts[0];
        exec->cwd = texts[1];
        exec->max_output_bytes = spec->max_output_bytes;
        exec->started_at = clock_wall_us();
    }
    if (!exec || !exec->command || !exec->cwd) {
        if (exec) {
            map_remove(&workspace->execs, &exec->entry);
            tenant->running_execs--;
            exec_free(exec);
        }
        hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        return NULL;
    }
    exec->sequence = ++workspace->exec_sequence;
    workspace->command_count++;
    return exec;
}

/* Comes before the recording of its end, which is committed later. */
static void noted(void *arg, int error, const struct hearth_failure *failure)
{
    struct exec *exec = arg;
    if (error)
        log_warning("exec_not_noted", "exec=%s detail=\"%s\"", exec->exec_id, failure->detail);
    exec->noted = true;
    if (exec->held)
        exec_finish_waits(exec, 0, NULL);
    exec_wait_noted(exec);
}

void exec_note(struct exec *exec)
{
    if (exec->noting)
        return;
    struct row_exec row;
    struct change *change = change_new();
    exec->noting = true;
    exec_row(exec, &row);
    change_put_exec(change, &row);
    change_commit(change, exec->supervisor->history, noted, exec);
}

void exec_audit(const struct exec *exec, const struct principal *principal, const char *request_id,
                const char *operation)
{
    char subject[2 * ID_SIZE];
    snprintf(subject, sizeof subject, "%s/%s", exec->workspace_id, exec->exec_id);
    supervisor_audit_soon(exec->supervisor, principal, request_id, operation, subject, "ok");
}

void exec_start(struct workspace *workspace, const struct principal *principal,
                const struct exec_spec *spec, int wait_ms, exec_done done, void *arg,
                struct exec_wait **ret_wait)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct exec *exec = admit(workspace, spec, &failure);
    struct exec_wait *wait = exec_wait_new(exec, wait_ms, done, arg);
    wait->supervisor = workspace->supervisor;
    wait->until_end = !spec->read_on;
    *ret_wait = wait;
    if (!exec) {
        exec_wait_fail(wait, &failure);
        return;
    }
    workspace_touch(workspace);
    exec->keyed = principal->intent != 0;
    exec_audit(exec, principal, spec->request_id, "workspace_exec");
    if (exec->keyed)
        exec_note(exec);
    if (send_start(exec, spec)) {
        exec_lose(exec, "out of memory");
        return;
    }
    if (wait_ms < 0 && spec->timeout_ms)
        exec_wait_bound(wait,
                        (int64_t)spec->timeout_ms + KILL_GRACE_MS + DRAIN_MS + OVERDUE_AFTER_MS);
    /* Most commands end before anybody could be told that they run: they are written once. */
    if (wait_ms >= 0)
        exec_note(exec);
    else
        timer_set(&exec->note_due, clock_monotonic_us() + NOTE_AFTER_US);
}

/* Start-up and ends of workspaces. */

int exec_load(struct supervisor *supervisor, const struct row_exec *row)
{
    struct workspace *workspace = supervisor_workspace(supervisor, row->workspace_id);
    /* Of before a reset: the daemon was killed before it cleared the history. */
    if (!workspace || row->started_at < workspace->last_reset_at)
        return 0;
    struct exec *exec = exec_new(workspace, row->exec_id, row->execution_mode);
    if (!exec)
        return HEARTH_ENOMEMORY;
    exec->noting = exec->noted = true;
    exec->sequence = row->sequence;
    if (workspace->exec_sequence < row->sequence) /* its number is taken */
        workspace->exec_sequence = row->sequence;
    exec->command = text_copy(row->command);
    exec->cwd = text_copy(row->cwd);
    exec->started_at = row->started_at;
    exec->max_output_bytes = EXEC_OUTPUT_MAX; /* the agent keeps to what was asked for */
    return exec->command && exec->cwd ? 0 : HEARTH_ENOMEMORY;
}

void exec_abandon_all(struct workspace *workspace, enum hearth_error error, const char *code,
                      const char *problem)
{
    struct hearth_failure failure;
    hearth_fail(&failure, error, code, "%s", problem);
    for (size_t i = 0; i < workspace->execs.bucket_count; i++)
        for (struct map_entry *entry = workspace->execs.buckets[i], *next; entry; entry = next) {
            struct exec *exec = container_of(entry, struct exec, entry);
            next = entry->next;
            if (exec->ended)
                continue;
            if (exec->watcher)
                agent_call_cancel(steal_pointer(exec->watcher));
            exec->lost = true;
            exec->exit_code = -1;
            exec->duration_us = clock_wall_us() - exec->started_at;
            snprintf(exec->problem, sizeof exec->problem, "%s", problem);
            exec_end(exec, (int)error, &failure);
        }
    /* What is being recorded outlives the workspace. */
    if (error != HEARTH_ENOTFOUND)
        return;
    for (size_t i = 0; i < workspace->execs.bucket_count; i++)
        for (struct map_entry *entry = workspace->execs.buckets[i], *next; entry; entry = next) {
            struct exec *exec = container_of(entry, struct exec, entry);
            next = entry->next;
            map_remove(&workspace->execs, entry);
            exec->workspace = NULL;
        }
}
