#include "api/operations/exec_stream.h"
#include "api/operations/families.h"
#include "api/operations/stream_object.h"
#include "api/operations/views.h"
#include "supervisord/secret.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* A call that waits for a command. */
struct waiting {
    struct call *call;
    struct exec_wait *wait;
    char workspace_id[ID_SIZE], exec_id[ID_SIZE];
    bool cancel_if_gone;
    bool told; /* again, after a crash: the command may not have been recorded before it */
    enum text_encoding encoding;
};

static void answered(void *arg, int error, const struct hearth_failure *failure,
                     const struct exec_status *status)
{
    struct waiting *waiting = arg;
    struct call *call = waiting->call;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct workspace *workspace = NULL;
    struct hearth_failure gone;
    waiting->wait = NULL;
    if (!error &&
        !(workspace = workspace_find(call_principal(call), waiting->workspace_id, &gone))) {
        error = (int)gone.error;
        failure = &gone;
    }
    if (error == HEARTH_ENOTFOUND && waiting->told) {
        call_fail_lost(call);
        return;
    }
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    write_exec(&json, workspace, status, waiting->encoding, call_text_room(call));
    json_object_end(&json);
    reply_with(call, &body, &json);
}

/* The client has gone: its command goes too, unless it was to outlive the wait. The call itself is
 * answered into the void when the command ends. */
static void gone(void *arg)
{
    struct waiting *waiting = arg;
    if (waiting->cancel_if_gone)
        exec_cancel_for_nobody(waiting->call, waiting->workspace_id, waiting->exec_id);
}

static struct waiting *waiting_new(struct call *call, const char *workspace_id,
                                   const char *encoding)
{
    struct waiting *waiting = call_allocate_or_fail(call, sizeof *waiting);
    if (!waiting)
        return NULL;
    waiting->call = call;
    waiting->encoding = encoding_of(encoding);
    memcpy(waiting->workspace_id, workspace_id, strlen(workspace_id) + 1);
    return waiting;
}

/* exec */

struct exec_input {
    const char *workspace_id, *command, *cwd, *stdin_text, *encoding;
    struct string_list argv;
    struct pair_list env, secret_env;
    int64_t timeout_seconds, max_output_bytes;
    struct optional_integer wait_ms;
    bool stream, detach, stdin_open;
};

static const struct field variable_parts[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .pattern = "^[^=\\u0000]+$",
     .description = "Its name."},
    {.name = "value",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED | FIELD_BLANK_OK,
     .description = "Its value."},
    {0},
};

