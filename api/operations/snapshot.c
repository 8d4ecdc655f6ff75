#include "supervisord/snapshot.h"
#include "api/operations/families.h"
#include "api/operations/views.h"
#include "supervisord/store_check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SNAPSHOT_NAME_PATTERN "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#define SNAPSHOT_NAME_FIELD(input_struct, field_place)                                             \
    {                                                                                              \
        .name = "snapshot_name", .type = FIELD_STRING, .place = (field_place),                     \
        .flags = FIELD_REQUIRED, .maximum = SNAPSHOT_NAME_MAX, .pattern = SNAPSHOT_NAME_PATTERN,   \
        .check = snapshot_name_check, .description = "Name of the snapshot.",                      \
        .offset = offsetof(struct input_struct, snapshot_name)                                     \
    }

#define SNAPSHOT_FIELDS                                                                            \
    {.name = "workspace_id", .type = FIELD_STRING, .description = "Whose tree it is."},            \
        {.name = "snapshot_name", .type = FIELD_STRING, .description = "Its name."},               \
        {.name = "kind", .type = FIELD_STRING, .description = "baseline or named."},               \
        {.name = "created_at",                                                                     \
         .type = FIELD_NUMBER,                                                                     \
         .flags = FIELD_NULLABLE,                                                                  \
         .description = "When it was made."},                                                      \
        {.name = "entry_count",                                                                    \
         .type = FIELD_INTEGER,                                                                    \
         .description = "Files, directories and symlinks in it."},                                 \
        {.name = "bytes_written",                                                                  \
         .type = FIELD_INTEGER,                                                                    \
         .description = "Size of its files together."},                                            \
    {                                                                                              \
        .name = "deletable", .type = FIELD_BOOLEAN, .description = "False for the baseline."       \
    }

static const struct field snapshot_fields[] = {SNAPSHOT_FIELDS, {0}};

static void write_snapshot(struct json_writer *json, const struct snapshot_info *snapshot)
{
    json_string(json, "workspace_id", snapshot->workspace_id);
    json_string(json, "snapshot_name", snapshot->name);
    json_string(json, "kind", snapshot->baseline ? "baseline" : "named");
    json_time(json, "created_at", snapshot->created_at);
    json_unsigned(json, "entry_count", snapshot->entry_count);
    json_unsigned(json, "bytes_written", snapshot->bytes);
    json_boolean(json, "deletable", !snapshot->baseline);
}

static void write_snapshot_object(struct json_writer *json, const char *key,
                                  const struct snapshot_info *snapshot)
{
    json_object_begin(json, key);
    write_snapshot(json, snapshot);
    json_object_end(json);
}

/* create */

struct name_input {
    const char *workspace_id, *snapshot_name;
};

static const struct field create_input[] = {
    WORKSPACE_ID_FIELD(name_input),
    SNAPSHOT_NAME_FIELD(name_input, PLACE_BODY),
    {0},
};
/* Clients of other systems look for it as an object of its own. */
static const struct field create_output[] = {
    SNAPSHOT_FIELDS,
    {.name = "snapshot",
     .type = FIELD_OBJECT,
     .description = "The same as one object.",
     .fields = snapshot_fields},
    {0},
};

static void created(void *arg, int error, const struct hearth_failure *failure,
                    const struct snapshot_info *snapshot)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    write_snapshot(&json, snapshot);
    write_snapshot_object(&json, "snapshot", snapshot);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void create(struct call *call, const void *arg)
{
    const struct name_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        snapshot_create(workspace, call_principal(call), input->snapshot_name,
                        call_request_id(call), created, call);
}

/* list */

struct list_input {
    const char *workspace_id, *cursor;
    int64_t limit;
};
static const struct field list_input[] = {
    WORKSPACE_ID_FIELD(list_input), PAGE_FIELDS(list_input, 96), {0}};
static const struct field list_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "The workspace."},
    {.name = "count", .type = FIELD_INTEGER, .description = "Snapshots in this page."},
    {.name = "snapshots",
     .type = FIELD_OBJECT_LIST,
     .description = "The baseline first, then the newest first.",
     .fields = snapshot_fields},
    NEXT_CURSOR_FIELD,
    {0},
};

