/* Idempotency-Key: a change that is asked for again with the same key and input is answered with
 * the first answer, byte for byte, for a day, also after a restart. The intent is a row before the
 * handler runs; the answer is stored before it is sent. Where a crash came between, the audit tells
 * whether the effect was made: its row carries the intent and is committed with the effect. Then
 * the answer is made anew of what is there (operation_entry::tell); what took no effect, or may be
 * done twice without harm, runs again; what cannot be known is said so. No handler knows of any of
 * this. */
#include "api/call_internal.h"
#include "base/crash_point.h"
#include "supervisord/answers.h"
#include "supervisord/secret.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRUNE_US (INT64_C(3600) * US_PER_S)
#define ANSWER_MAX ((size_t)4 << 20)

/* The content of a raw body as it passes by. */
struct content_hash {
    unsigned char state[sizeof(crypto_generichash_state) + _Alignof(crypto_generichash_state)];
    unsigned char digest[32];
    bool whole;
    struct call *call;
    void (*on_data)(void *arg, const void *data, size_t length);
    void (*on_end)(void *arg);
    void *arg;
};

/* Aligned as libsodium wants it, which is more than a call's memory is. */
static crypto_generichash_state *state_of(struct content_hash *content)
{
    uintptr_t mask = _Alignof(crypto_generichash_state) - 1;
    return (void *)(((uintptr_t)content->state + mask) & ~mask);
}

/* The first request with the key, as it is found. */
struct earlier {
    bool found;
    struct row_idempotency row; /* its strings are not kept */
    char content_type[64];
    struct buf body;
    struct answer_effect effect;
};

enum verdict {
    VERDICT_RUN,         /* nothing was done, or it may be done again */
    VERDICT_REPLAY,      /* the answer is there */
    VERDICT_TELL,        /* done, to be told of anew */
    VERDICT_IN_PROGRESS, /* recovery is still at it */
    VERDICT_UNKNOWN,     /* done or not, its answer is lost */
};

/* Keyed: who reads the database cannot try out what a request may have held. */
static const unsigned char *hash_key(const struct call *call)
{
    return supervisor_hash_key(call->api->supervisor);
}

static int fingerprint(struct call *call, const cJSON *object)
{
    crypto_generichash_state state;
    char *text = cJSON_PrintUnformatted(object);
    if (!text)
        return HEARTH_ENOMEMORY;
    crypto_generichash_init(&state, hash_key(call), SECRET_HASH_KEY_SIZE, sizeof call->fingerprint);
    crypto_generichash_update(&state, (const unsigned char *)call->entry->name,
                              strlen(call->entry->name) + 1);
    crypto_generichash_update(&state, (const unsigned char *)text, strlen(text) + 1);
    crypto_generichash_final(&state, call->fingerprint, sizeof call->fingerprint);
    explicit_bzero(text, strlen(text));
    cJSON_free(text);
    return 0;
}

static struct row_idempotency row_of(const struct call *call)
{
    struct row_idempotency row = {
        .tenant_id = call->principal.tenant->tenant_id,
        .key = call->key,
        .intent = call->principal.intent,
        .content_type = "",
        .created_at = clock_wall_us(),
    };
    memcpy(row.fingerprint, call->fingerprint, sizeof row.fingerprint);
    if (call->content && call->content->whole) {
        row.has_content = true;
        memcpy(row.content_hash, call->content->digest, sizeof row.content_hash);
    }
    return row;
}

/* Refusals. */

static void refuse_reuse(struct call *call)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EINVALID, "idempotency_key_reused",
                "the Idempotency-Key was used with another operation or input");
    hearth_failure_hint(&failure, "Use a new key for a new request.");
    call_fail(call, &failure);
}

static void refuse_in_progress(struct call *call)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_ECONFLICT, "idempotency_in_progress",
                "the first request with this Idempotency-Key is not answered yet");
    failure.retryable = true;
    hearth_failure_hint(&failure, "Ask again in a moment with the same key.");
    call_fail(call, &failure);
}

static void refuse_unknown(struct call *call, const struct answer_effect *effect)
{
    struct hearth_failure failure;
    if (*effect->outcome)
        hearth_fail(&failure, HEARTH_ECONFLICT, "idempotency_answer_lost",
                    "the first request with this Idempotency-Key took effect%s%s, but its answer "
                    "is lost",
                    *effect->subject_id ? " on " : "", effect->subject_id);
    else
        hearth_fail(&failure, HEARTH_ECONFLICT, "idempotency_answer_lost",
                    "the first request with this Idempotency-Key was cut short; whether it took "
                    "effect cannot be known");
    failure.retryable = false;
    hearth_failure_hint(&failure, "Look at what is there; to do it again, use a new key.");
    call_fail(call, &failure);
}

void call_fail_lost(struct call *call)
{
    const struct answer_effect unknown = {0};
    refuse_unknown(call, &unknown);
}

/* The first time: the intent, then the handler. */

static void hold(struct call *call)
{
    call->holds_key = true;
    list_append(&call->api->keys, &call->key_link);
}

static void let_go(struct call *call)
{
    list_remove(&call->key_link);
    call->holds_key = false;
}