static const struct field exec_input_fields[] = {
    WORKSPACE_ID_FIELD(exec_input),
    {.name = "command",
     .type = FIELD_STRING,
     .maximum = 1 << 20,
     .description = "Shell command, run by /bin/sh -lc. Give this or argv.",
     .offset = offsetof(struct exec_input, command)},
    {.name = "argv",
     .type = FIELD_STRING_LIST,
     .maximum = 4096,
     .description = "Program and arguments, run without a shell. Give this or command.",
     .offset = offsetof(struct exec_input, argv)},
    {.name = "timeout_seconds",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = 86400,
     .default_json = "30",
     .description = "Time after which the command and all it started is ended; exit code 124.",
     .offset = offsetof(struct exec_input, timeout_seconds)},
    {.name = "cwd",
     .type = FIELD_STRING,
     .maximum = 4095,
     .default_json = "\"/workspace\"",
     .description = "Directory to run in.",
     .offset = offsetof(struct exec_input, cwd)},
    {.name = "env",
     .type = FIELD_MAP,
     .maximum = 1024,
     .fields = variable_parts,
     .description = "Environment variables to add.",
     .offset = offsetof(struct exec_input, env)},
    {.name = "stdin",
     .type = FIELD_STRING,
     .flags = FIELD_BLANK_OK,
     .description = "Text for its standard input, which ends after it.",
     .offset = offsetof(struct exec_input, stdin_text)},
    {.name = "secret_env",
     .type = FIELD_MAP,
     .flags = FIELD_FULL_ONLY,
     .maximum = SECRETS_MAX,
     .description = "Secrets to give as variables: secret name to variable name.",
     .offset = offsetof(struct exec_input, secret_env)},
    {.name = "max_output_bytes",
     .type = FIELD_INTEGER,
     .minimum = 1024,
     .maximum = EXEC_OUTPUT_MAX,
     .default_json = "1048576",
     .description = "Bytes kept of each stream: half from its start, half from its end.",
     .offset = offsetof(struct exec_input, max_output_bytes)},
    {.name = "wait_ms",
     .type = FIELD_INTEGER,
     .flags = FIELD_OPTIONAL_VALUE,
     .minimum = 0,
     .maximum = 3600000,
     .description = "Answer after this time even if it runs still; the command goes on and can be "
                    "read by exec_id.",
     .offset = offsetof(struct exec_input, wait_ms)},
    {.name = "detach",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "Answer at once; the command goes on.",
     .offset = offsetof(struct exec_input, detach)},
    {.name = "stream",
     .type = FIELD_BOOLEAN,
     .flags = FIELD_REST_ONLY,
     .default_json = "false",
     .description = "Send output as it comes: NDJSON, or server-sent events by Accept.",
     .offset = offsetof(struct exec_input, stream)},
    {.name = "stdin_open",
     .type = FIELD_BOOLEAN,
     .flags = FIELD_REST_ONLY,
     .default_json = "false",
     .description = "Keep standard input open for POST …/execs/{exec_id}/input.",
     .offset = offsetof(struct exec_input, stdin_open)},
    ENCODING_FIELD(exec_input, PLACE_BODY),
    {0},
};

static int check_exec(const struct exec_input *input, struct hearth_failure *failure)
{
    int error = 0;
    if (!input->command == !input->argv.count) {
        error = hearth_fail(failure, HEARTH_EINVALID, "conflicting_arguments",
                            "give either command or argv");
        hearth_failure_field(failure, "/command");
    }
    for (size_t i = 0; !error && i < input->env.count; i++)
        if (!*input->env.items[i].name || strchr(input->env.items[i].name, '=')) {
            error = hearth_fail(failure, HEARTH_EINVALID, "bad_variable",
                                "a variable's name is not empty and holds no \"=\"");
            hearth_failure_field(failure, "/env");
        }
    return error;
}

/* How long to wait for its end: negative for as long as it takes. */
static int wait_of(const struct exec_input *input)
{
    return input->detach ? 0 : input->wait_ms.set ? (int)input->wait_ms.value : -1;
}

static void exec(struct call *call, const void *arg)
{
    const struct exec_input *input = arg;
    struct hearth_failure failure;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (!workspace)
        return;
    if (check_exec(input, &failure)) {
        call_fail(call, &failure);
        return;
    }
    struct exec_variable *variables =
        call_allocate_or_fail(call, (input->env.count + 1) * sizeof *variables);
    const struct secret_variable *secrets =
        variables ? secret_variables_of(call, &input->secret_env) : NULL;
    if (!secrets)
        return;
    for (size_t i = 0; i < input->env.count; i++)
        variables[i] = (struct exec_variable){input->env.items[i].name, input->env.items[i].value};
    struct exec_spec spec = {
        .command = input->command,
        .argv = input->argv.items,
        .argv_count = input->argv.count,
        .cwd = input->cwd,
        .environment = variables,
        .environment_count = input->env.count,
        .secrets = secrets,
        .secret_count = input->secret_env.count,
        .input = input->stdin_text,
        .input_length = input->stdin_text ? strlen(input->stdin_text) : 0,
        .input_open = input->stdin_open,
        .timeout_ms = (unsigned)input->timeout_seconds * 1000,
        .max_output_bytes = (uint64_t)input->max_output_bytes,
        .request_id = call_request_id(call),
        .read_on = input->stream && call_can_stream(call),
    };
    if (spec.read_on) {
        exec_stream(call, workspace, input->workspace_id, &spec, encoding_of(input->encoding),
                    wait_of(input));
        return;
    }
    struct waiting *waiting = waiting_new(call, input->workspace_id, input->encoding);
    if (!waiting)
        return;
    waiting->cancel_if_gone = !input->detach && !input->wait_ms.set;
    call_on_gone(call, gone, waiting);
    exec_start(workspace, call_principal(call), &spec, wait_of(input), answered, waiting,
               &waiting->wait);
    memcpy(waiting->exec_id, exec_wait_id(waiting->wait), sizeof waiting->exec_id);
}