/* A page goes on after the time and the name that its cursor is; the baseline's time comes before
 * all, so after any other. */
struct listing {
    struct json_writer *json;
    uint64_t count, limit;
    int64_t after;
    const char *after_name; /* NULL: from the start, or passed already */
    char last[96];
    bool more;
};

static int64_t place_of(const struct snapshot_info *snapshot)
{
    return snapshot->baseline ? INT64_MAX : snapshot->created_at;
}

static void list_one(void *arg, const struct snapshot_info *snapshot)
{
    struct listing *listing = arg;
    int64_t place = place_of(snapshot);
    if (listing->after_name && place >= listing->after) {
        if (place == listing->after && !strcmp(snapshot->name, listing->after_name))
            listing->after_name = NULL;
        return;
    }
    listing->after_name = NULL;
    listing->more = listing->count == listing->limit;
    if (listing->more)
        return;
    listing->count++;
    snprintf(listing->last, sizeof listing->last, "%" PRId64 ".%s", place, snapshot->name);
    write_snapshot_object(listing->json, NULL, snapshot);
}

static int begin_after(struct listing *listing, const char *cursor, struct hearth_failure *failure)
{
    char *end;
    if (!cursor)
        return 0;
    listing->after = strtoll(cursor, &end, 10);
    listing->after_name = end + 1;
    return end > cursor && *end == '.' && end[1] ? 0 : supervisor_bad_cursor(failure);
}

