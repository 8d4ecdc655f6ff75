#include "api/operations/views.h"

#include "api/operations/result_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct field seed_fields[] = {
    TEXT("mode", "empty, directory, tar_archive, fork or memory_fork."),
    NULLABLE_TEXT(
        "seed_path",
        "Where the client packed it from; of a fork its origin, workspace or workspace@snapshot."),
    TEXT("destination", "Directory in the guest."),
    NUMBER("entry_count", "Members put in."),
    NUMBER("bytes_written", "Bytes of content put in."),
    {0},
};

static const struct field last_command_fields[] = {
    NUMBER("sequence", "Its number in the workspace."),
    TEXT("command", "The command."),
    TEXT("cwd", "Its directory."),
    NUMBER("exit_code", "Its exit code."),
    NUMBER("duration_ms", "How long it ran."),
    TIME("recorded_at", "When it ended."),
    {0},
};

static const struct field secret_fields[] = {
    TEXT("name", "The secret's name."),
    TEXT("source_kind", "literal or file."),
    {0},
};

static const struct field limit_fields[] = {
    FLAG("memory", "The memory limit is enforced."),
    FLAG("pids", "The number of processes is limited."),
    FLAG("cpu", "The number of CPUs is limited."),
    FLAG("disk", "The disk's size is limited."),
    {0},
};

static const struct field reset_fields[] = {
    TEXT("snapshot_name", "The snapshot that was put back."),
    TEXT("kind", "baseline or named."),
    TEXT("destination", "Where."),
    NUMBER("entry_count", "Files, directories and symlinks."),
    NUMBER("bytes_written", "Size of the files together."),
    {0},
};
const struct field metadata_fields[] = {
    NULLABLE_TEXT("runtime", "What runs the guest, with its version."),
    FLAG("rootless", "The daemon is not root."),
    FLAG("user_namespace", "Root in the guest is nobody on the host."),
    FLAG("seccomp", "System calls are filtered."),
    {.name = "limits",
     .type = FIELD_OBJECT,
     .description = "Which limits this host enforces.",
     .fields = limit_fields},
    TEXT("link", "up, connecting or down: the link to the guest's agent."),
    NULLABLE_TEXT("failure_code",
                  "Why the state is failed, or a suspended machine is not resumed."),
    NULLABLE_TEXT("failure_detail", "The same as a sentence."),
    {0},
};

#define COMMON_FIELDS                                                                              \
    TEXT("workspace_id", "ID of the workspace."), NULLABLE_TEXT("name", "Its name."),              \
        {.name = "labels", .type = FIELD_MAP, .description = "Its labels."},                       \
        TEXT("environment", "The environment it was made from.")

const struct field no_fields[] = {{0}};
const char *const isolation_names[] = {"vm", "container", NULL};
const char *const encoding_names[] = {"utf-8", "base64", NULL};
const char *const transport_names[] = {"vsock", "vhost-vsock", "vhost-user-vsock", "serial", NULL};

const struct field label_parts[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .pattern = "^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$",
     .description = "Its name."},
    {.name = "value",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED | FIELD_BLANK_OK,
     .maximum = WORKSPACE_LABEL_VALUE_MAX,
     .pattern = "^[^\\u0000-\\u001f\\u007f]*$",
     .description = "Its value."},
    {0},
};

