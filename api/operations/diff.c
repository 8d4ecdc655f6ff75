#include "api/operations/families.h"
#include "api/operations/views.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct diff_input {
    const char *workspace_id;
    struct string_list paths;
    int64_t context, max_patch_bytes, max_entries;
    bool stat_only, binary;
};

static const struct field diff_input[] = {
    WORKSPACE_ID_FIELD(diff_input),
    {.name = "paths",
     .type = FIELD_STRING_LIST,
     .place = PLACE_QUERY,
     .maximum = 16,
     .description = "Only what lies under these paths; all of /workspace if left out.",
     .offset = offsetof(struct diff_input, paths)},
    {.name = "context",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 0,
     .maximum = 100,
     .default_json = "3",
     .description = "Unchanged lines around each change; with 0 git apply needs --unidiff-zero.",
     .offset = offsetof(struct diff_input, context)},
    {.name = "stat_only",
     .type = FIELD_BOOLEAN,
     .place = PLACE_QUERY,
     .default_json = "false",
     .description = "Only say which files changed and how, without the patch.",
     .offset = offsetof(struct diff_input, stat_only)},
    {.name = "binary",
     .type = FIELD_BOOLEAN,
     .place = PLACE_QUERY,
     .flags = FIELD_REST_ONLY,
     .default_json = "false",
     .description = "Files that are no text as git's binary patches, so that the patch tells all.",
     .offset = offsetof(struct diff_input, binary)},
    {.name = "max_patch_bytes",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 0,
     .maximum = 8388608,
     .default_json = "262144",
     .description = "Most bytes of patch; a file's patch that does not fit is left out whole.",
     .offset = offsetof(struct diff_input, max_patch_bytes)},
    {.name = "max_entries",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 1,
     .maximum = 100000,
     .default_json = "1000",
     .description = "Most entries; the summary counts all.",
     .offset = offsetof(struct diff_input, max_entries)},
    {0},
};

static const struct field summary_fields[] = {
    CHANGE_COUNT_FIELDS,
    {.name = "text_patched", .type = FIELD_INTEGER, .description = "Told in the patch, as text."},
    {.name = "non_text",
     .type = FIELD_INTEGER,
     .description = "Changed, but no text (not UTF-8), or too large to be looked into."},
    {0},
};
static const struct field entry_fields[] = {
    {.name = "path", .type = FIELD_STRING, .description = "Relative to /workspace."},
    {.name = "status",
     .type = FIELD_STRING,
     .description = "added, modified, deleted or type_changed."},
    {.name = "artifact_type",
     .type = FIELD_STRING,
     .description = "file, directory or symlink; of what was deleted, before."},
    {.name = "text_patch",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Its part of the patch."},
    {.name = "no_patch_reason",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Why text_patch is null: nothing_to_show, non_text, too_large, left_out "
                    "(max_patch_bytes), renamed (it is with renamed_to)."},
    {.name = "old_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Permissions before, in octal."},
    {.name = "new_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Permissions now, in octal."},
    {.name = "renamed_from",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Of an added file: the deleted one that it is."},
    {.name = "renamed_to",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Of a deleted file: the added one that it became."},
    {.name = "similarity",
     .type = FIELD_INTEGER,
     .flags = FIELD_NULLABLE,
     .description = "Of a rename: how much is the same, in percent."},
    {0},
};
static const struct field diff_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "The workspace."},
    {.name = "changed", .type = FIELD_BOOLEAN, .description = "Anything is not as it was."},
    {.name = "summary",
     .type = FIELD_OBJECT,
     .description = "How much has changed.",
     .fields = summary_fields},
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .description = "Each change, by path.",
     .fields = entry_fields},
    {.name = "patch",
     .type = FIELD_STRING,
     .description = "All of it in git's unified format; git apply and workspace_patch_apply take "
                    "it."},
    {.name = "truncated",
     .type = FIELD_BOOLEAN,
     .description = "Something was left out because of max_entries or max_patch_bytes."},
    {.name = "entries_omitted", .type = FIELD_INTEGER, .description = "Entries left out."},
    {.name = "patches_omitted",
     .type = FIELD_INTEGER,
     .description = "Files whose patch was left out."},
    {0},
};

