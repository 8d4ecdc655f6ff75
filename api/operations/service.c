#include "supervisord/service.h"
#include "api/operations/families.h"
#include "api/operations/service.h"
#include "api/operations/views.h"
#include "supervisord/port.h"
#include "supervisord/secret.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVICE_NAME_PATTERN "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#define TARGET_MAX 4095

static int check_name(const char *name, struct hearth_failure *failure)
{
    static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    size_t length = strlen(name);
    if (length >= 1 && length <= 64 && strchr(first, *name) &&
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == length)
        return 0;
    int error = hearth_fail(failure, HEARTH_EINVALID, "bad_service_name",
                            "a service's name is of letters, digits and ._-");
    hearth_failure_hint(failure, "Begin it with a letter or digit; at most 64 characters.");
    return error;
}

#define SERVICE_NAME_FIELD(input_struct)                                                           \
    {                                                                                              \
        .name = "service_name", .type = FIELD_STRING, .place = PLACE_PATH,                         \
        .flags = FIELD_REQUIRED, .maximum = 64, .pattern = SERVICE_NAME_PATTERN,                   \
        .check = check_name, .description = "Name of the service.",                                \
        .offset = offsetof(struct input_struct, service_name)                                      \
    }

static const struct field readiness_fields[] = {
    {.name = "type", .type = FIELD_STRING, .description = "file, tcp, http or command."},
    {.name = "path",
     .type = FIELD_STRING,
     .flags = FIELD_SOMETIMES,
     .description = "The file that must be there."},
    {.name = "address",
     .type = FIELD_STRING,
     .flags = FIELD_SOMETIMES,
     .description = "What must take connections."},
    {.name = "url",
     .type = FIELD_STRING,
     .flags = FIELD_SOMETIMES,
     .description = "What must answer."},
    {.name = "command",
     .type = FIELD_STRING,
     .flags = FIELD_SOMETIMES,
     .description = "What must succeed."},
    {0},
};

static const struct field port_fields[] = {
    {.name = "host", .type = FIELD_STRING, .description = "Address on the daemon's host."},
    {.name = "host_port", .type = FIELD_INTEGER, .description = "Port there."},
    {.name = "guest_port", .type = FIELD_INTEGER, .description = "Port in the guest."},
    {.name = "protocol", .type = FIELD_STRING, .description = "tcp."},
    {0},
};

#define SERVICE_FIELDS                                                                             \
    {.name = "workspace_id", .type = FIELD_STRING, .description = "The workspace."},               \
        {.name = "service_name", .type = FIELD_STRING, .description = "Its name."},                \
        {.name = "state",                                                                          \
         .type = FIELD_STRING,                                                                     \
         .description = "running, exited, stopped or failed."},                                    \
        {.name = "command", .type = FIELD_STRING, .description = "The command."},                  \
        {.name = "cwd", .type = FIELD_STRING, .description = "Its directory."},                    \
        {.name = "started_at",                                                                     \
         .type = FIELD_NUMBER,                                                                     \
         .flags = FIELD_NULLABLE,                                                                  \
         .description = "When it was started; a restart does not change it."},                     \
        {.name = "ended_at",                                                                       \
         .type = FIELD_NUMBER,                                                                     \
         .flags = FIELD_NULLABLE,                                                                  \
         .description = "When its latest run ended."},                                             \
        {.name = "exit_code",                                                                      \
         .type = FIELD_INTEGER,                                                                    \
         .flags = FIELD_NULLABLE,                                                                  \
         .description = "Its exit code, 128 + N where signal N ended it."},                        \
        {.name = "pid",                                                                            \
         .type = FIELD_INTEGER,                                                                    \
         .flags = FIELD_NULLABLE,                                                                  \
         .description = "Its process in the guest."},                                              \
        {.name = "execution_mode", .type = FIELD_STRING, .description = "How it is run."},         \
        {.name = "readiness",                                                                      \
         .type = FIELD_OBJECT,                                                                     \
         .flags = FIELD_NULLABLE,                                                                  \
         .fields = readiness_fields,                                                               \
         .description = "By what it is ready; null: once it runs."},                               \
        {.name = "ready_at",                                                                       \
         .type = FIELD_NUMBER,                                                                     \
         .flags = FIELD_NULLABLE,                                                                  \
         .description = "When its latest run became ready."},                                      \
        {.name = "stop_reason",                                                                    \
         .type = FIELD_STRING,                                                                     \
         .flags = FIELD_NULLABLE,                                                                  \
         .description =                                                                            \
             "Why it does not run: exited, stop_requested, workspace_stopped, workspace_reset, "   \
             "readiness_timeout, exited_before_ready, cannot_start, restarting, "                  \
             "guest_died, guest_gone, lost."},                                                     \
        {.name = "restart", .type = FIELD_STRING, .description = "never or on-failure."},          \
        {.name = "restarts", .type = FIELD_INTEGER, .description = "Times it was restarted."},     \
    {                                                                                              \
        .name = "published_ports", .type = FIELD_OBJECT_LIST, .fields = port_fields,               \
        .description = "Ports of the daemon's host that lead to it."                               \
    }

