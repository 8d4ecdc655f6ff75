/* Idempotency-Key: a change that is asked for again with the same key and input is answered with
 * the first answer, byte for byte, for a day, also after a restart. The answer is stored before it
 * is sent. */
#include "api/call_internal.h"
#include "supervisord/answers.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PRUNE_US (INT64_C(3600) * US_PER_S)
#define ANSWER_MAX ((size_t)4 << 20)

static int fingerprint(struct call *call, const cJSON *object)
{
    crypto_hash_sha256_state state;
    char *text = cJSON_PrintUnformatted(object);
    const char *length = call->raw_body ? call_header_in(call, "Content-Length") : NULL;
    if (!text)
        return HEARTH_ENOMEMORY;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, (const unsigned char *)call->entry->name,
                              strlen(call->entry->name) + 1);
    crypto_hash_sha256_update(&state, (const unsigned char *)text, strlen(text) + 1);
    if (length)
        crypto_hash_sha256_update(&state, (const unsigned char *)length, strlen(length));
    crypto_hash_sha256_final(&state, call->fingerprint);
    cJSON_free(text);
    return 0;
}

static void refuse_reuse(struct call *call)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EINVALID, "idempotency_key_reused",
                "the Idempotency-Key was used with another operation or input");
    hearth_failure_hint(&failure, "Use a new key for a new request.");
    call_fail(call, &failure);
}

static struct call *under_way(const struct call *call)
{
    list_for_each(cursor, next, &call->api->keys)
    {
        struct call *other = container_of(cursor, struct call, key_link);
        if (other->principal.tenant == call->principal.tenant && strcmp(other->key, call->key) == 0)
            return other;
    }
    return NULL;
}

struct found {
    struct call *call;
    bool answered;
};

static int replay(void *arg, const struct row_idempotency *row)
{
    struct found *found = arg;
    struct call *call = found->call;
    struct buf body = {0};
    found->answered = true;
    if (memcmp(row->fingerprint, call->fingerprint, sizeof call->fingerprint) != 0) {
        refuse_reuse(call);
        return 0;
    }
    if (buf_append(&body, row->body, row->body_length)) {
        found->answered = false;
        return HEARTH_ENOMEMORY;
    }
    if (call->request)
        http_request_header_out(call->request, "Idempotency-Replayed", "true");
    call_send(call, row->status, row->content_type, &body);
    return 0;
}

bool idempotency_admit(struct call *call, const cJSON *object)
{
    struct hearth_failure failure;
    if (!call->key[0])
        return false;
    struct call *other = fingerprint(call, object) ? NULL : under_way(call);
    if (other && memcmp(other->fingerprint, call->fingerprint, sizeof call->fingerprint) != 0) {
        refuse_reuse(call);
        return true;
    }
    if (other) {
        hearth_fail(&failure, HEARTH_ECONFLICT, "idempotency_in_progress",
                    "the first request with this Idempotency-Key is not answered yet");
        failure.retryable = true;
        hearth_failure_hint(&failure, "Ask again in a moment with the same key.");
        call_fail(call, &failure);
        return true;
    }
    struct found found = {.call = call};
    if (answer_find(call->api->supervisor, call->principal.tenant->tenant_id, call->key, replay,
                    &found, &failure) &&
        !found.answered) {
        call_fail(call, &failure);
        return true;
    }
    if (found.answered)
        return true;
    call->holds_key = true;
    list_append(&call->api->keys, &call->key_link);
    return false;
}

/* An answer on its way to the database. */
struct storing {
    struct call *call;
    int status;
    const char *content_type;
    struct buf body;
};

static void stored(void *arg, int error, const struct hearth_failure *failure)
{
    struct storing *storing = arg;
    struct call *call = storing->call;
    (void)failure;
    (void)error; /* the effect is there and durable: the answer goes out even where it could not be
                    kept */
    list_remove(&call->key_link);
    call->holds_key = false;
    call_send(call, storing->status, storing->content_type, &storing->body);
    free(storing);
}

void idempotency_reply(struct call *call, int status, const char *content_type, struct buf *body)
{
    struct storing *storing =
        call->holds_key && body->length <= ANSWER_MAX ? malloc(sizeof *storing) : NULL;
    if (!storing) {
        idempotency_release(call);
        call_send(call, status, content_type, body);
        return;
    }
    *storing = (struct storing){
        .call = call, .status = status, .content_type = content_type, .body = *body};
    *body = (struct buf){0};
    struct row_idempotency row = {
        .tenant_id = call->principal.tenant->tenant_id,
        .key = call->key,
        .status = status,
        .content_type = content_type,
        .body = storing->body.data,
        .body_length = storing->body.length,
        .created_at = clock_wall_us(),
    };
    memcpy(row.fingerprint, call->fingerprint, sizeof row.fingerprint);
    answer_keep(call->api->supervisor, &row, stored, storing);
}

void idempotency_release(struct call *call)
{
    list_remove(&call->key_link);
    call->holds_key = false;
}

static void prune(void *arg)
{
    struct api *api = arg;
    answer_prune(api->supervisor);
    timer_set(&api->prune, clock_monotonic_us() + PRUNE_US);
}

void idempotency_start(struct api *api)
{
    timer_init(&api->prune, supervisor_loop(api->supervisor), prune, api);
    prune(api);
}
