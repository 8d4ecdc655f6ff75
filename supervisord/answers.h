/* Answers kept for Idempotency-Key, so that a change asked for twice is done once; also over a
 * restart. Loop thread. */
#pragma once

#include "storage/rows.h"
#include "supervisord/supervisor.h"

#define ANSWER_LIFETIME_US (INT64_C(24) * 3600 * US_PER_S)

/* Visits the answer that the tenant has under key, if it is not too old; its strings live for the
 * call. */
int answer_find(struct supervisor *supervisor, const char *tenant_id, const char *key,
                row_idempotency_visit visit, void *arg, struct hearth_failure *failure);
/* Copies row. done once, after it is durable (error 0) or could not be made so. */
void answer_keep(struct supervisor *supervisor, const struct row_idempotency *row,
                 void (*done)(void *arg, int error, const struct hearth_failure *failure),
                 void *arg);
/* Drops what is too old. */
void answer_prune(struct supervisor *supervisor);