const struct field status_fields[] = {
    COMMON_FIELDS,
    TEXT("environment_version", "Content digest of that environment."),
    NUMBER("vcpu_count", "Virtual CPUs."),
    NUMBER("mem_mib", "Memory in MiB."),
    NUMBER("disk_mib", "Disk in MiB."),
    NUMBER("ttl_seconds", "How long it lives without activity."),
    TIME("created_at", "Seconds since the epoch."),
    TIME("last_activity_at", "Seconds since the epoch; reads do not move it."),
    TIME("expires_at", "Seconds since the epoch."),
    TEXT("state", "creating, started, suspended, stopped, failed or deleting."),
    TEXT("network_policy", "off, egress, published-ports or egress+published-ports."),
    FLAG("network_enabled", "It has a network device."),
    FLAG("allow_host_compat", "A container was accepted."),
    NULLABLE_TEXT("guest_ip", "Address of the guest."),
    NULLABLE_TEXT("tap_name", "The guest's network device."),
    NULLABLE_TEXT("execution_mode", "guest_vsock, guest_serial or guest_unix."),
    NULLABLE_TEXT("isolation", "vm or container."),
    NULLABLE_TEXT("vm_accelerator", "kvm or tcg."),
    TEXT("workspace_path", "Where its files are in the guest."),
    {.name = "workspace_seed",
     .type = FIELD_OBJECT,
     .description = "What it was seeded with.",
     .fields = seed_fields},
    {.name = "secrets",
     .type = FIELD_OBJECT_LIST,
     .description = "Names of its secrets.",
     .fields = secret_fields},
    NUMBER("command_count", "Commands run since creation or reset."),
    {.name = "last_command",
     .type = FIELD_OBJECT,
     .flags = FIELD_NULLABLE,
     .description = "The last command that ended.",
     .fields = last_command_fields},
    NUMBER("reset_count", "How often it was reset."),
    NULLABLE_TIME("last_reset_at", "When it was last reset."),
    NUMBER("service_count", "Services known."),
    NUMBER("running_service_count", "Services running."),
    {.name = "workspace_reset",
     .type = FIELD_OBJECT,
     .flags = FIELD_SOMETIMES,
     .description = "Of workspace_reset: what was put back.",
     .fields = reset_fields},
    {.name = "metadata",
     .type = FIELD_OBJECT,
     .description = "How it is run.",
     .fields = metadata_fields},
    {0},
};

const struct field row_fields[] = {
    COMMON_FIELDS,
    TEXT("state", "creating, started, suspended, stopped, failed or deleting."),
    TIME("created_at", "Seconds since the epoch."),
    TIME("last_activity_at", "Seconds since the epoch."),
    TIME("expires_at", "Seconds since the epoch."),
    NUMBER("command_count", "Commands run."),
    NUMBER("service_count", "Services known."),
    NUMBER("running_service_count", "Services running."),
    {0},
};

const struct field exec_fields[] = {
    TEXT("workspace_id", "ID of the workspace."),
    TEXT("environment", "Its environment."),
    TEXT("environment_version", "Content digest of that environment."),
    TEXT("command", "The command, as a shell would take it."),
    {.name = "stdout",
     .type = FIELD_STRING,
     .flags = FIELD_SOMETIMES,
     .description = "Standard output; a line in square brackets stands where bytes were left out."},
    {.name = "stderr",
     .type = FIELD_STRING,
     .flags = FIELD_SOMETIMES,
     .description = "Standard error, likewise."},
    NULLABLE_NUMBER(
        "exit_code",
        "Exit code: 128 + signal, 124 after a time-out, 127 not found; null while it runs."),
    NULLABLE_NUMBER("duration_ms", "How long it ran, or runs so far."),
    NULLABLE_TEXT("execution_mode", "guest_vsock, guest_serial or guest_unix."),
    NUMBER("sequence", "Its number in the workspace."),
    TEXT("cwd", "Its directory."),
    NUMBER("stdout_bytes", "Bytes that it wrote to standard output."),
    NUMBER("stderr_bytes", "Bytes that it wrote to standard error."),
    FLAG("truncated", "Some output is left out."),
    FLAG("timed_out", "It was ended by its time limit."),
    TEXT("exec_id", "ID by which it can be read and cancelled."),
    FLAG("running", "It runs still."),
    FLAG("started", "It could be started."),
    FLAG("cancelled", "It was cancelled."),
    FLAG("drained", "All output was seen; false where a background child held on to it."),
    FLAG("lost", "How it ended is not known."),
    NULLABLE_NUMBER("signal", "The signal that ended it."),
    NULLABLE_TEXT("problem", "Why it did not start or was lost."),
    TEXT("cursor", "Pass it to read on from here."),
    {0},
};

#define ENVIRONMENT_FIELDS                                                                         \
    TEXT("name", "Name of the environment."),                                                      \
        NULLABLE_TEXT("version", "Content digest; null while it is not built."),                   \
        FLAG("built", "It can be used now."), FLAG("building", "It is being built."),              \
        FLAG("builtin", "`pull` can build it."), NULLABLE_TEXT("description", "What it holds."),   \
        NUMBER("size_bytes", "Size on disk."), NULLABLE_TIME("built_at", "When it was built."),    \
        NULLABLE_TEXT("source", "What it was made of.")
const struct field environment_fields[] = {ENVIRONMENT_FIELDS, {0}};