const struct field service_fields[] = {SERVICE_FIELDS, {0}};

static void write_readiness(struct json_writer *json, const struct service_status *status)
{
    static const char *const kinds[][2] = {
        {"file", "path"}, {"tcp", "address"}, {"http", "url"}, {"command", "command"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(status->readiness, kinds[i][0]) == 0) {
            json_object_begin(json, "readiness");
            json_string(json, "type", kinds[i][0]);
            json_string(json, kinds[i][1], status->target);
            json_object_end(json);
            return;
        }
    json_null(json, "readiness");
}

void write_service(struct json_writer *json, const struct service_status *status)
{
    json_string(json, "workspace_id", status->workspace_id);
    json_string(json, "service_name", status->name);
    json_string(json, "state", status->state);
    json_string(json, "command", status->command);
    json_string(json, "cwd", status->cwd);
    json_time(json, "started_at", status->started_at);
    json_time(json, "ended_at", status->ended_at);
    if (status->has_exit)
        json_integer(json, "exit_code", status->exit_code);
    else
        json_null(json, "exit_code");
    if (status->pid)
        json_unsigned(json, "pid", status->pid);
    else
        json_null(json, "pid");
    json_string(json, "execution_mode", status->execution_mode);
    write_readiness(json, status);
    json_time(json, "ready_at", status->ready_at);
    json_string(json, "stop_reason", status->stop_reason);
    json_string(json, "restart", status->restart);
    json_unsigned(json, "restarts", status->restarts);
    json_array_begin(json, "published_ports");
    for (size_t i = 0; i < status->port_count; i++) {
        json_object_begin(json, NULL);
        json_string(json, "host", PORT_HOST);
        json_unsigned(json, "host_port", status->ports[i].host_port);
        json_unsigned(json, "guest_port", status->ports[i].guest_port);
        json_string(json, "protocol", "tcp");
        json_object_end(json);
    }
    json_array_end(json);
}

static void answered(void *arg, int error, const struct hearth_failure *failure,
                     const struct service_status *status)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    write_service(&json, status);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

/* start */

struct port_input {
    int64_t guest_port;
    struct optional_integer host_port;
};

struct start_input {
    const char *workspace_id, *service_name, *command, *cwd, *restart;
    const char *ready_file, *ready_tcp, *ready_http, *ready_command;
    int64_t ready_timeout_seconds, ready_interval_ms;
    struct pair_list secret_env;
    struct object_list published_ports;
};

static const char *const restarts[] = {"never", "on-failure", NULL};
static const struct field port_input_fields[] = {
    {.name = "guest_port",
     .type = FIELD_INTEGER,
     .flags = FIELD_REQUIRED,
     .minimum = 1,
     .maximum = 65535,
     .description = "Port in the guest.",
     .offset = offsetof(struct port_input, guest_port)},
    {.name = "host_port",
     .type = FIELD_INTEGER,
     .flags = FIELD_OPTIONAL_VALUE,
     .minimum = 1024,
     .maximum = 65535,
     .description = "Port on the daemon's host; null for any.",
     .offset = offsetof(struct port_input, host_port)},
    {0},
};
static const struct field secret_parts[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .pattern = "^[^=\\u0000]+$",
     .description = "Its name."},
    {.name = "value",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .description = "Name of the variable."},
    {0},
};