static void list(struct call *call, const void *arg)
{
    const struct list_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct listing listing = {.json = &json, .limit = (uint64_t)input->limit};
    struct hearth_failure failure;
    if (!workspace)
        return;
    if (begin_after(&listing, input->cursor, &failure)) {
        call_fail(call, &failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", input->workspace_id);
    json_array_begin(&json, "snapshots");
    snapshot_each(workspace, list_one, &listing);
    json_array_end(&json);
    json_unsigned(&json, "count", listing.count);
    json_string(&json, "next_cursor", listing.more ? listing.last : NULL);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

/* delete */

static const struct field delete_input[] = {
    WORKSPACE_ID_FIELD(name_input),
    SNAPSHOT_NAME_FIELD(name_input, PLACE_PATH),
    {0},
};
static const struct field delete_output[] = {
    {.name = "workspace_id", .type = FIELD_STRING, .description = "The workspace."},
    {.name = "snapshot_name", .type = FIELD_STRING, .description = "What was deleted."},
    {.name = "deleted", .type = FIELD_BOOLEAN, .description = "It is gone."},
    {0},
};

static void deleted(void *arg, int error, const struct hearth_failure *failure,
                    const struct snapshot_info *snapshot)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "workspace_id", snapshot->workspace_id);
    json_string(&json, "snapshot_name", snapshot->name);
    json_boolean(&json, "deleted", true);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void delete_(struct call *call, const void *arg)
{
    const struct name_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        snapshot_delete(workspace, call_principal(call), input->snapshot_name,
                        call_request_id(call), deleted, call);
}

/* reset */

struct reset_input {
    const char *workspace_id, *snapshot;
};
static const struct field reset_input[] = {
    WORKSPACE_ID_FIELD(reset_input),
    {.name = "snapshot",
     .type = FIELD_STRING,
     .maximum = SNAPSHOT_NAME_MAX,
     .pattern = SNAPSHOT_NAME_PATTERN,
     .default_json = "\"baseline\"",
     .description = "Snapshot to go back to.",
     .offset = offsetof(struct reset_input, snapshot)},
    {0},
};

static void was_reset(void *arg, int error, const struct hearth_failure *failure,
                      struct workspace *workspace, const struct workspace_reset_result *result)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    write_status_members(&json, workspace);
    json_object_begin(&json, "workspace_reset");
    json_string(&json, "snapshot_name", result->snapshot_name);
    json_string(&json, "kind", result->baseline ? "baseline" : "named");
    json_string(&json, "destination", "/workspace");
    json_unsigned(&json, "entry_count", result->entry_count);
    json_unsigned(&json, "bytes_written", result->bytes);
    json_object_end(&json);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void reset(struct call *call, const void *arg)
{
    const struct reset_input *input = arg;
    struct workspace *workspace = workspace_or_fail(call, input->workspace_id);
    if (workspace)
        workspace_reset(workspace, call_principal(call), input->snapshot, call_request_id(call),
                        was_reset, call);
}

/* verify */

struct verify_input {
    const char *tenant;
};
static const struct field verify_input[] = {
    {.name = "tenant",
     .type = FIELD_STRING,
     .maximum = 63,
     .description = "Name or ID of another tenant, for an admin; else the caller's own.",
     .offset = offsetof(struct verify_input, tenant)},
    {0},
};
static const struct field verify_output[] = {
    {.name = "tenant_id", .type = FIELD_STRING, .description = "Whose store it is."},
    {.name = "whole",
     .type = FIELD_BOOLEAN,
     .description = "Nothing is damaged, missing or miscounted."},
    {.name = "blob_count", .type = FIELD_INTEGER, .description = "Pieces of content and trees."},
    {.name = "tree_count",
     .type = FIELD_INTEGER,
     .description = "Trees that snapshots and uploads hold."},
    {.name = "content_bytes",
     .type = FIELD_INTEGER,
     .description = "Size of the pieces, each once."},
    {.name = "stored_bytes", .type = FIELD_INTEGER, .description = "Their size on the disk."},
    {.name = "dead_bytes",
     .type = FIELD_INTEGER,
     .description = "On the disk and not needed any more."},
    {.name = "pack_count", .type = FIELD_INTEGER, .description = "Files that it is kept in."},
    {.name = "damaged",
     .type = FIELD_INTEGER,
     .description = "Pieces that are not what was stored."},
    {.name = "missing",
     .type = FIELD_INTEGER,
     .description = "References to pieces that are not there."},
    {.name = "miscounted",
     .type = FIELD_INTEGER,
     .description = "Pieces whose references are counted wrongly."},
    {0},
};

struct verifying {
    struct call *call;
    const char *tenant_id;
};

static void verified(void *arg, int error, const struct hearth_failure *failure,
                     const struct store_report *report)
{
    struct verifying *verifying = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(verifying->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "tenant_id", verifying->tenant_id);
    json_boolean(&json, "whole", !report->damaged && !report->missing && !report->miscounted);
    json_unsigned(&json, "blob_count", report->blobs);
    json_unsigned(&json, "tree_count", report->roots);
    json_unsigned(&json, "content_bytes", report->raw_bytes);
    json_unsigned(&json, "stored_bytes", report->stored_bytes);
    json_unsigned(&json, "dead_bytes", report->dead_bytes);
    json_unsigned(&json, "pack_count", report->packs);
    json_unsigned(&json, "damaged", report->damaged);
    json_unsigned(&json, "missing", report->missing);
    json_unsigned(&json, "miscounted", report->miscounted);
    json_object_end(&json);
    reply_with(verifying->call, &body, &json);
}

static void verify(struct call *call, const void *arg)
{
    const struct verify_input *input = arg;
    const struct tenant *tenant = call_principal(call)->tenant;
    struct verifying *verifying = call_allocate_or_fail(call, sizeof *verifying);
    if (!verifying)
        return;
    if (input->tenant) {
        const struct tenant *named = tenant_find(call_supervisor(call), input->tenant);
        /* Another's is as good as none for who may not see it. */
        if (!named || (named != tenant && !(call_principal(call)->rights & RIGHT_ADMIN))) {
            struct hearth_failure failure;
            hearth_fail(&failure, HEARTH_ENOTFOUND, "tenant_not_found", "there is no such tenant");
            hearth_failure_field(&failure, "/tenant");
            call_fail(call, &failure);
            return;
        }
        tenant = named;
    }
    *verifying = (struct verifying){call, tenant->tenant_id};
    store_check(call_supervisor(call), tenant->tenant_id, verified, verifying);
}

static const char *const create_errors[] = {
    "workspace_not_found",   "bad_snapshot_name", "snapshot_name_reserved", "snapshot_exists",
    "quota_snapshots",       "quota_store",       "tree_too_large",         "workspace_failed",
    "workspace_not_started", "workspace_busy",    "agent_unreachable",      NULL};
static const char *const list_errors[] = {"workspace_not_found", "bad_cursor", NULL};
static const char *const delete_errors[] = {"workspace_not_found", "bad_snapshot_name",
                                            "snapshot_not_found", "snapshot_protected", NULL};
static const char *const reset_errors[] = {
    "workspace_not_found", "snapshot_not_found", "workspace_busy", "restore_failed",
    "guest_full",          "store_damaged",      "no_driver",      NULL};
static const char *const verify_errors[] = {"tenant_not_found", "store_failed", NULL};

const struct operation_entry snapshot_operations[] = {
    {
        .name = "snapshot_create",
        .family = "snapshot",
        .title = "Snapshot a workspace",
        .summary = "Keeps the workspace's files as they are now, by a name.",
        .description = "Keeps all files of a workspace as they are now under a name, to go back to "
                       "with workspace_reset. Take one before a risky change; unchanged files take "
                       "no room.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/snapshots",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_LONG | OPERATION_ACTIVITY,
        .status = 201,
        .input = create_input,
        .input_size = sizeof(struct name_input),
        .output = create_output,
        .errors = create_errors,
        .handler = create,
    },
    {
        .name = "snapshot_list",
        .family = "snapshot",
        .title = "List snapshots",
        .summary = "Lists a workspace's snapshots.",
        .description = "Lists a workspace's snapshots: the baseline it began with, then the newest "
                       "first. Does not count as activity.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/snapshots",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = list_input,
        .input_size = sizeof(struct list_input),
        .output = list_output,
        .errors = list_errors,
        .handler = list,
    },
    {
        .name = "snapshot_delete",
        .family = "snapshot",
        .title = "Delete a snapshot",
        .summary = "Deletes a snapshot; the workspace's files stay as they are.",
        .description = "Deletes a named snapshot of a workspace. The workspace's files stay as "
                       "they are; the baseline cannot be deleted.",
        .method = "DELETE",
        .path = "/v1/workspaces/{workspace_id}/snapshots/{snapshot_name}",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_DESTRUCTIVE | OPERATION_IDEMPOTENT | OPERATION_ACTIVITY,
        .status = 200,
        .input = delete_input,
        .input_size = sizeof(struct name_input),
        .output = delete_output,
        .errors = delete_errors,
        .handler = delete_,
    },
    {
        .name = "workspace_reset",
        .family = "workspace",
        .title = "Reset a workspace",
        .summary = "Puts a workspace's files back to how a snapshot has them, in a fresh guest.",
        .description = "Starts a workspace over: a fresh guest with the files of a snapshot (the "
                       "baseline it began with, if none is named). Commands, services and "
                       "shells end and are forgotten; name, labels, secrets and snapshots stay. "
                       "Changes since that snapshot are lost unless one was taken.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/reset",
        .profile = PROFILE_CORE,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_SETTLES | OPERATION_DESTRUCTIVE | OPERATION_LONG | OPERATION_ACTIVITY,
        .status = 200,
        .input = reset_input,
        .input_size = sizeof(struct reset_input),
        .output = status_fields,
        .errors = reset_errors,
        .handler = reset,
    },
    {
        .name = "store_verify",
        .family = "snapshot",
        .title = "Verify a content store",
        .summary = "Reads a tenant's whole content store and tells whether it is whole.",
        .description =
            "Reads all that a tenant's snapshots and baselines are kept in, checks every "
            "hash and reference, and gives back room that nobody needs.",
        .method = "POST",
        .path = "/v1/store/verify",
        .profile = PROFILE_NONE,
        .surfaces = SURFACE_REST,
        .flags = OPERATION_LONG | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = verify_input,
        .input_size = sizeof(struct verify_input),
        .output = verify_output,
        .errors = verify_errors,
        .handler = verify,
    },
    {0},
};
