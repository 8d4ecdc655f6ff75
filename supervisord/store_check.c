#include "supervisord/store_check.h"

#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/stores.h"

#include <stdlib.h>

struct check {
    struct supervisor *supervisor;
    struct store *store;
    struct store_report report;
    struct hearth_failure failure;
    store_checked done;
    void *arg;
};

static void run(void *arg)
{
    struct check *check = arg;
    if (store_collect(check->store, true, &check->failure) == 0)
        store_verify(check->store, true, &check->report, &check->failure);
}

static void ran(void *arg)
{
    struct check *check = arg;
    struct supervisor *supervisor = check->supervisor;
    int error = (int)check->failure.error;
    check->done(check->arg, error, &check->failure, error ? NULL : &check->report);
    free(check);
    supervisor->works--;
    supervisor_maybe_quiet(supervisor);
}

static void opened(void *arg, int error, const struct hearth_failure *failure,
                   const struct tenant_store *store)
{
    struct check *check = arg;
    if (error) {
        check->failure = *failure;
        ran(check);
        return;
    }
    check->store = store->store;
    stores_submit(check->supervisor->stores, run, ran, check);
}

void store_check(struct supervisor *supervisor, const char *tenant_id, store_checked done,
                 void *arg)
{
    struct check *check = calloc(1, sizeof *check);
    if (!check)
        abort();
    *check = (struct check){.supervisor = supervisor, .done = done, .arg = arg};
    supervisor->works++;
    stores_use(supervisor->stores, tenant_id, opened, check);
}
