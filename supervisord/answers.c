#include "supervisord/answers.h"

#include "base/clock.h"
#include "supervisord/supervisor_internal.h"

#include <sodium.h>
#include <stdio.h>

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
