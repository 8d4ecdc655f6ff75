#include "storage/writer.h"

#include "base/log.h"
#include "storage/db_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define CHECKPOINT_PAGES 1024      /* 4 MiB of 4 KiB pages */
#define TRUNCATE_PAGES (16 * 1024) /* 64 MiB */
#define IDLE_SECONDS 1             /* then what is in the WAL goes into the file */

struct submission {
    struct submission *next;
    writer_apply apply;
    writer_done done;
    void *arg;
    bool refused; /* it is only told so, in its turn */
    int error;
    struct hearth_failure failure; /* where error */
};

struct writer {
    struct db *db;
    writer_post post;
    void *post_arg;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct submission *first, **last;
    struct writer_stats stats;
    bool stopping;
    /* The thread's own: the WAL's length after the last commit, the length at which the next
     * checkpoint is due, whether there was a commit since the last one. */
    int wal_pages, checkpoint_at;
    bool wal_written;
};

static void tell(void *arg)
{
    struct submission *submission = arg;
    if (submission->done)
        submission->done(submission->arg, submission->error,
                         submission->error ? &submission->failure : NULL);
    free(submission);
}

static int on_wal(void *arg, sqlite3 *handle, const char *name, int pages)
{
    (void)handle;
    (void)name;
    struct writer *writer = arg;
    if (pages < writer->wal_pages) /* it has begun from the start again */
        writer->checkpoint_at = CHECKPOINT_PAGES;
    writer->wal_pages = pages;
    writer->wal_written = true;
    return SQLITE_OK;
}

/* Between transactions. A reader may keep a part from being done: the next time is soon enough, no
 * commit waits for it. */
static void checkpoint(struct writer *writer)
{
    sqlite3 *handle = writer->db->handle;
    int mode = writer->wal_pages >= TRUNCATE_PAGES ? SQLITE_CHECKPOINT_TRUNCATE
                                                   : SQLITE_CHECKPOINT_PASSIVE;
    sqlite3_busy_timeout(handle, 0);
    int code = sqlite3_wal_checkpoint_v2(handle, NULL, mode, NULL, NULL);
    sqlite3_busy_timeout(handle, DB_BUSY_TIMEOUT_MS);
    struct hearth_failure failure;
    if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY && db_error(writer->db, &failure))
        log_error("checkpoint_failed", "code=%s detail=\"%s\"", failure.code, failure.detail);
    writer->wal_written = false;
    writer->checkpoint_at = writer->wal_pages + CHECKPOINT_PAGES;
}

/* Gives the error of the whole batch: 0 too where this submission alone has failed. */
static int apply_one(struct db *db, struct submission *submission, struct hearth_failure *failure)
{
    int error = db_do(db, "SAVEPOINT submission", failure);
    if (error)
        return error;
    submission->error = submission->apply(db, submission->arg, &submission->failure);
    if (!submission->error)
        return db_do(db, "RELEASE submission", failure);
    if (submission->failure.error == HEARTH_OK)
        hearth_fail(&submission->failure, (enum hearth_error)submission->error, NULL,
                    "the change was refused");
    if (sqlite3_get_autocommit(db->handle)) {
        /* SQLite has taken the whole transaction back: a full disk does that. */
        *failure = submission->failure;
        return submission->error;
    }
    error = db_do(db, "ROLLBACK TO submission", failure);
    return error ? error : db_do(db, "RELEASE submission", failure);
}

static int commit_all(struct db *db, struct submission *batch, struct hearth_failure *failure)
{
    if (db->broken)
        return hearth_fail(failure, HEARTH_EIO, "storage_stopped",
                           "a failed disk or a damaged file has stopped all writing");
    int error = db_do(db, "BEGIN IMMEDIATE", failure);
    for (struct submission *submission = batch; submission && !error; submission = submission->next)
        error = submission->refused ? 0 : apply_one(db, submission, failure);
    return error ? error : db_do(db, "COMMIT", failure);
}

/* One transaction for the whole batch. Where it fails as a whole, every submission fails with its
 * reason. */
static void commit_batch(struct db *db, struct submission *batch)
{
    struct hearth_failure failure;
    const bool was_broken = db->broken;
    int error = commit_all(db, batch, &failure);
    if (!error)
        return;
    if (!sqlite3_get_autocommit(db->handle))
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    if (!was_broken)
        log_error("commit_failed", "code=%s detail=\"%s\"", failure.code, failure.detail);
    for (struct submission *submission = batch; submission; submission = submission->next) {
        if (submission->refused)
            continue;
        submission->error = error;
        submission->failure = failure;
    }
}

