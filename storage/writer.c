#include "storage/writer.h"
#include "base/log.h"
#include "storage/db_internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define CHECKPOINT_PAGES 1024      /* 4 MiB of 4 KiB pages */
#define TRUNCATE_PAGES (16 * 1024) /* 64 MiB */

struct submission {
    struct submission *next;
    writer_apply apply;
    writer_done done;
    void *arg;
    int error;
    struct hearth_failure failure;
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
    int wal_pages; /* the thread's own */
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
    ((struct writer *)arg)->wal_pages = pages;
    return SQLITE_OK;
}

/* Between transactions. TRUNCATE waits for readers at most as long as the busy time-out. */
static void checkpoint(struct writer *writer)
{
    int logged = 0, done = 0;
    int mode = writer->wal_pages >= TRUNCATE_PAGES ? SQLITE_CHECKPOINT_TRUNCATE
                                                   : SQLITE_CHECKPOINT_PASSIVE;
    if (sqlite3_wal_checkpoint_v2(writer->db->handle, NULL, mode, &logged, &done) == SQLITE_OK &&
        logged == done)
        writer->wal_pages = 0;
}

static void apply_one(struct writer *writer, struct submission *submission)
{
    struct hearth_failure *failure = &submission->failure;
    submission->error = db_execute(writer->db, "SAVEPOINT submission", failure);
    if (submission->error)
        return;
    submission->error = submission->apply(writer->db, submission->arg, failure);
    if (submission->error && sqlite3_get_autocommit(writer->db->handle))
        return; /* SQLite has taken the whole transaction back (a full disk does that) */
    struct hearth_failure ignored;
    if (submission->error)
        db_execute(writer->db, "ROLLBACK TO submission", &ignored);
    int error = db_execute(writer->db, "RELEASE submission", &ignored);
    if (error && !submission->error) {
        submission->error = error;
        *failure = ignored;
    }
}

/* One transaction for the whole batch. Where it fails as a whole, every submission fails with its
 * reason. */
static void commit_batch(struct writer *writer, struct submission *batch)
{
    struct hearth_failure failure;
    int error = db_execute(writer->db, "BEGIN IMMEDIATE", &failure);
    for (struct submission *submission = batch; submission && !error;
         submission = submission->next) {
        apply_one(writer, submission);
        if (submission->error && sqlite3_get_autocommit(writer->db->handle)) {
            error = submission->error;
            failure = submission->failure;
        }
    }
    if (!error)
        error = db_execute(writer->db, "COMMIT", &failure);
    if (!error)
        return;
    if (!sqlite3_get_autocommit(writer->db->handle))
        sqlite3_exec(writer->db->handle, "ROLLBACK", NULL, NULL, NULL);
    log_error("commit_failed", "code=%s detail=\"%s\"", failure.code, failure.detail);
    for (struct submission *submission = batch; submission; submission = submission->next) {
        submission->error = error;
        submission->failure = failure;
    }
}

static struct submission *take_batch(struct writer *writer, unsigned *ret_count)
{
    struct submission *batch = writer->first, **end = &writer->first;
    unsigned count = 0;
    while (*end && count < WRITER_BATCH_MAX) {
        end = &(*end)->next;
        count++;
    }
    writer->first = *end;
    *end = NULL;
    if (!writer->first)
        writer->last = &writer->first;
    *ret_count = count;
    return batch;
}

static void *run(void *arg)
{
    struct writer *writer = arg;
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        while (!writer->first && !writer->stopping) {
            if (writer->wal_pages >= CHECKPOINT_PAGES) { /* nothing else to do: a good time */
                pthread_mutex_unlock(&writer->lock);
                checkpoint(writer);
                writer->wal_pages = 0;
                pthread_mutex_lock(&writer->lock);
                continue;
            }
            pthread_cond_wait(&writer->wake, &writer->lock);
        }
        if (!writer->first)
            break;
        unsigned count, failures = 0;
        struct submission *batch = take_batch(writer, &count);
        pthread_mutex_unlock(&writer->lock);
        commit_batch(writer, batch);
        while (batch) {
            struct submission *next = batch->next;
            failures += batch->error != 0;
            writer->post(writer->post_arg, tell, batch);
            batch = next;
        }
        if (writer->wal_pages >= TRUNCATE_PAGES)
            checkpoint(writer);
        pthread_mutex_lock(&writer->lock);
        writer->stats.commits++;
        writer->stats.changes += count;
        writer->stats.failures += failures;
        writer->stats.queued -= count;
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
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
    int error = db_open(&writer->db, path, kind, DB_WRITER, failure);
    if (error) {
        free(writer);
        return error;
    }
    sqlite3_wal_hook(writer->db->handle, on_wal, writer);
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->wake, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int started = pthread_create(&writer->thread, NULL, run, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started != 0) {
        db_close(writer->db);
        free(writer);
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "cannot start the storage thread");
    }
    *ret_writer = writer;
    return 0;
}

void writer_submit(struct writer *writer, writer_apply apply, void *arg, writer_done done)
{
    struct submission *submission = calloc(1, sizeof *submission);
    if (!submission)
        abort(); /* a completion is owed, and there is nothing to carry it */
    *submission = (struct submission){.apply = apply, .arg = arg, .done = done};
    pthread_mutex_lock(&writer->lock);
    bool full = writer->stats.queued >= WRITER_QUEUE_MAX;
    if (!full) {
        *writer->last = submission;
        writer->last = &submission->next;
        writer->stats.queued++;
        pthread_cond_signal(&writer->wake);
    }
    pthread_mutex_unlock(&writer->lock);
    if (full) {
        submission->error = hearth_fail(&submission->failure, HEARTH_EUNAVAILABLE, "storage_busy",
                                        "%d changes wait to be written already", WRITER_QUEUE_MAX);
        writer->post(writer->post_arg, tell, submission);
    }
}

void writer_stop(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    sqlite3_wal_checkpoint_v2(writer->db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    db_close(writer->db);
    pthread_cond_destroy(&writer->wake);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

void writer_get_stats(struct writer *writer, struct writer_stats *ret_stats)
{
    pthread_mutex_lock(&writer->lock);
    *ret_stats = writer->stats;
    pthread_mutex_unlock(&writer->lock);
}