static const struct field package_fields[] = {
    TEXT("name", "The package."),
    TEXT("version", "Its version."),
    TEXT("architecture", "What it is built for; all for any."),
    {0},
};
const struct field environment_inspect_fields[] = {
    ENVIRONMENT_FIELDS,
    NUMBER("package_count", "Debian packages installed in it, on all pages."),
    {.name = "packages",
     .type = FIELD_OBJECT_LIST,
     .fields = package_fields,
     .description = "Those of this page, by name."},
    NEXT_CURSOR_FIELD,
    {0},
};

static void write_labels(struct json_writer *json, const struct workspace_status *status)
{
    json_object_begin(json, "labels");
    for (size_t i = 0; i < status->label_count; i++)
        json_string(json, status->labels[i].key, status->labels[i].value);
    json_object_end(json);
}

static void write_head(struct json_writer *json, const struct workspace_status *status)
{
    json_string(json, "workspace_id", status->workspace_id);
    json_string(json, "name", status->name);
    write_labels(json, status);
    json_string(json, "environment", status->environment);
}

static void write_times(struct json_writer *json, const struct workspace_status *status)
{
    json_time(json, "created_at", status->created_at);
    json_time(json, "last_activity_at", status->last_activity_at);
    json_time(json, "expires_at", status->expires_at);
}

static void write_last_command(struct json_writer *json, const struct workspace_status *status)
{
    if (!status->last_command.sequence) {
        json_null(json, "last_command");
        return;
    }
    json_object_begin(json, "last_command");
    json_unsigned(json, "sequence", status->last_command.sequence);
    json_string(json, "command", status->last_command.command);
    json_string(json, "cwd", status->last_command.cwd);
    json_integer(json, "exit_code", status->last_command.exit_code);
    json_duration_ms(json, "duration_ms", status->last_command.duration_us);
    json_time(json, "recorded_at", status->last_command.recorded_at);
    json_object_end(json);
}

void write_metadata(struct json_writer *json, const struct workspace_status *status)
{
    const struct guest_facts *facts = &status->facts;
    json_object_begin(json, "metadata");
    json_string(json, "runtime", facts->runtime);
    json_boolean(json, "rootless", facts->rootless);
    json_boolean(json, "user_namespace", facts->user_namespace);
    json_boolean(json, "seccomp", facts->seccomp);
    json_object_begin(json, "limits");
    json_boolean(json, "memory", facts->memory_limited);
    json_boolean(json, "pids", facts->pids_limited);
    json_boolean(json, "cpu", facts->cpu_limited);
    json_boolean(json, "disk", facts->disk_limited);
    json_object_end(json);
    json_string(json, "link", status->link_state);
    json_string(json, "failure_code", status->failure_code);
    json_string(json, "failure_detail", status->failure_detail);
    json_object_end(json);
}

void write_status(struct json_writer *json, struct workspace *workspace)
{
    json_object_begin(json, NULL);
    write_status_members(json, workspace);
    json_object_end(json);
}

void write_status_members(struct json_writer *json, struct workspace *workspace)
{
    struct workspace_status status;
    workspace_describe(workspace, &status);
    workspace_describe_last_command(workspace, &status);
    write_head(json, &status);
    json_string(json, "environment_version", status.environment_version);
    json_unsigned(json, "vcpu_count", status.vcpu_count);
    json_unsigned(json, "mem_mib", status.mem_mib);
    json_unsigned(json, "disk_mib", status.disk_mib);
    json_integer(json, "ttl_seconds", status.ttl_us / US_PER_S);
    write_times(json, &status);
    json_string(json, "state", workspace_state_name(status.state));
    json_string(json, "network_policy", network_policy_name(status.network));
    json_boolean(json, "network_enabled", network_has_device(status.network));
    json_boolean(json, "allow_host_compat", status.allow_host_compat);
    json_string(json, "guest_ip", status.guest_ip);
    json_string(json, "tap_name", status.tap_name);
    json_string(json, "execution_mode", status.facts.execution_mode);
    json_string(json, "isolation", status.facts.isolation);
    json_string(json, "vm_accelerator", status.facts.vm_accelerator);
    json_string(json, "workspace_path", "/workspace");
    json_object_begin(json, "workspace_seed");
    json_string(json, "mode", status.seed_mode);
    json_string(json, "seed_path", status.seed_path);
    json_string(json, "destination", status.seed_destination);
    json_unsigned(json, "entry_count", status.seed_entry_count);
    json_unsigned(json, "bytes_written", status.seed_bytes);
    json_object_end(json);
    json_array_begin(json, "secrets");
    for (size_t i = 0; i < status.secret_count; i++) {
        bool from_file;
        json_object_begin(json, NULL);
        json_string(json, "name", workspace_secret(workspace, i, &from_file));
        json_string(json, "source_kind", from_file ? "file" : "literal");
        json_object_end(json);
    }
    json_array_end(json);
    json_unsigned(json, "command_count", status.command_count);
    write_last_command(json, &status);
    json_unsigned(json, "reset_count", status.reset_count);
    json_time(json, "last_reset_at", status.last_reset_at);
    json_unsigned(json, "service_count", status.service_count);
    json_unsigned(json, "running_service_count", status.running_service_count);
    write_metadata(json, &status);
}

