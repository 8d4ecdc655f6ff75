/* What is kept for Idempotency-Key, so that a change asked for twice is done once, also over a
 * crash: the intent, durable before anything is done; the answer; and what the audit knows of its
 * effect, which is written with the effect itself. Loop thread. */
#pragma once

#include "base/buf.h"
#include "storage/rows.h"
#include "supervisord/supervisor.h"

#define ANSWER_LIFETIME_US (INT64_C(24) * 3600 * US_PER_S)

typedef void (*answer_done)(void *arg, int error, const struct hearth_failure *failure);

/* A number for row_idempotency::intent and principal::intent; never 0. */
uint64_t answer_new_intent(void);
/* Visits what the tenant has under key, if it is not too old; its strings live for the call. */
int answer_find(struct supervisor *supervisor, const char *tenant_id, const char *key,
                row_idempotency_visit visit, void *arg, struct hearth_failure *failure);

/* The last that is audited of an intent; outcome "" where nothing is. */
struct answer_effect {
    char outcome[48];
    char subject_id[64];
};
int answer_find_effect(struct supervisor *supervisor, uint64_t intent,
                       struct answer_effect *ret_effect, struct hearth_failure *failure);

/* An answer that tells a secret is kept sealed, by a key of its own made of `request.key`, and
 * opens as no other request's. ret_sealed: appended to; HEARTH_ENOMEMORY. */
int answer_seal(const struct supervisor *supervisor, const struct row_idempotency *row,
                const struct buf *body, struct buf *ret_sealed) must_check;
/* Replaces body by what was sealed; false: it was not, or not by this key, and body is of no use.
 */
bool answer_open(const struct supervisor *supervisor, const struct row_idempotency *row,
                 struct buf *body) must_check;

/* Writes the intent (status 0) or the answer; copies row. done once, after it is durable (error 0)
 * or could not be made so. */
void answer_keep(struct supervisor *supervisor, const struct row_idempotency *row, answer_done done,
                 void *arg);
/* The key is free again. */
void answer_drop(struct supervisor *supervisor, const struct row_idempotency *row, answer_done done,
                 void *arg);
/* Drops what is too old. */
void answer_prune(struct supervisor *supervisor);
