#include "supervisord/answers.h"

#include "base/clock.h"
#include "supervisord/supervisor_internal.h"

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

void answer_keep(struct supervisor *supervisor, const struct row_idempotency *row,
                 void (*done)(void *arg, int error, const struct hearth_failure *failure),
                 void *arg)
{
    struct change *change = change_new();
    change_put_idempotency(change, row);
    change_commit(change, supervisor->writer, done, arg);
}

void answer_prune(struct supervisor *supervisor)
{
    struct change *change = change_new();
    change_prune_idempotency(change, clock_wall_us() - ANSWER_LIFETIME_US);
    change_commit(change, supervisor->writer, NULL, NULL);
}
