#include "supervisord/summary.h"
#include "api/operations/denial.h"
#include "api/operations/families.h"
#include "api/operations/result_rows.h"
#include "api/operations/views.h"
#include "base/cleanup.h"
#include "supervisord/service.h"
#include "supervisord/snapshot.h"

#include <stdlib.h>
#include <string.h>

#define COMMAND_SHOWN 400 /* bytes of a command */

struct summary_input {
    const char *workspace_id;
    int64_t commands, changes, exports, denials;
};

#define LIMIT_FIELD(field_name, what)                                                              \
    {                                                                                              \
        .name = #field_name, .type = FIELD_INTEGER, .place = PLACE_QUERY, .minimum = 0,            \
        .maximum = 1000, .default_json = "20", .description = "Most " what,                        \
        .offset = offsetof(struct summary_input, field_name)                                       \
    }

static const struct field summary_input[] = {
    WORKSPACE_ID_FIELD(summary_input),
    LIMIT_FIELD(commands, "commands to list, the newest; all are counted."),
    LIMIT_FIELD(changes, "changed files to list; all are counted."),
    LIMIT_FIELD(exports, "exports to list, the newest."),
    LIMIT_FIELD(denials, "denied connections and names to list, the latest; all are counted."),
    {0},
};

static const struct field command_entry_fields[] = {
    NUMBER("sequence", "Number of the command."),
    TEXT("exec_id", "Its ID."),
    TEXT("command", "The command, its beginning where it is long."),
    NUMBER("exit_code", "Its exit code."),
    FLAG("timed_out", "Ended by its time limit."),
    FLAG("cancelled", "Ended by somebody."),
    NULLABLE_TIME("started_at", "When it began."),
    NUMBER("duration_ms", "How long it ran."),
    {0},
};
static const struct field command_fields[] = {
    NUMBER("ended", "Commands that have ended, of those in the history."),
    NUMBER("succeeded", "Those of them with exit code 0."),
    NUMBER("failed", "All others."),
    NUMBER("timed_out", "Ended by their time limit."),
    NUMBER("cancelled", "Ended by somebody."),
    NUMBER("lost", "Their guest died."),
    NUMBER("duration_ms", "Together."),
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .fields = command_entry_fields,
     .description = "Newest first."},
    {0},
};
static const struct field change_entry_fields[] = {
    TEXT("path", "Relative to /workspace."),
    TEXT("status", "added, modified, deleted or type_changed."),
    {0},
};
static const struct field change_fields[] = {
    CHANGE_COUNT_FIELDS,
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .fields = change_entry_fields,
     .description = "By path."},
    {0},
};
static const struct field service_entry_fields[] = {
    TEXT("service_name", "Its name."),
    TEXT("state", "running, exited, stopped or failed."),
    NULLABLE_TEXT("stop_reason", "Why it does not run."),
    NULLABLE_NUMBER("exit_code", "Its exit code."),
    NUMBER("restarts", "Times it was restarted."),
    {0},
};
static const struct field snapshot_entry_fields[] = {
    TEXT("snapshot_name", "Its name."),
    NUMBER("entry_count", "Files, directories and symlinks in it."),
    NULLABLE_TIME("created_at", "When it was made."),
    {0},
};
static const struct field export_entry_fields[] = {
    TEXT("kind", "files or disk."),
    TEXT("path", "What was exported; \"\" of a disk and of all of /workspace."),
    NUMBER("entry_count", "Files, directories and symlinks; 0 of a disk."),
    NUMBER("bytes", "Their size."),
    NULLABLE_TIME("exported_at", "When."),
    {0},
};
static const struct field denials_fields[] = {
    NUMBER("denied_count", "Connections and names denied since the guest was made."),
    NUMBER("listed_count", "Different ones that workspace_network_log lists."),
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .fields = denial_fields,
     .description = "The latest first."},
    {0},
};