/* After a crash: the command that its audit names as WORKSPACE/EXEC. */
static void tell_exec(struct call *call, const void *arg, const char *subject_id)
{
    const struct exec_input *input = arg;
    const char *slash = strchr(subject_id, '/');
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting =
        workspace ? waiting_new(call, input->workspace_id, input->encoding) : NULL;
    if (!waiting)
        return;
    waiting->told = true;
    exec_read(workspace, slash ? slash + 1 : "", NULL, wait_of(input), true, answered, waiting,
              &waiting->wait);
}

/* read, cancel, input */

struct one_input {
    const char *workspace_id, *exec_id, *cursor, *encoding, *data;
    int64_t wait_ms;
    bool end;
};

#define EXEC_ID_FIELD                                                                              \
    {                                                                                              \
        .name = "exec_id", .type = FIELD_STRING, .place = PLACE_PATH, .flags = FIELD_REQUIRED,     \
        .maximum = 64, .pattern = ID_PATTERN("ex"),                                                \
        .description = "ID of the command, as exec gave it.",                                      \
        .offset = offsetof(struct one_input, exec_id)                                              \
    }

static const struct field read_input[] = {
    WORKSPACE_ID_FIELD(one_input),
    EXEC_ID_FIELD,
    {.name = "cursor",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .maximum = 48,
     .description = "Only output past this; the cursor of an earlier answer.",
     .offset = offsetof(struct one_input, cursor)},
    {.name = "wait_ms",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 0,
     .maximum = 3600000,
     .default_json = "0",
     .description = "Wait this long for the end.",
     .offset = offsetof(struct one_input, wait_ms)},
    ENCODING_FIELD(one_input, PLACE_QUERY),
    {0},
};

static void read_(struct call *call, const void *arg)
{
    const struct one_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting =
        workspace ? waiting_new(call, input->workspace_id, input->encoding) : NULL;
    if (waiting)
        exec_read(workspace, input->exec_id, input->cursor, (int)input->wait_ms, true, answered,
                  waiting, &waiting->wait);
}

static const struct field cancel_input[] = {WORKSPACE_ID_FIELD(one_input), EXEC_ID_FIELD, {0}};

static void cancel(struct call *call, const void *arg)
{
    const struct one_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct waiting *waiting = workspace ? waiting_new(call, input->workspace_id, NULL) : NULL;
    if (waiting)
        exec_cancel(workspace, call_principal(call), call_request_id(call), input->exec_id,
                    answered, waiting);
}

static const struct field input_input[] = {
    WORKSPACE_ID_FIELD(one_input),
    EXEC_ID_FIELD,
    {.name = "data",
     .type = FIELD_STRING,
     .flags = FIELD_BLANK_OK,
     .default_json = "\"\"",
     .description = "Text for its standard input.",
     .offset = offsetof(struct one_input, data)},
    {.name = "end",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "End its standard input after this.",
     .offset = offsetof(struct one_input, end)},
    {0},
};
static const struct field input_output[] = {
    {.name = "exec_id", .type = FIELD_STRING, .description = "ID of the command."},
    {.name = "accepted", .type = FIELD_BOOLEAN, .description = "The command's input took it."},
    {0},
};