/* Gives the text, or NULL without memory. */
static char *render_row(const struct workspace_status *status)
{
    auto_buf struct buf row = {0};
    struct json_writer json = JSON_WRITER(&row);
    json_object_begin(&json, NULL);
    write_head(&json, status);
    json_string(&json, "state", workspace_state_name(status->state));
    write_times(&json, status);
    json_unsigned(&json, "command_count", status->command_count);
    json_unsigned(&json, "service_count", status->service_count);
    json_unsigned(&json, "running_service_count", status->running_service_count);
    json_object_end(&json);
    return json.error ? NULL : buf_steal(&row);
}

void write_row(struct json_writer *json, struct workspace *workspace)
{
    struct workspace_status status;
    struct workspace_view *view = workspace_view(workspace);
    workspace_describe(workspace, &status);
    /* All that a row is made of and that may change. */
    const int64_t key[WORKSPACE_VIEW_KEYS] = {
        (int64_t)status.details,
        status.last_activity_at,
        status.created_at,
        status.expires_at,
        status.state,
        (int64_t)status.command_count,
        (int64_t)status.service_count,
        (int64_t)status.running_service_count,
    };
    if (!view->text || memcmp(view->key, key, sizeof key) != 0) {
        free(view->text);
        memcpy(view->key, key, sizeof key);
        view->text = render_row(&status);
    }
    if (view->text)
        json_raw(json, NULL, view->text);
    else
        json->error = HEARTH_ENOMEMORY;
}

void write_exec(struct json_writer *json, struct workspace *workspace,
                const struct exec_status *status, enum text_encoding encoding, size_t stream_room)
{
    struct workspace_status described;
    bool cut = status->truncated;
    workspace_describe(workspace, &described);
    json_string(json, "workspace_id", status->workspace_id);
    json_string(json, "environment", described.environment);
    json_string(json, "environment_version", described.environment_version);
    json_string(json, "command", status->command);
    if (stream_room)
        cut = write_streams(json, status, encoding, stream_room) || cut;
    if (status->running)
        json_null(json, "exit_code");
    else
        json_integer(json, "exit_code", status->exit_code);
    json_duration_ms(json, "duration_ms", status->duration_us);
    json_string(json, "execution_mode", status->execution_mode);
    json_unsigned(json, "sequence", status->sequence);
    json_string(json, "cwd", status->cwd);
    json_unsigned(json, "stdout_bytes", status->stdout_bytes);
    json_unsigned(json, "stderr_bytes", status->stderr_bytes);
    json_boolean(json, "truncated", cut);
    json_boolean(json, "timed_out", status->timed_out);
    json_string(json, "exec_id", status->exec_id);
    json_boolean(json, "running", status->running);
    json_boolean(json, "started", status->started);
    json_boolean(json, "cancelled", status->cancelled);
    json_boolean(json, "drained", status->drained);
    json_boolean(json, "lost", status->lost);
    if (status->signal)
        json_integer(json, "signal", status->signal);
    else
        json_null(json, "signal");
    json_string(json, "problem", status->problem);
    json_string(json, "cursor", status->cursor);
}

void write_environment_members(struct json_writer *json, const struct environment *environment)
{
    json_string(json, "name", environment->name);
    json_string(json, "version", environment->version);
    json_boolean(json, "built", environment->version != NULL);
    json_boolean(json, "building", environment->building);
    json_boolean(json, "builtin", environment->builtin);
    json_string(json, "description", environment->description);
    json_unsigned(json, "size_bytes", environment->size_bytes);
    json_time(json, "built_at", environment->built_at);
    json_string(json, "source", environment->source);
}

void write_environment(struct json_writer *json, const char *key,
                       const struct environment *environment)
{
    json_object_begin(json, key);
    write_environment_members(json, environment);
    json_object_end(json);
}