static void intent_kept(void *arg, int error, const struct hearth_failure *failure)
{
    struct call *call = arg;
    struct hearth_failure gone;
    if (error) {
        let_go(call);
        call_fail(call, failure);
    } else if (call_is_gone(call)) {
        hearth_fail(&gone, HEARTH_ECANCELLED, NULL, "the client went away");
        call_fail(call, &gone);
    } else {
        crash_point("intent");
        call_run(call);
    }
}

static void begin(struct call *call)
{
    if (call->raw_body && !(call->content = call_allocate_or_fail(call, sizeof *call->content)))
        return;
    if (call->content)
        crypto_generichash_init(state_of(call->content), hash_key(call), SECRET_HASH_KEY_SIZE,
                                sizeof call->content->digest);
    call->principal.intent = answer_new_intent();
    hold(call);
    struct row_idempotency row = row_of(call);
    answer_keep(call->api->supervisor, &row, intent_kept, call);
}

/* Raw bodies: what the handler reads is hashed on its way, and the hash is durable before the
 * handler hears of the end, so before it can act on the whole. */

static void content_kept(void *arg, int error, const struct hearth_failure *failure)
{
    struct call *call = arg;
    (void)failure;
    (void)error; /* storage is broken: the handler's own commit will say so */
    if (call->request && !call->over)
        call->content->on_end(call->content->arg);
    call_release(call);
}

static void content_data(void *arg, const void *data, size_t length)
{
    struct content_hash *content = arg;
    crypto_generichash_update(state_of(content), data, length);
    if (content->on_data)
        content->on_data(content->arg, data, length);
}

static void content_end(void *arg)
{
    struct content_hash *content = arg;
    struct call *call = content->call;
    crypto_generichash_final(state_of(content), content->digest, sizeof content->digest);
    content->whole = true;
    if (!call->holds_key) {
        content->on_end(content->arg);
        return;
    }
    struct row_idempotency row = row_of(call);
    call_retain(call);
    answer_keep(call->api->supervisor, &row, content_kept, call);
}

void idempotency_read_body(struct call *call,
                           void (*on_data)(void *arg, const void *data, size_t length),
                           void (*on_end)(void *arg), void *arg)
{
    struct content_hash *content = call->content;
    content->call = call;
    content->on_data = on_data;
    content->on_end = on_end;
    content->arg = arg;
    call_take_body(call, content_data, content_end, content);
}

/* The second time. */

static int keep_earlier(void *arg, const struct row_idempotency *row)
{
    struct earlier *earlier = arg;
    earlier->found = true;
    earlier->row = *row;
    snprintf(earlier->content_type, sizeof earlier->content_type, "%s", row->content_type);
    return buf_append(&earlier->body, row->body, row->body_length);
}

static enum verdict judge(const struct call *call, const struct earlier *earlier)
{
    unsigned flags = call->entry->flags;
    const char *outcome = earlier->effect.outcome;
    if (earlier->row.status)
        return VERDICT_REPLAY;
    if (strcmp(outcome, "begun") == 0)
        return VERDICT_IN_PROGRESS;
    if (strcmp(outcome, "ok") == 0)
        return call->entry->tell              ? VERDICT_TELL
               : flags & OPERATION_IDEMPOTENT ? VERDICT_RUN
                                              : VERDICT_UNKNOWN;
    if (*outcome) /* it failed, or was undone */
        return VERDICT_RUN;
    return flags & (OPERATION_IDEMPOTENT | OPERATION_ATOMIC) ? VERDICT_RUN : VERDICT_UNKNOWN;
}

static void settle(struct call *call, struct earlier *earlier, enum verdict verdict)
{
    struct buf body = earlier->body;
    earlier->body = (struct buf){0};
    if (verdict == VERDICT_REPLAY) {
        if (call->request)
            http_request_header_out(call->request, "Idempotency-Replayed", "true");
        call_send(call, earlier->row.status, earlier->content_type, &body);
        return;
    }
    buf_free(&body);
    if (verdict == VERDICT_IN_PROGRESS) {
        refuse_in_progress(call);
    } else if (verdict == VERDICT_UNKNOWN) {
        refuse_unknown(call, &earlier->effect);
    } else {
        call->principal.intent = earlier->row.intent;
        call->told = true;
        hold(call);
        call->entry->tell(call, call->input, earlier->effect.subject_id);
    }
}

/* A raw body is read to its end before it is known to be the same as the first. */
struct comparing {
    struct call *call;
    struct earlier earlier;
    enum verdict verdict;
};

static void compared(void *arg)
{
    struct comparing *comparing = arg;
    struct call *call = comparing->call;
    call_on_gone(call, NULL, NULL);
    if (memcmp(call->content->digest, comparing->earlier.row.content_hash, 32) == 0) {
        settle(call, &comparing->earlier, comparing->verdict);
        return;
    }
    buf_free(&comparing->earlier.body);
    refuse_reuse(call);
}

static void comparing_gone(void *arg)
{
    struct comparing *comparing = arg;
    struct hearth_failure failure;
    buf_free(&comparing->earlier.body);
    hearth_fail(&failure, HEARTH_ECANCELLED, NULL, "the client went away");
    call_fail(comparing->call, &failure);
}

