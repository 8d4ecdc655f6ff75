/* The key that seals secrets. */
#include "api/operations/families.h"
#include "api/operations/views.h"
#include "supervisord/secret_rotation.h"
#include "supervisord/supervisor.h"

static const struct field rotate_input[] = {{0}};
static const struct field rotate_output[] = {
    {.name = "key_id",
     .type = FIELD_STRING,
     .description = "Of the key that seals from now on; the log names it too."},
    {.name = "old_key_id",
     .type = FIELD_STRING,
     .description = "Of the one before, which opens nothing that is kept any more."},
    {.name = "secret_count", .type = FIELD_INTEGER, .description = "Secrets sealed again."},
    {0},
};

static void rotated(void *arg, int error, const struct hearth_failure *failure,
                    const struct secret_rotation_result *result)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    supervisor_audit(call_supervisor(call), call_principal(call), call_request_id(call),
                     "secret_key_rotate", error ? NULL : result->key_id,
                     error ? failure->code : "ok");
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "key_id", result->key_id);
    json_string(&json, "old_key_id", result->old_key_id);
    json_unsigned(&json, "secret_count", result->secrets);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void rotate(struct call *call, const void *input)
{
    (void)input;
    secret_rotate(call_supervisor(call), rotated, call);
}

static const char *const rotate_errors[] = {"key_is_credential", "rotation_running",
                                            "secret_unreadable", "key_unusable", NULL};

const struct operation_entry secret_operations[] = {
    {
        .name = "secret_key_rotate",
        .family = "secret",
        .title = "Change the key of secrets",
        .summary = "Seals all secrets with a new key and forgets the old one.",
        .description = "Makes a new key for secrets, seals every workspace's anew with it, and "
                       "takes the old one out of the key file. One that was cut short goes on.",
        .method = "POST",
        .path = "/v1/secrets/key/rotate",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_LONG,
        .status = 200,
        .input = rotate_input,
        .output = rotate_output,
        .errors = rotate_errors,
        .handler = rotate,
    },
    {0},
};
