/* What is kept for Idempotency-Key, so that a change asked for twice is done once, also over a
 * crash: the intent, durable before anything is done; the answer; and what the audit knows of its
 * effect, which is written with the effect itself. Loop thread. */
#pragma once

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

/* Writes the intent (status 0) or the answer; copies row. done once, after it is durable (error 0)
 * or could not be made so. */
void answer_keep(struct supervisor *supervisor, const struct row_idempotency *row, answer_done done,
                 void *arg);
/* The key is free again. */
void answer_drop(struct supervisor *supervisor, const struct row_idempotency *row, answer_done done,
                 void *arg);
/* Drops what is too old. */
void answer_prune(struct supervisor *supervisor);
