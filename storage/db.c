#include "storage/db_internal.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A file is looked through after an unclean stop up to this size: half a second of reading. */
#define QUICK_CHECK_SIZE_MAX ((off_t)200 << 20)

/* The file is made by us, private, and is no symlink. Closing a descriptor of a file drops all
 * POSIX locks this process has on it: only before SQLite opens it is there none to lose. */
static int make_file(const char *path, const char *directory, struct hearth_failure *failure)
{
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return hearth_fail_errno(failure, errno, "database_unusable", "cannot open %.200s", path);
    if (!S_ISREG(status.st_mode))
        return hearth_fail(failure, HEARTH_EIO, "database_unusable", "%.200s is no regular file",
                           path);
    if ((status.st_mode & 077) && fchmod(fd, 0600) < 0)
        return hearth_fail_errno(failure, errno, "database_unusable", "cannot make %.200s private",
                                 path);
    if (status.st_size)
        return 0;
    auto_close int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || fsync(parent) < 0)
        return hearth_fail_errno(failure, errno, "database_unusable",
                                 "cannot sync the directory of %.200s", path);
    return 0;
}

/* The directory's own name and the file's: SQLite's NOFOLLOW refuses a symlink anywhere in a path,
 * and only the file itself may be none. */
static int resolve(const char *path, char directory[PATH_MAX], char **ret_path,
                   struct hearth_failure *failure)
{
    auto_free char *copy = text_copy(path);
    char *slash = copy ? strrchr(copy, '/') : NULL;
    const char *name = slash ? slash + 1 : path;
    if (slash)
        *slash = '\0';
    const char *parent = !slash ? "." : *copy ? copy : "/";
    if (!copy)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (!realpath(parent, directory))
        return hearth_fail_errno(failure, errno, "database_unusable",
                                 "cannot find the directory of %.200s", path);
    if (asprintf(ret_path, "%s/%s", directory, name) < 0) {
        *ret_path = NULL;
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    }
    return 0;
}

/* What a writer that was stopped leaves is an empty WAL or none. */
static bool stopped_unclean(const char *path)
{
    auto_free char *wal = NULL;
    struct stat status;
    if (asprintf(&wal, "%s-wal", path) < 0) {
        wal = NULL;
        return true;
    }
    return stat(wal, &status) == 0 && status.st_size > 0;
}

static int quick_check(struct db *db, struct hearth_failure *failure)
{
    struct stat status;
    if (stat(db->path, &status) == 0 && status.st_size > QUICK_CHECK_SIZE_MAX) {
        log_warning("database_not_checked", "reason=\"too large after an unclean stop\" bytes=%lld",
                    (long long)status.st_size);
        return 0;
    }
    sqlite3_stmt *statement = db_prepare(db, "PRAGMA quick_check(1)", failure);
    if (!statement)
        return db->error;
    int error = sqlite3_step(statement) == SQLITE_ROW ? 0 : db_error(db, failure);
    if (!error && strcmp(column_text(statement, 0), "ok") != 0)
        error = hearth_fail(failure, HEARTH_EIO, "database_corrupt", "the database is damaged: %s",
                            column_text(statement, 0));
    sqlite3_reset(statement);
    return error;
}

static int open_handle(struct db *db, struct hearth_failure *failure)
{
    int flags = (db->mode == DB_WRITER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) |
                SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    int code = sqlite3_open_v2(db->path, &db->handle, flags, NULL);
    if (!db->handle)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, DB_BUSY_TIMEOUT_MS);
    return code == SQLITE_OK ? 0 : db_error(db, failure);
}

static int open_file(struct db *db, const char *path, struct hearth_failure *failure)
{
    const bool writes = db->mode == DB_WRITER;
    char directory[PATH_MAX];
    int error = resolve(path, directory, &db->path, failure);
    bool unclean = !error && writes && stopped_unclean(db->path);
    if (!error && writes)
        error = make_file(db->path, directory, failure);
    if (!error)
        error = open_handle(db, failure);
    if (!error)
        error = db_check_identity(db, failure);
    if (!error)
        error = db_configure(db, failure);
    if (!error && unclean)
        error = quick_check(db, failure);
    if (!error && writes)
        error = db_migrate(db, db_migrations(db->kind), failure);
    return error;
}

/* Before the first connection: pages are allocated as they are read, not twenty at once for each of
 * the connections, of which most read two or three. */
static void configure(void)
{
    sqlite3_config(SQLITE_CONFIG_PAGECACHE, NULL, 0, 0);
}

int db_open(struct db **ret_db, const char *path, enum db_kind kind, enum db_mode mode,
            struct hearth_failure *failure)
{
    static pthread_once_t configured = PTHREAD_ONCE_INIT;
    pthread_once(&configured, configure);
    struct db *db = calloc(1, sizeof *db);
    if (!db)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    db->kind = kind;
    db->mode = mode;
    int error = open_file(db, path, failure);
    if (error) {
        hearth_failure_context(failure, "%.120s", path);
        db_close(db);
        return error;
    }
    *ret_db = db;
    return 0;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    for (unsigned i = 0; i < db->statement_count; i++)
        sqlite3_finalize(db->statements[i].statement);
    if (db->broken) /* a rescue wants what the WAL holds where it is */
        sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(db->handle);
    free(db->path);
    free(db);
}

int db_ping(struct db *db, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, "SELECT 1 FROM sqlite_schema LIMIT 1", failure);
    if (!statement)
        return db->error;
    int error = sqlite3_step(statement) == SQLITE_ROW ? 0 : db_error(db, failure);
    sqlite3_reset(statement);
    return error;
}