static const struct field summary_output[] = {
    TEXT("workspace_id", "The workspace."),
    NULLABLE_TEXT("name", "Its name."),
    TEXT("state", "What it is doing now."),
    NULLABLE_TIME("created_at", "When it was created."),
    NULLABLE_TIME("last_activity_at", "When something was last done in it."),
    NUMBER("age_seconds", "Since its creation."),
    NUMBER("reset_count", "How often it was reset; commands from before are not told."),
    {.name = "commands",
     .type = FIELD_OBJECT,
     .fields = command_fields,
     .description = "What was run, and how it ended."},
    {.name = "changes",
     .type = FIELD_OBJECT,
     .flags = FIELD_NULLABLE,
     .fields = change_fields,
     .description = "Files changed since the baseline; null where it cannot be looked at."},
    NULLABLE_TEXT("changes_unknown", "Why changes is null: a code, as of workspace_diff."),
    {.name = "services",
     .type = FIELD_OBJECT_LIST,
     .fields = service_entry_fields,
     .description = "Its services."},
    {.name = "snapshots",
     .type = FIELD_OBJECT_LIST,
     .fields = snapshot_entry_fields,
     .description = "Its snapshots, the baseline first."},
    {.name = "exports",
     .type = FIELD_OBJECT_LIST,
     .fields = export_entry_fields,
     .description = "What has left it, newest first; a reset does not forget them."},
    {.name = "denials",
     .type = FIELD_OBJECT,
     .fields = denials_fields,
     .description = "What it tried to reach and was denied."},
    {0},
};

static void write_command(void *arg, const struct exec_status *status)
{
    struct json_writer *json = arg;
    size_t length = strlen(status->command);
    if (length > COMMAND_SHOWN) /* never within a character */
        for (length = COMMAND_SHOWN; length && (status->command[length] & 0xc0) == 0x80;)
            length--;
    json_object_begin(json, NULL);
    json_unsigned(json, "sequence", status->sequence);
    json_string(json, "exec_id", status->exec_id);
    json_bytes(json, "command", status->command, length);
    json_integer(json, "exit_code", status->exit_code);
    json_boolean(json, "timed_out", status->timed_out);
    json_boolean(json, "cancelled", status->cancelled);
    json_time(json, "started_at", status->started_at);
    json_duration_ms(json, "duration_ms", status->duration_us);
    json_object_end(json);
}

static int write_commands(struct json_writer *json, struct workspace *workspace, unsigned limit,
                          struct hearth_failure *failure)
{
    struct row_exec_totals totals;
    json_object_begin(json, "commands");
    json_array_begin(json, "entries");
    int error = summary_commands(workspace, limit, write_command, json, &totals, failure);
    json_array_end(json);
    json_unsigned(json, "ended", totals.ended);
    json_unsigned(json, "succeeded", totals.succeeded);
    json_unsigned(json, "failed", totals.failed);
    json_unsigned(json, "timed_out", totals.timed_out);
    json_unsigned(json, "cancelled", totals.cancelled);
    json_unsigned(json, "lost", totals.lost);
    json_duration_ms(json, "duration_ms", totals.duration_us);
    json_object_end(json);
    return error;
}

static void write_changes(struct json_writer *json, const struct diff_result *result,
                          const char *unknown)
{
    json_string(json, "changes_unknown", unknown);
    if (!result) {
        json_null(json, "changes");
        return;
    }
    json_object_begin(json, "changes");
    write_change_counts(json, result);
    json_array_begin(json, "entries");
    for (size_t i = 0; i < result->entry_count; i++) {
        const struct diff_entry *entry = &result->entries[i];
        json_object_begin(json, NULL);
        json_bytes(json, "path", entry->path, strlen(entry->path));
        json_string(json, "status", change_status_name(entry->status));
        json_object_end(json);
    }
    json_array_end(json);
    json_object_end(json);
}

static void write_service(void *arg, const struct service_status *status)
{
    struct json_writer *json = arg;
    json_object_begin(json, NULL);
    json_string(json, "service_name", status->name);
    json_string(json, "state", status->state);
    json_string(json, "stop_reason", status->stop_reason);
    if (status->has_exit)
        json_integer(json, "exit_code", status->exit_code);
    else
        json_null(json, "exit_code");
    json_unsigned(json, "restarts", status->restarts);
    json_object_end(json);
}

static void write_snapshot(void *arg, const struct snapshot_info *snapshot)
{
    struct json_writer *json = arg;
    json_object_begin(json, NULL);
    json_string(json, "snapshot_name", snapshot->name);
    json_unsigned(json, "entry_count", snapshot->entry_count);
    json_time(json, "created_at", snapshot->created_at);
    json_object_end(json);
}

static int write_export(void *arg, const struct row_export *row)
{
    struct json_writer *json = arg;
    json_object_begin(json, NULL);
    json_string(json, "kind", row->kind);
    json_bytes(json, "path", row->path, strlen(row->path));
    json_unsigned(json, "entry_count", row->entry_count);
    json_unsigned(json, "bytes", row->bytes);
    json_time(json, "exported_at", row->at);
    json_object_end(json);
    return 0;
}