static void input_taken(void *arg, int error, const struct hearth_failure *failure,
                        const struct exec_status *status)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "exec_id", status->exec_id);
    json_boolean(&json, "accepted", true);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void input_(struct call *call, const void *arg)
{
    const struct one_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        exec_input(workspace, input->exec_id, input->data, strlen(input->data), input->end,
                   input_taken, call);
}

/* logs */

struct logs_input {
    const char *workspace_id, *cursor, *encoding;
    int64_t limit;
};

static const struct field logs_input[] = {
    WORKSPACE_ID_FIELD(logs_input),
    PAGE_FIELDS(logs_input, 32),
    ENCODING_FIELD(logs_input, PLACE_QUERY),
    {0},
};

static const struct field log_fields[] = {
    {.name = "sequence", .type = FIELD_INTEGER, .description = "Number of the command."},
    {.name = "exec_id", .type = FIELD_STRING, .description = "Its ID."},
    {.name = "command", .type = FIELD_STRING, .description = "The command."},
    {.name = "cwd", .type = FIELD_STRING, .description = "Its directory."},
    {.name = "exit_code", .type = FIELD_INTEGER, .description = "Its exit code."},
    {.name = "duration_ms", .type = FIELD_INTEGER, .description = "How long it ran."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was run."},
    {.name = "recorded_at", .type = FIELD_NUMBER, .description = "When it ended."},
    {.name = "stdout", .type = FIELD_STRING, .description = "Standard output."},
    {.name = "stderr", .type = FIELD_STRING, .description = "Standard error."},
    {.name = "truncated", .type = FIELD_BOOLEAN, .description = "Some output is left out."},
    {.name = "timed_out", .type = FIELD_BOOLEAN, .description = "It was ended by its time limit."},
    {0},
};
static const struct field logs_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "count", .type = FIELD_INTEGER, .description = "Entries in this page."},
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .description = "Oldest first.",
     .fields = log_fields},
    NEXT_CURSOR_FIELD,
    {0},
};

struct logs_writer {
    struct json_writer json;
    size_t text_room, used;
    enum text_encoding encoding;
    unsigned count;
};

static bool write_entry(void *arg, const struct exec_status *status)
{
    struct logs_writer *writer = arg;
    struct json_writer *json = &writer->json;
    bool cut = status->truncated;
    writer->used += streams_size(status, writer->encoding, writer->text_room);
    if (writer->count && writer->used > writer->text_room)
        return false;
    writer->count++;
    json_object_begin(json, NULL);
    json_unsigned(json, "sequence", status->sequence);
    json_string(json, "exec_id", status->exec_id);
    json_string(json, "command", status->command);
    json_string(json, "cwd", status->cwd);
    json_integer(json, "exit_code", status->exit_code);
    json_duration_ms(json, "duration_ms", status->duration_us);
    json_string(json, "execution_mode", status->execution_mode);
    json_time(json, "recorded_at", status->ended_at);
    cut = write_streams(json, status, writer->encoding, writer->text_room) || cut;
    json_boolean(json, "truncated", cut);
    json_boolean(json, "timed_out", status->timed_out);
    json_object_end(json);
    return true;
}

struct logs_reading {
    struct call *call;
    const struct logs_input *input;
};

static void read_logs(void *arg)
{
    const struct logs_reading *reading = arg;
    const struct logs_input *input = reading->input;
    struct workspace *workspace = workspace_or_fail(reading->call, input->workspace_id);
    struct buf body = {0};
    struct logs_writer writer = {.json = JSON_WRITER(&body),
                                 .text_room = call_text_room(reading->call),
                                 .encoding = encoding_of(input->encoding)};
    struct hearth_failure failure;
    char cursor[32];
    if (!workspace)
        return;
    json_object_begin(&writer.json, NULL);
    json_string(&writer.json, "workspace_id", input->workspace_id);
    json_array_begin(&writer.json, "entries");
    if (exec_history(workspace, (unsigned)input->limit, input->cursor, write_entry, &writer, cursor,
                     &failure)) {
        buf_free(&body);
        call_fail(reading->call, &failure);
        return;
    }
    json_array_end(&writer.json);
    json_unsigned(&writer.json, "count", writer.count);
    json_string(&writer.json, "next_cursor", *cursor ? cursor : NULL);
    json_object_end(&writer.json);
    reply_with(reading->call, &body, &writer.json);
}

