/* Waits for what is under way: for what is being written, and at the end of a supervisor for every
 * completion of a worker's job and of a commit, told while those it speaks to are still there. */
#include "base/cleanup.h"
#include "supervisord/supervisor_internal.h"

#include <stdlib.h>

static int commit_nothing(struct db *db, void *arg, struct hearth_failure *failure)
{
    (void)db;
    (void)arg;
    (void)failure;
    return 0;
}

struct written {
    void (*fn)(void *arg);
    void *arg;
};

static void all_written(void *arg, int error, const struct hearth_failure *failure)
{
    auto_free struct written *written = arg;
    (void)error; /* What could not be written was told where it was to be. */
    (void)failure;
    written->fn(written->arg);
}

/* The history's writer takes what it is given in order. */
void supervisor_when_written(struct supervisor *supervisor, void (*fn)(void *arg), void *arg)
{
    struct written *written = malloc(sizeof *written);
    if (!written)
        abort();
    *written = (struct written){fn, arg};
    writer_submit(supervisor->history, commit_nothing, written, all_written);
}

static void reached(void *arg, int error, const struct hearth_failure *failure)
{
    (void)error;
    (void)failure;
    loop_pay(arg);
}

/* A commit of nothing is told after all that were submitted before it. Returns how many changes
 * have been made by then. */
static uint64_t reach(struct supervisor *supervisor, struct writer *writer)
{
    struct writer_stats stats = {0};
    if (writer) {
        loop_owe(supervisor->loop);
        writer_submit(writer, commit_nothing, supervisor->loop, reached);
        loop_settle(supervisor->loop);
        writer_get_stats(writer, &stats);
    }
    return stats.changes;
}

void supervisor_settle(struct supervisor *supervisor)
{
    uint64_t before, changes = 0;
    loop_settle(supervisor->loop);
    do {
        before = changes;
        changes = reach(supervisor, supervisor->writer) + reach(supervisor, supervisor->history);
    } while (changes > before + 2); /* more than the two that reach makes: their ends are untold */
}
