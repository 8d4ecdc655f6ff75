#include "api/operations/families.h"
#include "api/operations/file_read.h"
#include "api/operations/views.h"
#include "base/text.h"
#include "supervisord/patch_apply.h"

#include <string.h>

#define ECHO_MAX ((size_t)256 << 10) /* of the patch, in the answer */

struct apply_input {
    const char *workspace_id, *patch;
};

static const struct field apply_input[] = {
    WORKSPACE_ID_FIELD(apply_input),
    {.name = "patch",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = PATCH_TEXT_MAX,
     .description = "A unified diff (git's or plain), or text in the *** Begin Patch format.",
     .offset = offsetof(struct apply_input, patch)},
    {0},
};

static const struct field summary_fields[] = {
    {.name = "total", .type = FIELD_INTEGER, .description = "Files that changed."},
    {.name = "added", .type = FIELD_INTEGER, .description = "New files."},
    {.name = "modified", .type = FIELD_INTEGER, .description = "Changed files."},
    {.name = "deleted", .type = FIELD_INTEGER, .description = "Files that are gone."},
    {0},
};
static const struct field entry_fields[] = {
    {.name = "path", .type = FIELD_STRING, .description = "Path, relative to /workspace."},
    {.name = "status", .type = FIELD_STRING, .description = "added, modified or deleted."},
    {0},
};
static const struct field apply_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "ID of the workspace."},
    {.name = "changed", .type = FIELD_BOOLEAN, .description = "Anything was changed."},
    {.name = "summary",
     .type = FIELD_OBJECT,
     .description = "How many files.",
     .fields = summary_fields},
    {.name = "entries",
     .type = FIELD_OBJECT_LIST,
     .description = "What was changed; a renamed file is one deleted and one added.",
     .fields = entry_fields},
    {.name = "binary_skipped",
     .type = FIELD_INTEGER,
     .description = "Files that the patch says differ without their content: left as they were."},
    {.name = "patch",
     .type = FIELD_STRING,
     .description = "What was applied, at most 256 KiB of it."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    {0},
};

struct applying {
    struct call *call;
    const char *workspace_id, *patch;
};

static void applied(void *arg, int error, const struct hearth_failure *failure,
                    const struct patch_result *result)
{
    struct applying *applying = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(applying->call, failure);
        return;
    }
    size_t length = strlen(applying->patch);
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", applying->workspace_id);
    json_boolean(&json, "changed", result->count > 0);
    json_object_begin(&json, "summary");
    json_unsigned(&json, "total", result->count);
    json_unsigned(&json, "added", result->added);
    json_unsigned(&json, "modified", result->modified);
    json_unsigned(&json, "deleted", result->deleted);
    json_object_end(&json);
    json_array_begin(&json, "entries");
    for (size_t i = 0; i < result->count; i++) {
        json_object_begin(&json, NULL);
        json_string(&json, "path", result->entries[i].path);
        json_string(&json, "status", result->entries[i].status);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_unsigned(&json, "binary_skipped", result->binary_skipped);
    json_bytes(&json, "patch", applying->patch, length < ECHO_MAX ? length : ECHO_MAX);
    json_string(&json, "execution_mode", result->execution_mode);
    json_object_end(&json);
    reply_with(applying->call, &body, &json);
}

static void apply(struct call *call, const void *arg)
{
    const struct apply_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct applying *applying = workspace ? call_allocate_or_fail(call, sizeof *applying) : NULL;
    if (!applying)
        return;
    *applying = (struct applying){call, input->workspace_id, input->patch};
    patch_apply(workspace, call_principal(call), call_request_id(call), input->patch, applied,
                applying);
}

static const char *const apply_errors[] = {
    "workspace_not_found",    "patch_malformed",   "patch_binary",   "patch_does_not_apply",
    "path_outside_workspace", "patch_too_large",   "file_not_found", "already_exists",
    "wrong_file_type",        "changed_meanwhile", "guest_full",     NULL};

const struct operation_entry patch_operations[] = {
    {
        .name = "workspace_patch_apply",
        .family = "file",
        .title = "Apply a patch",
        .summary = "Applies a patch to the workspace, whole or not at all.",
        .description =
            "Applies a unified diff (as git diff or diff -u make it, with paths relative to "
            "/workspace) or a patch in the *** Begin Patch format: adds, changes, deletes and "
            "renames text files. Hunks may stand some lines off, but their lines must be exact. "
            "All of it is applied or, where one hunk does not fit, nothing; the problem then names "
            "file, line and the closest place.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/patch",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_ACTIVITY | OPERATION_LONG,
        .status = 200,
        .input = apply_input,
        .input_size = sizeof(struct apply_input),
        .output = apply_output,
        .errors = apply_errors,
        .handler = apply,
    },
    {0},
};
