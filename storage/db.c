#include "base/log.h"
#include "base/text.h"
#include "storage/db_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LENGTH_MAX (8 << 20)
#define SQL_LENGTH_MAX (64 << 10)
#define BUSY_TIMEOUT_MS 5000

int db_error(struct db *db, struct hearth_failure *failure)
{
    int code = sqlite3_extended_errcode(db->handle);
    const char *text = sqlite3_errmsg(db->handle);
    switch (code & 0xff) {
    case SQLITE_FULL:
        return hearth_fail(failure, HEARTH_ENOSPACE, "storage_full",
                           "the disk of the database is full: %s", text);
    case SQLITE_NOMEM:
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "the database is out of memory");
    case SQLITE_CONSTRAINT:
        return hearth_fail(failure, HEARTH_ECONFLICT, "storage_conflict",
                           "the database refuses this: %s", text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return hearth_fail(failure, HEARTH_EIO, "database_corrupt", "the database is damaged: %s",
                           text);
    default:
        return hearth_fail(failure, HEARTH_EIO, "storage_error",
                           "the database cannot do this (%d): %s", code, text);
    }
}

int db_execute(struct db *db, const char *sql, struct hearth_failure *failure)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(db, failure);
}

sqlite3_stmt *db_prepare(struct db *db, const char *sql, struct hearth_failure *failure)
{
    for (unsigned i = 0; i < db->statement_count; i++)
        if (db->statements[i].sql == sql) {
            sqlite3_clear_bindings(db->statements[i].statement);
            return db->statements[i].statement;
        }
    if (db->statement_count == DB_STATEMENTS_MAX) {
        hearth_fail(failure, HEARTH_EINTERNAL, NULL, "more than %d kinds of statements",
                    DB_STATEMENTS_MAX);
        return NULL;
    }
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) !=
        SQLITE_OK) {
        db_error(db, failure);
        return NULL;
    }
    db->statements[db->statement_count].sql = sql;
    db->statements[db->statement_count++].statement = statement;
    return statement;
}

int db_run(struct db *db, sqlite3_stmt *statement, struct hearth_failure *failure)
{
    int error = sqlite3_step(statement) == SQLITE_DONE ? 0 : db_error(db, failure);
    sqlite3_reset(statement);
    return error;
}

int db_each(struct db *db, sqlite3_stmt *statement, db_row visit, void *arg,
            struct hearth_failure *failure)
{
    int error = 0, step;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW && !error)
        error = visit(arg, statement);
    if (!error && step != SQLITE_DONE)
        error = db_error(db, failure);
    sqlite3_reset(statement);
    return error;
}

void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
}

void bind_integer(sqlite3_stmt *statement, int index, int64_t value)
{
    sqlite3_bind_int64(statement, index, value);
}

void bind_blob(sqlite3_stmt *statement, int index, const void *data, size_t length)
{
    sqlite3_bind_blob64(statement, index, data ? data : "", length, SQLITE_STATIC);
}

const char *column_text(sqlite3_stmt *row, int index)
{
    return (const char *)sqlite3_column_text(row, index);
}

/* Settings, each read back: SQLite takes an unknown or refused pragma without a word. */

static int keep_text(void *arg, int count, char **values, char **names)
{
    (void)names;
    if (count > 0 && values[0])
        snprintf(arg, 32, "%s", values[0]);
    return 0;
}

static int set_pragma(struct db *db, const char *name, const char *value, const char *expected,
                      struct hearth_failure *failure)
{
    char sql[96], found[32] = "";
    if (value) {
        snprintf(sql, sizeof sql, "PRAGMA %s=%s", name, value);
        if (sqlite3_exec(db->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
            return db_error(db, failure);
    }
    snprintf(sql, sizeof sql, "PRAGMA %s", name);
    if (sqlite3_exec(db->handle, sql, keep_text, found, NULL) != SQLITE_OK)
        return db_error(db, failure);
    if (strcmp(found, expected) == 0)
        return 0;
    return hearth_fail(failure, HEARTH_EIO, "database_setting",
                       "%s stays %s where %s was asked for", name, found, expected);
}

static int configure(struct db *db, struct hearth_failure *failure)
{
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    sqlite3_limit(db->handle, SQLITE_LIMIT_LENGTH, LENGTH_MAX);
    sqlite3_limit(db->handle, SQLITE_LIMIT_SQL_LENGTH, SQL_LENGTH_MAX);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    const struct {
        const char *name, *value, *expected;
    } settings[] = {
        {"journal_mode", db->mode == DB_WRITER ? "WAL" : NULL, "wal"},
        {"synchronous", db->kind == DB_STATE ? "FULL" : "NORMAL", db->kind == DB_STATE ? "2" : "1"},
        {"foreign_keys", "ON", "1"},
        {"trusted_schema", "OFF", "0"},
        {"cell_size_check", "ON", "1"},
        {"temp_store", "MEMORY", "2"},
        {"mmap_size", "0", "0"},
        {"wal_autocheckpoint", "0", "0"},
        {"journal_size_limit", "67108864", "67108864"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        int error =
            set_pragma(db, settings[i].name, settings[i].value, settings[i].expected, failure);
        if (error)
            return error;
    }
    return 0;
}

/* The file is made by us, private, and is no symlink. */
static int make_file(const char *path, struct hearth_failure *failure)
{
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return hearth_fail_errno(failure, errno, "database_unusable", "cannot open %.200s", path);
    if (!S_ISREG(status.st_mode))
        return hearth_fail(failure, HEARTH_EIO, "database_unusable", "%.200s is no regular file",
                           path);
    if (status.st_size)
        return 0;
    auto_free char *directory = text_copy(path);
    char *slash = directory ? strrchr(directory, '/') : NULL;
    if (slash)
        *slash = '\0';
    auto_close int parent = open(slash && *directory ? directory
                                 : slash             ? "/"
                                                     : ".",
                                 O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || fsync(parent) < 0)
        return hearth_fail_errno(failure, errno, "database_unusable",
                                 "cannot sync the directory of %.200s", path);
    return 0;
}

int db_open(struct db **ret_db, const char *path, enum db_kind kind, enum db_mode mode,
            struct hearth_failure *failure)
{
    int error = mode == DB_WRITER ? make_file(path, failure) : 0;
    struct db *db = error ? NULL : calloc(1, sizeof *db);
    if (!db)
        return error ? error : hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    db->kind = kind;
    db->mode = mode;
    db->path = text_copy(path);
    int flags = (mode == DB_WRITER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) |
                SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    if (!db->path || sqlite3_open_v2(path, &db->handle, flags, NULL) != SQLITE_OK)
        error = db->handle ? db_error(db, failure)
                           : hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (!error)
        error = configure(db, failure);
    if (!error && mode == DB_WRITER)
        error = db_migrate(db, failure);
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
    sqlite3_close(db->handle);
    free(db->path);
    free(db);
}

int db_ping(struct db *db, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, "SELECT count(*) FROM sqlite_schema", failure);
    if (!statement)
        return (int)failure->error;
    int error = sqlite3_step(statement) == SQLITE_ROW ? 0 : db_error(db, failure);
    sqlite3_reset(statement);
    return error;
}