void reply_with(struct call *call, struct buf *body, const struct json_writer *json)
{
    struct hearth_failure failure;
    if (!json->error) {
        call_reply(call, body);
        return;
    }
    hearth_fail(&failure, (enum hearth_error)json->error, NULL, "the answer could not be made");
    buf_free(body);
    call_fail(call, &failure);
}

struct workspace *workspace_or_fail(struct call *call, const char *workspace_id)
{
    struct hearth_failure failure;
    struct workspace *workspace = workspace_find(call_principal(call), workspace_id, &failure);
    if (!workspace) {
        if (!(call_entry(call)->flags & OPERATION_READ_ONLY))
            supervisor_audit(call_supervisor(call), call_principal(call), call_request_id(call),
                             call_entry(call)->name, NULL, failure.code);
        call_fail(call, &failure);
    } else {
        call_about(call, workspace);
    }
    return workspace;
}

const struct secret_variable *secret_variables_of(struct call *call, const struct pair_list *pairs)
{
    struct secret_variable *variables =
        call_allocate_or_fail(call, (pairs->count + 1) * sizeof *variables);
    for (size_t i = 0; variables && i < pairs->count; i++)
        variables[i] = (struct secret_variable){pairs->items[i].name, pairs->items[i].value};
    return variables;
}

void fail_host_path(struct call *call, const struct hearth_failure *failure, const char *field,
                    const char *hint)
{
    struct hearth_failure told = *failure;
    hearth_failure_field(&told, field);
    if (!told.hint[0])
        hearth_failure_hint(&told, "%s", hint);
    call_fail(call, &told);
}

bool output_or_fail(struct call *call, const char *output_path, const char *hint)
{
    struct hearth_failure failure;
    if (output_path || call_can_stream(call))
        return true;
    hearth_fail(&failure, HEARTH_EINVALID, "missing_argument", "/output_path: it is needed");
    fail_host_path(call, &failure, "/output_path", hint);
    return false;
}

void fail_output_path(struct call *call, const struct hearth_failure *failure, const char *hint)
{
    if (strncmp(failure->code, "host_path_", strlen("host_path_")) == 0 ||
        strcmp(failure->code, "output_exists") == 0)
        fail_host_path(call, failure, "/output_path", hint);
    else
        call_fail(call, failure);
}

enum text_encoding encoding_of(const char *name)
{
    return name && strcmp(name, "base64") == 0 ? ENCODING_BASE64 : ENCODING_UTF8;
}

const struct field file_entry_fields[] = {
    {.name = "path", .type = FIELD_STRING, .description = "Path in the guest."},
    {.name = "artifact_type",
     .type = FIELD_STRING,
     .description = "file, directory, symlink or other."},
    {.name = "size_bytes", .type = FIELD_INTEGER, .description = "Size of a file."},
    {.name = "mode", .type = FIELD_STRING, .description = "Permissions in octal."},
    {.name = "mtime", .type = FIELD_NUMBER, .description = "Last change."},
    {.name = "link_target",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Of a symlink."},
    {0},
};
void write_file_entry(struct json_writer *json, const struct file_entry *entry)
{
    char mode[8];
    snprintf(mode, sizeof mode, "%04o", entry->mode & 07777);
    json_object_begin(json, NULL);
    json_string(json, "path", entry->path);
    json_string(json, "artifact_type", file_type_name(entry->type));
    json_unsigned(json, "size_bytes", entry->size);
    json_string(json, "mode", mode);
    json_seconds(json, "mtime", entry->mtime_us);
    json_string(json, "link_target", entry->link_target);
    json_object_end(json);
}

const struct row_label *labels_of(struct call *call, const struct pair_list *pairs)
{
    struct row_label *labels = call_allocate_or_fail(call, (pairs->count + 1) * sizeof *labels);
    for (size_t i = 0; labels && i < pairs->count; i++)
        labels[i] = (struct row_label){pairs->items[i].name, pairs->items[i].value};
    return labels;
}

const char *change_status_name(enum diff_status status)
{
    static const char *const names[] = {"added", "modified", "deleted", "type_changed"};
    return names[status];
}

void write_change_counts(struct json_writer *json, const struct diff_result *result)
{
    json_unsigned(json, "total", result->total);
    json_unsigned(json, "added", result->added);
    json_unsigned(json, "modified", result->modified);
    json_unsigned(json, "deleted", result->deleted);
    json_unsigned(json, "type_changed", result->type_changed);
}