static void logs(struct call *call, const void *arg)
{
    const struct logs_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct logs_reading *reading = workspace ? call_allocate_or_fail(call, sizeof *reading) : NULL;
    if (!reading)
        return;
    *reading = (struct logs_reading){call, input};
    exec_when_recorded(workspace, read_logs, reading);
}

static const char *const exec_errors[] = {GUEST_ERRORS, "quota_execs", "agent_unreachable",
                                          "conflicting_arguments", NULL};
static const char *const one_errors[] = {"workspace_not_found", "exec_not_found", "exec_ended",
                                         "bad_cursor", NULL};
static const char *const logs_errors[] = {"workspace_not_found", "bad_cursor", NULL};

const struct operation_entry exec_operations[] = {
    {
        .name = "workspace_exec",
        .family = "workspace",
        .title = "Run a command",
        .summary = "Runs a command and answers with its output and exit code.",
        .description = "Runs a shell command in a workspace, as root in /workspace, and returns "
                       "stdout, stderr and "
                       "exit_code. A non-zero exit is a normal result. Long output is cut in its "
                       "middle and truncated "
                       "says so. Commands run side by side. For a server or a long build pass "
                       "detach or wait_ms and "
                       "read it later by exec_id.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/exec",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_NEEDS_INPUT | OPERATION_DESTRUCTIVE | OPERATION_LONG |
                 OPERATION_STREAMS | OPERATION_ACTIVITY | OPERATION_OPEN_WORLD,
        .status = 200,
        .input = exec_input_fields,
        .input_size = sizeof(struct exec_input),
        .output = exec_fields,
        .errors = exec_errors,
        .stream_types = stream_types,
        .handler = exec,
        .tell = tell_exec,
    },
    {
        .name = "workspace_exec_read",
        .family = "exec",
        .title = "Read a command",
        .summary = "Tells a command's state and output so far.",
        .description =
            "Tells the state of a command that was started with detach or wait_ms, and its output.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/execs/{exec_id}",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = read_input,
        .input_size = sizeof(struct one_input),
        .output = exec_fields,
        .errors = one_errors,
        .handler = read_,
    },
    {
        .name = "workspace_exec_cancel",
        .family = "exec",
        .title = "Cancel a command",
        .summary = "Ends a command and all it started; answers when it has ended.",
        .description = "Ends a running command: TERM, two seconds, KILL to its process group.",
        .method = "DELETE",
        .path = "/v1/workspaces/{workspace_id}/execs/{exec_id}",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_LONG | OPERATION_ACTIVITY,
        .status = 200,
        .input = cancel_input,
        .input_size = sizeof(struct one_input),
        .output = exec_fields,
        .errors = one_errors,
        .handler = cancel,
    },
    {
        .name = "workspace_exec_input",
        .family = "exec",
        .title = "Feed a command",
        .summary = "Gives a command more standard input, or ends it.",
        .description = "Gives a command that was started with stdin_open more input.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/execs/{exec_id}/input",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_WAKES | OPERATION_LONG | OPERATION_ACTIVITY,
        .status = 200,
        .input = input_input,
        .input_size = sizeof(struct one_input),
        .output = input_output,
        .errors = one_errors,
        .handler = input_,
    },
    {
        .name = "workspace_logs",
        .family = "workspace",
        .title = "List past commands",
        .summary = "The workspace's commands with their output, oldest first.",
        .description = "Lists the commands that were run in a workspace, oldest first, with exit "
                       "codes and output. Does "
                       "not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/logs",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = logs_input,
        .input_size = sizeof(struct logs_input),
        .output = logs_output,
        .errors = logs_errors,
        .handler = logs,
    },
    {0},
};