static void compare(struct call *call, struct earlier *earlier, enum verdict verdict)
{
    struct comparing *comparing = call_allocate(call, sizeof *comparing);
    call->content = comparing ? call_allocate(call, sizeof *call->content) : NULL;
    if (!call->content) {
        struct hearth_failure failure;
        buf_free(&earlier->body);
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        call_fail(call, &failure);
        return;
    }
    *comparing = (struct comparing){call, *earlier, verdict};
    crypto_generichash_init(state_of(call->content), hash_key(call), SECRET_HASH_KEY_SIZE,
                            sizeof call->content->digest);
    call_on_gone(call, comparing_gone, comparing);
    idempotency_read_body(call, NULL, compared, comparing);
}

static void again(struct call *call, struct earlier *earlier)
{
    struct hearth_failure failure;
    if (memcmp(earlier->row.fingerprint, call->fingerprint, sizeof call->fingerprint) != 0) {
        buf_free(&earlier->body);
        refuse_reuse(call);
        return;
    }
    struct row_idempotency row = row_of(call);
    if (earlier->row.status && call->entry->flags & OPERATION_TELLS_SECRET &&
        !answer_open(call->api->supervisor, &row, &earlier->body))
        earlier->row.status = 0; /* as if it had never been kept */
    if (!earlier->row.status && answer_find_effect(call->api->supervisor, earlier->row.intent,
                                                   &earlier->effect, &failure)) {
        call_fail(call, &failure);
        return;
    }
    enum verdict verdict = judge(call, earlier);
    if (verdict == VERDICT_RUN)
        begin(call);
    else if (call->raw_body && earlier->row.has_content && verdict != VERDICT_IN_PROGRESS)
        compare(call, earlier, verdict);
    else
        settle(call, earlier, verdict);
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

void idempotency_run(struct call *call, const cJSON *object)
{
    struct hearth_failure failure;
    struct earlier earlier = {0};
    if (!call->key[0]) {
        call_run(call);
        return;
    }
    int error = fingerprint(call, object)
                    ? hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory")
                    : 0;
    struct call *other = error ? NULL : under_way(call);
    if (!error && !other)
        error = answer_find(call->api->supervisor, call->principal.tenant->tenant_id, call->key,
                            keep_earlier, &earlier, &failure);
    if (error) {
        buf_free(&earlier.body);
        call_fail(call, &failure);
    } else if (other &&
               memcmp(other->fingerprint, call->fingerprint, sizeof call->fingerprint) != 0) {
        refuse_reuse(call);
    } else if (other) {
        refuse_in_progress(call);
    } else if (earlier.found) {
        again(call, &earlier);
    } else {
        begin(call);
    }
}

/* The end: an answer is stored and then sent; a failure frees the key and is then sent. */

struct ending {
    struct call *call;
    int status;
    const char *content_type;
    struct buf body;
};

static void ended(void *arg, int error, const struct hearth_failure *failure)
{
    struct ending *ending = arg;
    struct call *call = ending->call;
    (void)failure;
    (void)error; /* what was done is durable: its answer goes out even where it could not be kept */
    let_go(call);
    call_send(call, ending->status, ending->content_type, &ending->body);
    free(ending);
}

void idempotency_end(struct call *call, bool success, int status, const char *content_type,
                     struct buf *body)
{
    call->over = true;
    bool keep = success && body->length <= ANSWER_MAX;
    /* What was told of after a crash has happened, whatever can be told of it now. An answer too
     * large is told anew from the intent. */
    bool drop = !success && !call->told;
    struct ending *ending = call->holds_key && (keep || drop) ? malloc(sizeof *ending) : NULL;
    auto_buf struct buf sealed = {0};
    struct row_idempotency row;
    bool seal = ending && keep && call->entry->flags & OPERATION_TELLS_SECRET;
    if (ending)
        row = row_of(call);
    if (seal && answer_seal(call->api->supervisor, &row, body, &sealed)) {
        free(ending);
        ending = NULL;
    }
    if (!ending) {
        let_go(call);
        call_send(call, status, content_type, body);
        return;
    }
    *ending = (struct ending){
        .call = call, .status = status, .content_type = content_type, .body = *body};
    *body = (struct buf){0};
    row.status = status;
    row.content_type = content_type;
    row.body = seal ? sealed.data : ending->body.data;
    row.body_length = seal ? sealed.length : ending->body.length;
    crash_point("answer");
    if (keep)
        answer_keep(call->api->supervisor, &row, ended, ending);
    else
        answer_drop(call->api->supervisor, &row, ended, ending);
}

static void stream_over(void *arg, int error, const struct hearth_failure *failure)
{
    (void)error;
    (void)failure;
    call_free(arg);
}

/* A stream leaves no answer: a retry is told of its effect, whose audit row is written before this
 * one. */
void idempotency_end_stream(struct call *call)
{
    struct row_idempotency row = row_of(call);
    answer_keep(call->api->supervisor, &row, stream_over, call);
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