static const struct field start_input[] = {
    WORKSPACE_ID_FIELD(start_input),
    SERVICE_NAME_FIELD(start_input),
    {.name = "command",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = 65536,
     .description = "Shell command, run by /bin/sh -lc; it stays in the foreground.",
     .offset = offsetof(struct start_input, command)},
    {.name = "cwd",
     .type = FIELD_STRING,
     .maximum = 4095,
     .default_json = "\"/workspace\"",
     .description = "Directory to run in.",
     .offset = offsetof(struct start_input, cwd)},
    {.name = "ready_file",
     .type = FIELD_STRING,
     .maximum = TARGET_MAX,
     .description = "It is ready when this file is there. At most one ready_… is given.",
     .offset = offsetof(struct start_input, ready_file)},
    {.name = "ready_tcp",
     .type = FIELD_STRING,
     .maximum = 80,
     .description = "It is ready when HOST:PORT, or PORT, in the guest takes connections.",
     .offset = offsetof(struct start_input, ready_tcp)},
    {.name = "ready_http",
     .type = FIELD_STRING,
     .maximum = TARGET_MAX,
     .description = "It is ready when this http URL in the guest answers with a status below 400.",
     .offset = offsetof(struct start_input, ready_http)},
    {.name = "ready_command",
     .type = FIELD_STRING,
     .maximum = TARGET_MAX,
     .description = "It is ready when this shell command in the guest ends with 0.",
     .offset = offsetof(struct start_input, ready_command)},
    {.name = "ready_timeout_seconds",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = 3600,
     .default_json = "30",
     .description = "Where it is not ready in this time it is ended; state failed.",
     .offset = offsetof(struct start_input, ready_timeout_seconds)},
    {.name = "ready_interval_ms",
     .type = FIELD_INTEGER,
     .minimum = 10,
     .maximum = 60000,
     .default_json = "500",
     .description = "Time between two runs of ready_command.",
     .offset = offsetof(struct start_input, ready_interval_ms)},
    {.name = "restart",
     .type = FIELD_STRING,
     .choices = restarts,
     .default_json = "\"never\"",
     .description = "on-failure starts it again, later and later, after an exit other than 0.",
     .offset = offsetof(struct start_input, restart)},
    {.name = "secret_env",
     .type = FIELD_MAP,
     .maximum = SECRETS_MAX,
     .fields = secret_parts,
     .description = "Secrets to give as variables: secret name to variable name.",
     .offset = offsetof(struct start_input, secret_env)},
    {.name = "published_ports",
     .type = FIELD_OBJECT_LIST,
     .maximum = SERVICE_PORTS_MAX,
     .fields = port_input_fields,
     .nested_size = sizeof(struct port_input),
     .description = "Ports of the guest to lead to from the loopback of the daemon's host, while "
                    "the service runs; the workspace's network_policy must publish ports.",
     .offset = offsetof(struct start_input, published_ports)},
    {0},
};

