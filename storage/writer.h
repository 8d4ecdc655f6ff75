/* The thread that owns the writing connection of one database. Whatever is queued when it wakes is
 * one transaction (a savepoint for each submission, at most WRITER_BATCH_MAX of them); after the
 * COMMIT the completions are posted back, in order. So nothing is acknowledged before it is
 * durable, and many small changes share one fsync. writer_submit may be called from the loop thread
 * only; completions run where `post` puts them (the loop). */
#pragma once

#include "storage/db.h"

#include <stddef.h>

#define WRITER_BATCH_MAX 64
#define WRITER_QUEUE_MAX 8192

struct writer;

/* Runs on the storage thread inside a savepoint. A negative return undoes this submission alone. */
typedef int (*writer_apply)(struct db *db, void *arg, struct hearth_failure *failure);
/* Runs on the loop after the commit (error 0), or after this submission or the whole commit failed.
 * Exactly once. */
typedef void (*writer_done)(void *arg, int error, const struct hearth_failure *failure);
/* Hands fn(arg) over to the loop thread; may be called from any thread and never fails. */
typedef void (*writer_post)(void *post_arg, void (*fn)(void *arg), void *arg);

int writer_start(struct writer **ret_writer, const char *path, enum db_kind kind, writer_post post,
                 void *post_arg, struct hearth_failure *failure) must_check;

/* Queues; borrows arg until done is called. Where the queue is full (false) apply is not called,
 * and done comes with HEARTH_EUNAVAILABLE `storage_busy`, in its turn too: who is told of a later
 * submission has been told of every earlier one. Aborts the process where there is no memory to owe
 * a completion with. done may be NULL. */
bool writer_submit(struct writer *writer, writer_apply apply, void *arg, writer_done done);

/* Commits what is queued, checkpoints, closes, joins. Completions not yet posted are posted. */
void writer_stop(struct writer *writer);

struct writer_stats {
    uint64_t commits, changes, failures;
    uint64_t queued; /* now */
    /* A sync has failed or the file is damaged: every submission fails with HEARTH_EIO
     * `storage_stopped` until hearthd is started again. Reading goes on. */
    bool broken;
};
void writer_get_stats(struct writer *writer, struct writer_stats *ret_stats);
