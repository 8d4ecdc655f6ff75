#include "supervisord/answers.h"

#include "base/clock.h"
#include "supervisord/secret.h"
#include "supervisord/supervisor_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t answer_new_intent(void)
{
    int64_t number;
    do
        randombytes_buf(&number, sizeof number);
    while (number <= 0);
    return (uint64_t)number;
}

struct fresh {
    row_idempotency_visit visit;
    void *arg;
};

static int visit_fresh(void *arg, const struct row_idempotency *row)
{
    const struct fresh *fresh = arg;
    if (row->created_at + ANSWER_LIFETIME_US < clock_wall_us())
        return 0;
    return fresh->visit(fresh->arg, row);
}

int answer_find(struct supervisor *supervisor, const char *tenant_id, const char *key,
                row_idempotency_visit visit, void *arg, struct hearth_failure *failure)
{
    struct fresh fresh = {visit, arg};
    return rows_find_idempotency(supervisor->state_reader, tenant_id, key, visit_fresh, &fresh,
                                 failure);
}

static int visit_effect(void *arg, const struct row_audit *row)
{
    struct answer_effect *effect = arg;
    snprintf(effect->outcome, sizeof effect->outcome, "%s", row->outcome);
    snprintf(effect->subject_id, sizeof effect->subject_id, "%s",
             row->subject_id ? row->subject_id : "");
    return 0;
}

int answer_find_effect(struct supervisor *supervisor, uint64_t intent,
                       struct answer_effect *ret_effect, struct hearth_failure *failure)
{
    *ret_effect = (struct answer_effect){0};
    return rows_find_effect(supervisor->state_reader, intent, visit_effect, ret_effect, failure);
}

#define SEAL_NONCE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define SEAL_TAG crypto_aead_xchacha20poly1305_ietf_ABYTES
#define SEAL_KEY crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define SEAL_OVERHEAD (SEAL_NONCE + SEAL_TAG)
#define BINDING 32

static void make_seal_key(const struct supervisor *supervisor, unsigned char ret_key[SEAL_KEY])
{
    static const unsigned char purpose[] = "hearth kept answer";
    crypto_generichash(ret_key, SEAL_KEY, purpose, sizeof purpose, supervisor_hash_key(supervisor),
                       SECRET_HASH_KEY_SIZE);
}

/* What a sealed answer is bound to. */
static void make_binding(const struct row_idempotency *row, unsigned char ret_hash[BINDING])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, BINDING);
    crypto_generichash_update(&state, row->fingerprint, sizeof row->fingerprint);
    crypto_generichash_update(&state, (const unsigned char *)row->tenant_id,
                              strlen(row->tenant_id) + 1);
    crypto_generichash_update(&state, (const unsigned char *)row->key, strlen(row->key) + 1);
    crypto_generichash_final(&state, ret_hash, BINDING);
}

int answer_seal(const struct supervisor *supervisor, const struct row_idempotency *row,
                const struct buf *body, struct buf *ret_sealed)
{
    unsigned char key[SEAL_KEY], binding[BINDING];
    int error = buf_reserve(ret_sealed, SEAL_OVERHEAD + body->length);
    if (error)
        return error;
    unsigned char *sealed = (unsigned char *)ret_sealed->data + ret_sealed->length;
    make_seal_key(supervisor, key);
    make_binding(row, binding);
    randombytes_buf(sealed, SEAL_NONCE);
    crypto_aead_xchacha20poly1305_ietf_encrypt(sealed + SEAL_NONCE, NULL,
                                               (const unsigned char *)body->data, body->length,
                                               binding, sizeof binding, NULL, sealed, key);
    sodium_memzero(key, sizeof key);
    ret_sealed->length += SEAL_OVERHEAD + body->length;
    return 0;
}

bool answer_open(const struct supervisor *supervisor, const struct row_idempotency *row,
                 struct buf *body)
{
    unsigned char key[SEAL_KEY], binding[BINDING];
    if (body->length < SEAL_OVERHEAD)
        return false;
    unsigned char *sealed = (unsigned char *)body->data, *text = sealed + SEAL_NONCE;
    make_seal_key(supervisor, key);
    make_binding(row, binding);
    bool opened = crypto_aead_xchacha20poly1305_ietf_decrypt(text, NULL, NULL, text,
                                                             body->length - SEAL_NONCE, binding,
                                                             sizeof binding, sealed, key) == 0;
    sodium_memzero(key, sizeof key);
    buf_consume(body, SEAL_NONCE);
    body->length -= SEAL_TAG;
    return opened;
}

void answer_keep(struct supervisor *supervisor, const struct row_idempotency *row, answer_done done,
                 void *arg)
{
    struct change *change = change_new();
    change_put_idempotency(change, row);
    change_commit(change, supervisor->writer, done, arg);
}

void answer_drop(struct supervisor *supervisor, const struct row_idempotency *row, answer_done done,
                 void *arg)
{
    struct change *change = change_new();
    change_delete_idempotency(change, row);
    change_commit(change, supervisor->writer, done, arg);
}

void answer_prune(struct supervisor *supervisor)
{
    struct change *change = change_new();
    change_prune_idempotency(change, clock_wall_us() - ANSWER_LIFETIME_US);
    change_commit(change, supervisor->writer, NULL, NULL);
}