static int check_start(const struct start_input *input, struct service_spec *spec,
                       struct hearth_failure *failure)
{
    const struct {
        const char *kind, *field, *value;
    } probes[] = {{"file", "/ready_file", input->ready_file},
                  {"tcp", "/ready_tcp", input->ready_tcp},
                  {"http", "/ready_http", input->ready_http},
                  {"command", "/ready_command", input->ready_command}};
    spec->readiness = "none";
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        if (!probes[i].value)
            continue;
        if (spec->target) {
            int error = hearth_fail(failure, HEARTH_EINVALID, "conflicting_arguments",
                                    "at most one ready_… can be given");
            hearth_failure_field(failure, probes[i].field);
            return error;
        }
        spec->readiness = probes[i].kind;
        spec->target = probes[i].value;
    }
    return 0;
}

static void take_ports(const struct object_list *list, struct port_pair *ports,
                       struct service_spec *spec)
{
    const struct port_input *items = list->items;
    for (size_t i = 0; i < list->count; i++) {
        ports[i].guest_port = (uint16_t)items[i].guest_port;
        ports[i].host_port = items[i].host_port.set ? (uint16_t)items[i].host_port.value : 0;
    }
    spec->ports = ports;
    spec->port_count = list->count;
}

static void start(struct call *call, const void *arg)
{
    const struct start_input *input = arg;
    struct hearth_failure failure;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (!workspace)
        return;
    struct service_spec spec = {
        .name = input->service_name,
        .command = input->command,
        .cwd = input->cwd,
        .ready_timeout_ms = (uint32_t)input->ready_timeout_seconds * 1000,
        .ready_interval_ms = (uint32_t)input->ready_interval_ms,
        .restart_on_failure = strcmp(input->restart, restarts[1]) == 0,
        .request_id = call_request_id(call),
    };
    struct port_pair ports[SERVICE_PORTS_MAX];
    if (!(spec.secrets = secret_variables_of(call, &input->secret_env)))
        return;
    spec.secret_count = input->secret_env.count;
    take_ports(&input->published_ports, ports, &spec);
    if (check_start(input, &spec, &failure))
        call_fail(call, &failure);
    else
        service_start(workspace, call_principal(call), &spec, answered, call);
}

/* status, stop */

struct name_input {
    const char *workspace_id, *service_name;
};

static const struct field name_input[] = {
    WORKSPACE_ID_FIELD(name_input), SERVICE_NAME_FIELD(name_input), {0}};

static void status(struct call *call, const void *arg)
{
    const struct name_input *input = arg;
    struct service_status found;
    struct hearth_failure failure;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (!workspace)
        return;
    if (service_status(workspace, input->service_name, &found, &failure))
        call_fail(call, &failure);
    else
        answered(call, 0, NULL, &found);
}

static void stop(struct call *call, const void *arg)
{
    const struct name_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        service_stop(workspace, call_principal(call), input->service_name, call_request_id(call),
                     answered, call);
}

/* logs */

#define LOGS_CURSOR_SIZE 64 /* INSTANCE.OUTPUT.ERRORS */

struct logs_input {
    const char *workspace_id, *service_name, *cursor, *encoding;
    int64_t tail_lines, wait_ms;
    bool all;
};

static const struct field logs_input[] = {
    WORKSPACE_ID_FIELD(logs_input),
    SERVICE_NAME_FIELD(logs_input),
    {.name = "tail_lines",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 1,
     .maximum = 100000,
     .default_json = "200",
     .description = "At most so many of the newest lines of each stream.",
     .offset = offsetof(struct logs_input, tail_lines)},
    {.name = "all",
     .type = FIELD_BOOLEAN,
     .place = PLACE_QUERY,
     .default_json = "false",
     .description = "All lines that are kept.",
     .offset = offsetof(struct logs_input, all)},
    ENCODING_FIELD(logs_input, PLACE_QUERY),
    {.name = "cursor",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .flags = FIELD_REST_ONLY,
     .maximum = LOGS_CURSOR_SIZE - 1,
     .description =
         "Only what was printed past this, the cursor of an earlier answer; of a service "
         "that was started again since, all that it has printed.",
     .offset = offsetof(struct logs_input, cursor)},
    {.name = "wait_ms",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .flags = FIELD_REST_ONLY,
     .minimum = 0,
     .maximum = 60000,
     .default_json = "0",
     .description = "With a cursor: wait so long for something past it, or the service's end.",
     .offset = offsetof(struct logs_input, wait_ms)},
    {0},
};
static const struct field logs_output[] = {
    SERVICE_FIELDS,
    {.name = "stdout", .type = FIELD_STRING, .description = "What it printed."},
    {.name = "stderr", .type = FIELD_STRING, .description = "What it printed as errors."},
    {.name = "tail_lines",
     .type = FIELD_INTEGER,
     .flags = FIELD_NULLABLE,
     .description = "The limit that was asked for; null where there was none."},
    {.name = "truncated", .type = FIELD_BOOLEAN, .description = "There was more before this."},
    {.name = "cursor", .type = FIELD_STRING, .description = "Pass it to read on from here."},
    {0},
};