static int latest_first(const void *a, const void *b)
{
    const struct net_log_entry *first = a, *second = b;
    return (first->last_us < second->last_us) - (first->last_us > second->last_us);
}

static int write_denials(struct json_writer *json, const struct workspace *workspace, size_t limit,
                         struct hearth_failure *failure)
{
    auto_free struct net_log *log = malloc(sizeof *log);
    size_t count;
    if (!log)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    guest_network_log(workspace, log, &count);
    qsort(log->entries, count, sizeof log->entries[0], latest_first);
    json_object_begin(json, "denials");
    json_unsigned(json, "denied_count", log->denied);
    json_unsigned(json, "listed_count", count);
    json_array_begin(json, "entries");
    for (size_t i = 0; i < count && i < limit; i++)
        write_denial(json, &log->entries[i]);
    json_array_end(json);
    json_object_end(json);
    return 0;
}

static void write_head(struct json_writer *json, struct workspace *workspace)
{
    struct workspace_status status;
    workspace_describe(workspace, &status);
    json_string(json, "workspace_id", status.workspace_id);
    json_string(json, "name", status.name);
    json_string(json, "state", workspace_state_name(status.state));
    json_time(json, "created_at", status.created_at);
    json_time(json, "last_activity_at", status.last_activity_at);
    int64_t age_us = clock_wall_us() - status.created_at; /* the clock may have been set back */
    json_integer(json, "age_seconds", age_us > 0 ? age_us / US_PER_S : 0);
    json_unsigned(json, "reset_count", status.reset_count);
}

struct summing {
    struct call *call;
    const struct summary_input *input;
};

static void tell(const struct summing *summing, const struct diff_result *changes,
                 const char *unknown)
{
    const struct summary_input *input = summing->input;
    struct workspace *workspace = workspace_or_fail(summing->call, input->workspace_id);
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct hearth_failure failure;
    if (!workspace)
        return;
    json_object_begin(&json, NULL);
    write_head(&json, workspace);
    int error = write_commands(&json, workspace, (unsigned)input->commands, &failure);
    write_changes(&json, changes, unknown);
    json_array_begin(&json, "services");
    service_each(workspace, write_service, &json);
    json_array_end(&json);
    json_array_begin(&json, "snapshots");
    snapshot_each(workspace, write_snapshot, &json);
    json_array_end(&json);
    json_array_begin(&json, "exports");
    if (!error)
        error = summary_exports(workspace, (unsigned)input->exports, write_export, &json, &failure);
    json_array_end(&json);
    if (!error)
        error = write_denials(&json, workspace, (size_t)input->denials, &failure);
    json_object_end(&json);
    if (error) {
        buf_free(&body);
        call_fail(summing->call, &failure);
    } else {
        reply_with(summing->call, &body, &json);
    }
}

static void compared(void *arg, int error, const struct hearth_failure *failure,
                     const struct diff_result *result)
{
    tell(arg, result, error ? failure->code : NULL);
}

static void recorded(void *arg)
{
    const struct summing *summing = arg;
    struct workspace *workspace = workspace_or_fail(summing->call, summing->input->workspace_id);
    struct diff_spec spec = {.stat_only = true, .max_entries = (size_t)summing->input->changes};
    if (workspace)
        workspace_diff(workspace, &spec, compared, arg);
}

static void summary(struct call *call, const void *arg)
{
    const struct summary_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct summing *summing = workspace ? call_allocate_or_fail(call, sizeof *summing) : NULL;
    if (!summing)
        return;
    *summing = (struct summing){call, input};
    exec_when_recorded(workspace, recorded, summing);
}

static const char *const summary_errors[] = {"workspace_not_found", NULL};

const struct operation_entry summary_operations[] = {
    {
        .name = "workspace_summary",
        .family = "workspace",
        .title = "Sum up a workspace",
        .summary = "Tells what was done in a workspace, for whoever reviews it.",
        .description =
            "Tells at one glance what was done in a workspace: its commands and how they ended, "
            "the files that changed since the baseline, services, snapshots, exports, "
            "what it was denied to reach, times. Ask it at the end of a task, or before you judge "
            "somebody else's. Does not count as "
            "activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/summary",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = summary_input,
        .input_size = sizeof(struct summary_input),
        .output = summary_output,
        .errors = summary_errors,
        .handler = summary,
    },
    {0},
};
