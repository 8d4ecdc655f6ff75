#include "api/operations/families.h"
#include "api/operations/views.h"

#include <string.h>

static const struct field no_input[] = {{0}};
static const struct field upload_fields[] = {
    {.name = "upload_id", .type = FIELD_STRING, .description = "Pass it as seed_upload."},
    {.name = "size_bytes", .type = FIELD_INTEGER, .description = "Bytes as sent."},
    {.name = "sha256", .type = FIELD_STRING, .description = "Of the bytes as sent."},
    {.name = "entry_count", .type = FIELD_INTEGER, .description = "Members of the archive."},
    {.name = "content_bytes",
     .type = FIELD_INTEGER,
     .description = "Bytes of its files, unpacked."},
    {.name = "expires_at", .type = FIELD_NUMBER, .description = "An hour after its last use."},
    {0},
};

static void reply_upload(struct call *call, const struct upload *upload)
{
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    json_object_begin(&json, NULL);
    json_string(&json, "upload_id", upload->upload_id);
    json_unsigned(&json, "size_bytes", upload->size_bytes);
    json_string(&json, "sha256", upload->sha256);
    json_unsigned(&json, "entry_count", upload->entry_count);
    json_unsigned(&json, "content_bytes", upload->content_bytes);
    json_time(&json, "expires_at", upload->last_used_at + UPLOAD_LIFETIME_US);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

struct receiving {
    struct call *call;
    struct upload_sink *sink; /* NULL once finished or aborted */
    bool failed;
};

static void finished(void *arg, int error, const struct hearth_failure *failure,
                     const struct upload *upload)
{
    struct receiving *receiving = arg;
    struct call *call = receiving->call;
    if (error) {
        supervisor_audit(call_supervisor(call), call_principal(call), call_request_id(call),
                         "upload_create", NULL, failure->code);
        call_fail(call, failure);
    } else {
        reply_upload(call, upload);
    }
}

static void received(void *arg, const void *data, size_t length)
{
    struct receiving *receiving = arg;
    struct hearth_failure failure;
    if (!receiving->sink || !upload_write(receiving->sink, data, length, &failure))
        return;
    upload_abort(receiving->sink);
    receiving->sink = NULL;
    call_fail(receiving->call, &failure);
}

static void whole(void *arg)
{
    struct receiving *receiving = arg;
    struct upload_sink *sink = receiving->sink;
    receiving->sink = NULL;
    call_on_gone(receiving->call, NULL, NULL);
    if (sink)
        upload_finish(sink, call_principal(receiving->call), call_request_id(receiving->call),
                      finished, receiving);
}

static void gone(void *arg)
{
    struct receiving *receiving = arg;
    struct hearth_failure failure;
    if (!receiving->sink)
        return;
    upload_abort(receiving->sink);
    receiving->sink = NULL;
    hearth_fail(&failure, HEARTH_ECANCELLED, NULL, "the client went away");
    call_fail(receiving->call, &failure);
}

static void create(struct call *call, const void *input)
{
    struct hearth_failure failure;
    struct receiving *receiving = call_allocate_or_fail(call, sizeof *receiving);
    (void)input;
    if (!receiving)
        return;
    int error = call_has_raw_body(call)
                    ? upload_begin(&receiving->sink, supervisor_uploads(call_supervisor(call)),
                                   call_principal(call)->tenant, &failure)
                    : hearth_fail(&failure, HEARTH_EMEDIATYPE, "unsupported_media_type",
                                  "the body must be a tar: application/x-tar, application/gzip or "
                                  "application/zstd");
    if (error) {
        call_fail(call, &failure);
        return;
    }
    receiving->call = call;
    call_on_gone(call, gone, receiving);
    call_read_body(call, received, whole, receiving);
}

struct get_input {
    const char *upload_id;
};

static const struct field get_input[] = {
    {.name = "upload_id",
     .type = FIELD_STRING,
     .place = PLACE_PATH,
     .flags = FIELD_REQUIRED,
     .maximum = 64,
     .pattern = ID_PATTERN("up"),
     .description = "ID of the upload.",
     .offset = offsetof(struct get_input, upload_id)},
    {0},
};

static void tell(struct call *call, const char *upload_id)
{
    const struct upload *upload = upload_find(supervisor_uploads(call_supervisor(call)),
                                              call_principal(call)->tenant->tenant_id, upload_id);
    if (upload) {
        reply_upload(call, upload);
        return;
    }
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_ENOTFOUND, "upload_not_found", "there is no such upload");
    hearth_failure_field(&failure, "/upload_id");
    call_fail(call, &failure);
}

static void get(struct call *call, const void *arg)
{
    tell(call, ((const struct get_input *)arg)->upload_id);
}

static void tell_again(struct call *call, const void *input, const char *upload_id)
{
    (void)input;
    tell(call, upload_id);
}

static const char *const create_errors[] = {"archive_refused",   "archive_truncated",
                                            "archive_too_large", "upload_too_large",
                                            "quota_uploads",     NULL};
static const char *const get_errors[] = {"upload_not_found", NULL};

const struct operation_entry upload_operations[] = {
    {
        .name = "upload_create",
        .family = "upload",
        .title = "Upload a tree",
        .summary = "Takes a tar (plain, gzip, zstd) for seeding workspaces.",
        .description = "Takes a tar body, checks it, and keeps it for an hour after its last use; "
                       "seed any number of "
                       "workspaces with it.",
        .method = "POST",
        .path = "/v1/uploads",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_LONG | OPERATION_RAW_BODY | OPERATION_ATOMIC,
        .status = 201,
        .input = no_input,
        .output = upload_fields,
        .errors = create_errors,
        .handler = create,
        .tell = tell_again,
    },
    {
        .name = "upload_get",
        .family = "upload",
        .title = "Show an upload",
        .summary = "Tells what is known of an upload.",
        .description = "Tells an upload's size, hash and when it expires.",
        .method = "GET",
        .path = "/v1/uploads/{upload_id}",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = get_input,
        .input_size = sizeof(struct get_input),
        .output = upload_fields,
        .errors = get_errors,
        .handler = get,
    },
    {0},
};