static void write_mode(struct json_writer *json, const char *key, bool there, uint32_t mode)
{
    char text[8];
    snprintf(text, sizeof text, "%04o", mode & 07777);
    json_string(json, key, there ? text : NULL);
}

static void write_path(struct json_writer *json, const char *key, const char *path)
{
    if (path)
        json_bytes(json, key, path, strlen(path));
    else
        json_null(json, key);
}

static void write_entry(struct json_writer *json, const struct diff_entry *entry)
{
    static const char *const reasons[] = {NULL,        "nothing_to_show", "non_text",
                                          "too_large", "left_out",        "renamed"};
    json_object_begin(json, NULL);
    write_path(json, "path", entry->path);
    json_string(json, "status", change_status_name(entry->status));
    json_string(json, "artifact_type", file_type_name(entry->type));
    if (entry->patch_kind == DIFF_PATCH_TEXT)
        json_bytes(json, "text_patch", entry->patch, entry->patch_length);
    else
        json_null(json, "text_patch");
    json_string(json, "no_patch_reason", reasons[entry->patch_kind]);
    write_mode(json, "old_mode", entry->has_old, entry->old_mode);
    write_mode(json, "new_mode", entry->has_new, entry->new_mode);
    write_path(json, "renamed_from", entry->renamed_from);
    write_path(json, "renamed_to", entry->renamed_to);
    if (entry->renamed_from || entry->renamed_to)
        json_integer(json, "similarity", entry->similarity);
    else
        json_null(json, "similarity");
    json_object_end(json);
}

struct diffing {
    struct call *call;
    const char *workspace_id;
};

static void told(void *arg, int error, const struct hearth_failure *failure,
                 const struct diff_result *result)
{
    const struct diffing *diffing = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(diffing->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", diffing->workspace_id);
    json_boolean(&json, "changed", result->total != 0);
    json_object_begin(&json, "summary");
    write_change_counts(&json, result);
    json_unsigned(&json, "text_patched", result->text_patched);
    json_unsigned(&json, "non_text", result->non_text);
    json_object_end(&json);
    json_array_begin(&json, "entries");
    for (size_t i = 0; i < result->entry_count; i++)
        write_entry(&json, &result->entries[i]);
    json_array_end(&json);
    json_bytes(&json, "patch", result->patch_length ? result->patch : "", result->patch_length);
    json_boolean(&json, "truncated",
                 result->total > result->entry_count || result->patches_left_out);
    json_unsigned(&json, "entries_omitted", result->total - result->entry_count);
    json_unsigned(&json, "patches_omitted", result->patches_left_out);
    json_object_end(&json);
    reply_with(diffing->call, &body, &json);
}

static void diff(struct call *call, const void *arg)
{
    const struct diff_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct diffing *diffing = workspace ? call_allocate_or_fail(call, sizeof *diffing) : NULL;
    if (!diffing)
        return;
    *diffing = (struct diffing){call, input->workspace_id};
    struct diff_spec spec = {
        .paths = input->paths.items,
        .path_count = input->paths.count,
        .context = (unsigned)input->context,
        .stat_only = input->stat_only,
        .binary = input->binary,
        .max_patch_bytes = (size_t)input->max_patch_bytes,
        .max_entries = (size_t)input->max_entries,
    };
    workspace_diff(workspace, &spec, told, diffing);
}

static const char *const diff_errors[] = {"workspace_not_found",
                                          "path_outside_workspace",
                                          "bad_path",
                                          "baseline_missing",
                                          "tree_too_large",
                                          "workspace_failed",
                                          "workspace_not_started",
                                          "workspace_busy",
                                          "agent_unreachable",
                                          NULL};

const struct operation_entry diff_operations[] = {
    {
        .name = "workspace_diff",
        .family = "file",
        .title = "Show what changed",
        .summary = "Tells what has changed since the workspace was made.",
        .description =
            "Tells which files of a workspace have been added, modified or deleted since "
            "it was created, with a patch in git's unified format that git apply and "
            "workspace_patch_apply take. Use stat_only to see the list alone, and paths "
            "to look at a part. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/diff",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG,
        .status = 200,
        .input = diff_input,
        .input_size = sizeof(struct diff_input),
        .output = diff_output,
        .errors = diff_errors,
        .handler = diff,
    },
    {0},
};