static bool read_cursor(const char *cursor, struct service_log_place *ret_place)
{
    char more;
    size_t instance = strcspn(cursor, ".");
    if (instance >= sizeof ret_place->instance ||
        strspn(cursor + instance, ".0123456789") != strlen(cursor + instance))
        return false;
    snprintf(ret_place->instance, sizeof ret_place->instance, "%.*s", (int)instance, cursor);
    return id_valid(ret_place->instance, "sv") &&
           sscanf(cursor + instance, ".%20" SCNu64 ".%20" SCNu64 "%c", &ret_place->output,
                  &ret_place->errors, &more) == 2;
}

struct reading {
    struct call *call;
    int64_t tail_lines; /* 0: all */
    enum text_encoding encoding;
};

/* Where the last so many lines begin. */
static size_t tail_of(const struct service_log *log, int64_t lines)
{
    size_t at = log->length;
    if (!lines)
        return 0;
    if (at && log->data[at - 1] == '\n')
        at--;
    for (;; lines--) {
        const char *newline = memrchr(log->data, '\n', at);
        if (!newline)
            return 0;
        if (lines == 1)
            return (size_t)(newline - log->data) + 1;
        at = (size_t)(newline - log->data);
    }
}

static void logged(void *arg, int error, const struct hearth_failure *failure,
                   const struct service_logs *logs)
{
    const struct reading *reading = arg;
    struct call *call = reading->call;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    char cursor[LOGS_CURSOR_SIZE];
    if (error) {
        call_fail(call, failure);
        return;
    }
    size_t output = tail_of(&logs->output, reading->tail_lines);
    size_t errors = tail_of(&logs->errors, reading->tail_lines);
    snprintf(cursor, sizeof cursor, "%s.%" PRIu64 ".%" PRIu64, logs->next.instance,
             logs->next.output, logs->next.errors);
    json_object_begin(&json, NULL);
    write_service(&json, &logs->status);
    write_encoded(&json, "stdout", logs->output.data + output, logs->output.length - output,
                  reading->encoding);
    write_encoded(&json, "stderr", logs->errors.data + errors, logs->errors.length - errors,
                  reading->encoding);
    if (reading->tail_lines)
        json_integer(&json, "tail_lines", reading->tail_lines);
    else
        json_null(&json, "tail_lines");
    json_boolean(&json, "truncated",
                 output || errors || logs->output.missed || logs->errors.missed ||
                     logs->started_since);
    json_string(&json, "cursor", cursor);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void logs(struct call *call, const void *arg)
{
    const struct logs_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct reading *reading = workspace ? call_allocate_or_fail(call, sizeof *reading) : NULL;
    struct service_log_place from = {0};
    struct hearth_failure failure;
    if (!reading)
        return;
    if (input->cursor && !read_cursor(input->cursor, &from)) {
        supervisor_bad_cursor(&failure);
        call_fail(call, &failure);
        return;
    }
    reading->call = call;
    reading->tail_lines = input->all || input->cursor ? 0 : input->tail_lines;
    reading->encoding = encoding_of(input->encoding);
    service_logs(workspace, input->service_name, &from,
                 input->cursor ? (unsigned)input->wait_ms : 0, logged, reading);
}

static const char *const start_errors[] = {GUEST_ERRORS,
                                           "service_running",
                                           "bad_readiness",
                                           "conflicting_arguments",
                                           "too_many_services",
                                           "ports_not_allowed",
                                           "bad_ports",
                                           "port_taken",
                                           "unknown_secret",
                                           "bad_service_name",
                                           NULL};
static const char *const list_errors[] = {"workspace_not_found", NULL};
static const char *const name_errors[] = {"workspace_not_found", "service_not_found",
                                          "bad_service_name", NULL};
static const char *const logs_errors[] = {"workspace_not_found", "service_not_found",
                                          "bad_service_name", "bad_cursor", NULL};
static const char *const stop_errors[] = {"workspace_not_found", "service_not_found",
                                          "bad_service_name",    "workspace_not_started",
                                          "workspace_busy",      NULL};

const struct operation_entry service_operations[] = {
    {
        .name = "service_start",
        .family = "service",
        .title = "Start a service",
        .summary = "Starts a command that goes on by itself, and waits until it is ready.",
        .description =
            "Starts a long-running command (a server, a watcher) under a name and answers when it "
            "is ready: by a file, a TCP port, an http URL or a command in the workspace, or at "
            "once. One that dies or is not ready in time is no error: state is failed and "
            "stop_reason says why; read service_logs then.",
        .method = "PUT",
        .path = "/v1/workspaces/{workspace_id}/services/{service_name}",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_LONG | OPERATION_ACTIVITY,
        .status = 200,
        .input = start_input,
        .input_size = sizeof(struct start_input),
        .output = service_fields,
        .errors = start_errors,
        .handler = start,
    },
    {
        .name = "service_list",
        .family = "service",
        .title = "List services",
        .summary = "Lists a workspace's services with their states.",
        .description = "Lists a workspace's services with their states, also those that have "
                       "ended. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/services",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = service_list_input,
        .input_size = sizeof(struct service_list_input),
        .output = service_list_output,
        .errors = list_errors,
        .handler = service_list,
    },
    {
        .name = "service_status",
        .family = "service",
        .title = "Show a service",
        .summary = "Tells the state of one service.",
        .description = "Tells whether a service runs, since when, and how it ended. Does not "
                       "count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/services/{service_name}",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = name_input,
        .input_size = sizeof(struct name_input),
        .output = service_fields,
        .errors = name_errors,
        .handler = status,
    },
    {
        .name = "service_logs",
        .family = "service",
        .title = "Read a service's logs",
        .summary = "Gives the newest lines that a service has printed.",
        .description = "Gives the newest lines that a service has printed, also after it has "
                       "ended and its workspace was stopped, until it is started again. The "
                       "newest 256 KiB of each stream are kept. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/services/{service_name}/logs",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = logs_input,
        .input_size = sizeof(struct logs_input),
        .output = logs_output,
        .errors = logs_errors,
        .handler = logs,
    },
    {
        .name = "service_stop",
        .family = "service",
        .title = "Stop a service",
        .summary = "Ends a service and all that it started.",
        .description = "Ends a service, its whole process group and what has left that (known by "
                       "HEARTH_SERVICE in its environment): TERM, and KILL after five seconds to "
                       "what has not ended by then. "
                       "Answers when it is gone, with how it ended; one that does not run is told "
                       "as it is.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/services/{service_name}/stop",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_LONG | OPERATION_IDEMPOTENT |
                 OPERATION_ACTIVITY,
        .status = 200,
        .input = name_input,
        .input_size = sizeof(struct name_input),
        .output = service_fields,
        .errors = stop_errors,
        .handler = stop,
    },
    {0},
};
