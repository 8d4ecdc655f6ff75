#include "api/operations/families.h"
#include "api/operations/machine.h"
#include "api/operations/views.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* vm_run: one command in a sandbox of its own, that is gone afterwards whatever happened. vm_exec:
 * the same in a machine that was made before. */

/* A command that its machine's ttl cuts is ended like one that its own limit cuts; the machine
 * outlives it by what that and the answer take. */
#define TTL_GRACE_US (10 * US_PER_S)

struct run_input {
    const char *environment, *command, *isolation, *encoding;
    int64_t vcpu_count, mem_mib, timeout_seconds, ttl_seconds;
    bool network, allow_host_compat;
};

static const struct field run_input[] = {
    ENVIRONMENT_FIELD(run_input),
    {.name = "command",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = 1 << 20,
     .description = "Shell command, run by /bin/sh -lc.",
     .offset = offsetof(struct run_input, command)},
    MACHINE_FIELDS(run_input),
    {.name = "timeout_seconds",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = 86400,
     .default_json = "30",
     .description = "Time after which the command is ended; exit code 124.",
     .offset = offsetof(struct run_input, timeout_seconds)},
    {.name = "ttl_seconds",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = 31536000,
     .default_json = "600",
     .description = "Longest life of the machine; a command that still runs then is ended as by "
                    "timeout_seconds.",
     .offset = offsetof(struct run_input, ttl_seconds)},
    {.name = "network",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "Give it outbound network access.",
     .offset = offsetof(struct run_input, network)},
    ISOLATION_FIELD(run_input),
    ALLOW_HOST_COMPAT_FIELD(run_input),
    ENCODING_FIELD(run_input, PLACE_BODY),
    {0},
};