/* Gives how many of it were queued to be written. */
static struct submission *take_batch(struct writer *writer, unsigned *ret_count)
{
    struct submission *batch = writer->first, **end = &writer->first;
    unsigned count = 0;
    while (*end && count < WRITER_BATCH_MAX) {
        count += !(*end)->refused;
        end = &(*end)->next;
    }
    writer->first = *end;
    *end = NULL;
    if (!writer->first)
        writer->last = &writer->first;
    *ret_count = count;
    return batch;
}

/* With the lock held. False: the writer is stopping, and nothing is left. */
static bool wait_for_work(struct writer *writer)
{
    while (!writer->first && !writer->stopping) {
        if (!writer->wal_written) {
            pthread_cond_wait(&writer->wake, &writer->lock);
            continue;
        }
        struct timespec idle_at;
        clock_gettime(CLOCK_MONOTONIC, &idle_at);
        idle_at.tv_sec += IDLE_SECONDS;
        int waited = 0;
        while (!writer->first && !writer->stopping && waited != ETIMEDOUT)
            waited = pthread_cond_timedwait(&writer->wake, &writer->lock, &idle_at);
        if (writer->first || writer->stopping)
            break;
        pthread_mutex_unlock(&writer->lock);
        checkpoint(writer);
        pthread_mutex_lock(&writer->lock);
    }
    return writer->first != NULL;
}

static void count_batch(struct writer *writer, const struct submission *batch, unsigned count)
{
    unsigned failures = 0;
    for (; batch; batch = batch->next)
        failures += batch->error != 0;
    pthread_mutex_lock(&writer->lock);
    writer->stats.commits++;
    writer->stats.changes += count;
    writer->stats.failures += failures;
    writer->stats.queued -= count;
    writer->stats.broken = writer->db->broken;
    pthread_mutex_unlock(&writer->lock);
}

static void post_batch(struct writer *writer, struct submission *batch)
{
    for (struct submission *next; batch; batch = next) {
        next = batch->next; /* who is told frees it */
        writer->post(writer->post_arg, tell, batch);
    }
}

static void *run(void *arg)
{
    struct writer *writer = arg;
    for (;;) {
        unsigned count = 0;
        pthread_mutex_lock(&writer->lock);
        struct submission *batch = wait_for_work(writer) ? take_batch(writer, &count) : NULL;
        pthread_mutex_unlock(&writer->lock);
        if (!batch)
            return NULL;
        commit_batch(writer->db, batch);
        count_batch(writer, batch, count);
        post_batch(writer, batch);
        if (writer->wal_pages >= writer->checkpoint_at)
            checkpoint(writer);
    }
}

static int start_thread(struct writer *writer, struct hearth_failure *failure)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    sigset_t all, before;
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&writer->thread, NULL, run, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code ? hearth_fail_errno(failure, code, NULL, "cannot start the storage thread") : 0;
}

static void writer_free(struct writer *writer)
{
    db_close(writer->db);
    pthread_cond_destroy(&writer->wake);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

int writer_start(struct writer **ret_writer, const char *path, enum db_kind kind, writer_post post,
                 void *post_arg, struct hearth_failure *failure)
{
    struct writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    writer->post = post;
    writer->post_arg = post_arg;
    writer->last = &writer->first;
    writer->checkpoint_at = CHECKPOINT_PAGES;
    int error = db_open(&writer->db, path, kind, DB_WRITER, failure);
    if (error) {
        free(writer);
        return error;
    }
    sqlite3_wal_hook(writer->db->handle, on_wal, writer);
    error = start_thread(writer, failure);
    if (error) {
        writer_free(writer);
        return error;
    }
    *ret_writer = writer;
    return 0;
}

bool writer_submit(struct writer *writer, writer_apply apply, void *arg, writer_done done)
{
    struct submission *submission = malloc(sizeof *submission);
    if (!submission)
        abort(); /* a completion is owed, and there is nothing to carry it */
    submission->next = NULL;
    submission->apply = apply;
    submission->done = done;
    submission->arg = arg;
    submission->error = 0;
    submission->failure.error = HEARTH_OK;
    pthread_mutex_lock(&writer->lock);
    bool full = writer->stats.queued >= WRITER_QUEUE_MAX;
    submission->refused = full;
    if (full)
        submission->error = hearth_fail(&submission->failure, HEARTH_EUNAVAILABLE, "storage_busy",
                                        "%d changes wait to be written already", WRITER_QUEUE_MAX);
    else
        writer->stats.queued++;
    *writer->last = submission;
    writer->last = &submission->next;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
    return !full;
}

void writer_stop(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    if (!writer->db->broken)
        sqlite3_wal_checkpoint_v2(writer->db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    writer_free(writer);
}

void writer_get_stats(struct writer *writer, struct writer_stats *ret_stats)
{
    pthread_mutex_lock(&writer->lock);
    *ret_stats = writer->stats;
    pthread_mutex_unlock(&writer->lock);
}