static const struct field cleanup_fields[] = {
    {.name = "vm_id", .type = FIELD_STRING, .description = "ID of the machine."},
    {.name = "deleted", .type = FIELD_BOOLEAN, .description = "It is gone."},
    {.name = "reason", .type = FIELD_STRING, .description = "post_exec_cleanup."},
    {0},
};
const struct field vm_run_output[] = {
    {.name = "vm_id", .type = FIELD_STRING, .description = "ID of the machine, which is gone."},
    {.name = "environment", .type = FIELD_STRING, .description = "Its environment."},
    {.name = "environment_version",
     .type = FIELD_STRING,
     .description = "Content digest of that environment."},
    {.name = "command", .type = FIELD_STRING, .description = "The command."},
    {.name = "stdout", .type = FIELD_STRING, .description = "Standard output."},
    {.name = "stderr", .type = FIELD_STRING, .description = "Standard error."},
    {.name = "exit_code", .type = FIELD_INTEGER, .description = "Exit code; 124 after a time-out."},
    {.name = "duration_ms", .type = FIELD_INTEGER, .description = "How long it ran."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was run."},
    {.name = "timed_out", .type = FIELD_BOOLEAN, .description = "It was ended by its time limit."},
    {.name = "stdout_bytes",
     .type = FIELD_INTEGER,
     .description = "Bytes written to standard output."},
    {.name = "stderr_bytes",
     .type = FIELD_INTEGER,
     .description = "Bytes written to standard error."},
    {.name = "truncated", .type = FIELD_BOOLEAN, .description = "Some output is left out."},
    {.name = "cleanup",
     .type = FIELD_OBJECT,
     .description = "What became of the machine.",
     .fields = cleanup_fields},
    {0},
};

struct run {
    struct call *call;
    const char *command;
    enum text_encoding encoding;
    int64_t timeout_seconds;
    struct exec_wait *wait;
    char vm_id[ID_SIZE], exec_id[ID_SIZE];
    struct buf body; /* the answer, kept while the machine is deleted */
    struct json_writer json;
    struct hearth_failure failure;
    bool gone;
};

static struct workspace *machine(struct run *run)
{
    struct hearth_failure failure;
    return *run->vm_id ? workspace_find(call_principal(run->call), run->vm_id, &failure) : NULL;
}

static void removed(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *workspace)
{
    struct run *run = arg;
    (void)workspace;
    if (run->failure.error) {
        buf_free(&run->body);
        call_fail(run->call, &run->failure);
        return;
    }
    json_object_begin(&run->json, "cleanup");
    json_string(&run->json, "vm_id", run->vm_id);
    json_boolean(&run->json, "deleted", error == 0);
    json_string(&run->json, "reason", "post_exec_cleanup");
    json_object_end(&run->json);
    json_object_end(&run->json);
    (void)failure;
    reply_with(run->call, &run->body, &run->json);
}

static void clean_up(struct run *run)
{
    struct workspace *workspace = machine(run);
    if (workspace)
        workspace_delete(workspace, call_principal(run->call), call_request_id(run->call), removed,
                         run);
    else
        removed(run, HEARTH_ENOTFOUND, NULL, NULL);
}

static void ran(void *arg, int error, const struct hearth_failure *failure,
                const struct exec_status *status)
{
    struct run *run = arg;
    struct workspace *workspace = machine(run);
    run->wait = NULL;
    if (error || !workspace) {
        run->failure = error ? *failure : HEARTH_FAILURE_NONE;
        if (!error || error == HEARTH_ENOTFOUND) {
            hearth_fail(&run->failure, HEARTH_ENOTFOUND, "vm_not_found",
                        "the machine was deleted while the command ran in it");
            hearth_failure_hint(&run->failure, "Somebody deleted it, or its ttl_seconds were over: "
                                               "make another one that lives longer.");
        }
        clean_up(run);
        return;
    }
    struct workspace_status described;
    struct json_writer *json = &run->json;
    workspace_describe(workspace, &described);
    *json = JSON_WRITER(&run->body);
    json_object_begin(json, NULL);
    json_string(json, "vm_id", run->vm_id);
    json_string(json, "environment", described.environment);
    json_string(json, "environment_version", described.environment_version);
    json_string(json, "command", status->command);
    bool cut = write_streams(json, status, run->encoding, call_text_room(run->call));
    json_integer(json, "exit_code", status->exit_code);
    json_duration_ms(json, "duration_ms", status->duration_us);
    json_string(json, "execution_mode", status->execution_mode);
    json_boolean(json, "timed_out", status->timed_out);
    json_unsigned(json, "stdout_bytes", status->stdout_bytes);
    json_unsigned(json, "stderr_bytes", status->stderr_bytes);
    json_boolean(json, "truncated", cut);
    clean_up(run);
}

/* The client has gone: what runs for it is ended, and the clean-up follows as ever. */
static void gone(void *arg)
{
    struct run *run = arg;
    struct workspace *workspace = machine(run);
    run->gone = true;
    if (!workspace || !run->wait)
        return;
    exec_wait_cancel(run->wait);
    run->wait = NULL;
    hearth_fail(&run->failure, HEARTH_ECANCELLED, NULL, "the client went away");
    clean_up(run);
}

static void run_in(struct run *run, struct workspace *workspace)
{
    struct exec_spec spec = {
        .command = run->command,
        .timeout_ms = (unsigned)run->timeout_seconds * 1000,
        .max_output_bytes = EXEC_OUTPUT_DEFAULT,
        .request_id = call_request_id(run->call),
    };
    exec_start(workspace, call_principal(run->call), &spec, -1, ran, run, &run->wait);
}

void vm_exec(struct call *call, const void *arg)
{
    const struct vm_exec_input *input = arg;
    struct hearth_failure failure;
    struct workspace_status status;
    struct workspace *workspace = machine_or_fail(call, input->vm_id);
    if (!workspace)
        return;
    workspace_describe(workspace, &status);
    if (status.state != WORKSPACE_STARTED) {
        hearth_fail(&failure, HEARTH_ECONFLICT, "vm_not_started", "the machine is %s: it was kept",
                    machine_state(workspace, status.state));
        hearth_failure_field(&failure, "/vm_id");
        hearth_failure_hint(&failure, "Start it with vm_start, then run the command again.");
        call_fail(call, &failure);
        return;
    }
    struct run *run = call_allocate_or_fail(call, sizeof *run);
    if (!run)
        return;
    run->call = call;
    run->command = input->command;
    run->encoding = encoding_of(input->encoding);
    run->timeout_seconds = input->timeout_seconds;
    memcpy(run->vm_id, status.workspace_id, strlen(status.workspace_id) + 1);
    call_on_gone(call, gone, run);
    run_in(run, workspace);
}

static void created(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *workspace)
{
    struct run *run = arg;
    struct workspace_status status;
    if (error) {
        call_fail(run->call, failure);
        return;
    }
    workspace_describe(workspace, &status);
    memcpy(run->vm_id, status.workspace_id, strlen(status.workspace_id) + 1);
    if (run->gone) {
        hearth_fail(&run->failure, HEARTH_ECANCELLED, NULL, "the client went away");
        clean_up(run);
        return;
    }
    run_in(run, workspace);
}

static void run_(struct call *call, const void *arg)
{
    const struct run_input *input = arg;
    struct run *run = call_allocate_or_fail(call, sizeof *run);
    if (!run)
        return;
    run->call = call;
    run->command = input->command;
    run->encoding = encoding_of(input->encoding);
    run->timeout_seconds =
        input->timeout_seconds < input->ttl_seconds ? input->timeout_seconds : input->ttl_seconds;
    struct workspace_spec spec = {
        .environment = input->environment,
        .vcpu_count = (uint32_t)input->vcpu_count,
        .mem_mib = (uint32_t)input->mem_mib,
        .disk_mib = 4096,
        .ttl_us = input->ttl_seconds * US_PER_S + TTL_GRACE_US,
        .network = input->network ? NETWORK_EGRESS : NETWORK_OFF,
        .isolation = input->isolation,
        .allow_host_compat = input->allow_host_compat,
        .one_shot = true,
        .request_id = call_request_id(call),
    };
    call_on_gone(call, gone, run);
    workspace_create(call_supervisor(call), call_principal(call), &spec, created, run);
}

/* vm_list_environments */

struct environments_input {
    const char *cursor;
    int64_t limit;
};

static const struct field environments_input[] = {PAGE_FIELDS(environments_input, 129), {0}};
static const struct field environments_output[] = {
    {.name = "count", .type = FIELD_INTEGER, .description = "Environments in this page."},
    {.name = "environments",
     .type = FIELD_OBJECT_LIST,
     .description = "Built ones can be used at once.",
     .fields = environment_fields},
    NEXT_CURSOR_FIELD,
    {0},
};

/* A page goes on after the environment whose name its cursor is. */
struct environments_writer {
    struct json_writer json;
    const struct environments_input *input;
    unsigned count;
    char last[130];
    bool begun, more;
};

static int visit(void *arg, const struct environment *environment)
{
    struct environments_writer *writer = arg;
    if (!writer->begun) {
        writer->begun = strcmp(environment->name, writer->input->cursor) == 0;
        return 0;
    }
    writer->more = writer->count == (uint64_t)writer->input->limit;
    if (writer->more)
        return 1;
    snprintf(writer->last, sizeof writer->last, "%s", environment->name);
    write_environment(&writer->json, NULL, environment);
    writer->count++;
    return 0;
}

static void environments(struct call *call, const void *arg)
{
    const struct environments_input *input = arg;
    struct buf body = {0};
    struct environments_writer writer = {
        .json = JSON_WRITER(&body), .input = input, .begun = !input->cursor};
    json_object_begin(&writer.json, NULL);
    json_array_begin(&writer.json, "environments");
    environment_each(supervisor_environments(call_supervisor(call)), visit, &writer);
    json_array_end(&writer.json);
    json_unsigned(&writer.json, "count", writer.count);
    json_string(&writer.json, "next_cursor", writer.more ? writer.last : NULL);
    json_object_end(&writer.json);
    if (!writer.begun) {
        struct hearth_failure failure;
        buf_free(&body);
        supervisor_bad_cursor(&failure);
        call_fail(call, &failure);
        return;
    }
    reply_with(call, &body, &writer.json);
}

static const char *const environments_errors[] = {"bad_cursor", NULL};
static const char *const run_errors[] = {"unknown_environment", "environment_not_pulled",
                                         "quota_workspaces",    "isolation_unavailable",
                                         "network_unavailable", NULL};

const struct operation_entry vm_operations[] = {
    {
        .name = "vm_run",
        .family = "vm",
        .title = "Run one command",
        .summary = "Runs one command in a fresh sandbox that is gone afterwards.",
        .description = "Runs one shell command in a fresh, isolated Linux sandbox and returns "
                       "stdout, stderr and "
                       "exit_code. The sandbox is deleted afterwards: nothing is kept between "
                       "calls. For more than one "
                       "command use a workspace.",
        .method = "POST",
        .path = "/v1/vm-runs",
        .profile = PROFILE_VM_RUN,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_LONG | OPERATION_OPEN_WORLD,
        .status = 200,
        .input = run_input,
        .input_size = sizeof(struct run_input),
        .output = vm_run_output,
        .errors = run_errors,
        .handler = run_,
    },
    {
        .name = "vm_list_environments",
        .family = "vm",
        .title = "List environments",
        .summary = "Lists the environments that sandboxes start from.",
        .description = "Lists the environments that workspaces and machines can be made from, and "
                       "which of them are built "
                       "on this host.",
        .method = "GET",
        .path = "/v1/environments",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = environments_input,
        .input_size = sizeof(struct environments_input),
        .output = environments_output,
        .errors = environments_errors,
        .handler = environments,
    },
    {0},
};
