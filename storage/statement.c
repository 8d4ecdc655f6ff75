/* What SQLite says, as failures; statements prepared once, bound and stepped. */
#include "storage/db_internal.h"

#include <errno.h>
#include <limits.h>

/* After these the file's state on disk is unknown: a second fsync that succeeds proves nothing
 * about what the first one lost. */
static bool is_fatal(int code)
{
    return code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC ||
           (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

static bool is_no_space(struct db *db, int code)
{
    int system = sqlite3_system_errno(db->handle);
    return (code & 0xff) == SQLITE_FULL ||
           ((code & 0xff) == SQLITE_IOERR &&
            (system == ENOSPC || system == EDQUOT || system == EFBIG));
}

int db_error(struct db *db, struct hearth_failure *failure)
{
    int code = sqlite3_extended_errcode(db->handle);
    const char *text = sqlite3_errmsg(db->handle);
    db->broken = db->broken || is_fatal(code);
    if (is_no_space(db, code))
        return hearth_fail(failure, HEARTH_ENOSPACE, "storage_full",
                           "the disk of the database is full: %s", text);
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "the database is out of memory");
    case SQLITE_CONSTRAINT:
        return hearth_fail(failure, HEARTH_ECONFLICT, "storage_conflict",
                           "the database refuses this: %s", text);
    case SQLITE_TOOBIG:
        return hearth_fail(failure, HEARTH_ETOOLARGE, "storage_too_large",
                           "a value is too large for the database");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return hearth_fail(failure, HEARTH_EUNAVAILABLE, "database_locked",
                           "another program has locked the database: %s", text);
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

static sqlite3_stmt *prepare_new(struct db *db, const char *sql, struct hearth_failure *failure)
{
    if (db->statement_count == DB_STATEMENTS_MAX) {
        db->error = hearth_fail(failure, HEARTH_EINTERNAL, NULL, "more than %d kinds of statements",
                                DB_STATEMENTS_MAX);
        return NULL;
    }
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) !=
        SQLITE_OK) {
        db->error = db_error(db, failure);
        return NULL;
    }
    db->statements[db->statement_count].sql = sql;
    db->statements[db->statement_count++].statement = statement;
    return statement;
}

sqlite3_stmt *db_prepare(struct db *db, const char *sql, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = NULL;
    for (unsigned i = 0; i < db->statement_count && !statement; i++)
        if (db->statements[i].sql == sql)
            statement = db->statements[i].statement;
    if (!statement)
        return prepare_new(db, sql, failure);
    if (sqlite3_stmt_busy(statement)) {
        db->error = hearth_fail(failure, HEARTH_EINTERNAL, NULL,
                                "a visitor asks again for the rows that it is shown");
        return NULL;
    }
    sqlite3_clear_bindings(statement);
    return statement;
}

int db_run(struct db *db, sqlite3_stmt *statement, struct hearth_failure *failure)
{
    int error = sqlite3_step(statement) == SQLITE_DONE ? 0 : db_error(db, failure);
    sqlite3_reset(statement);
    return error;
}

int db_do(struct db *db, const char *sql, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    return statement ? db_run(db, statement, failure) : db->error;
}

int db_each(struct db *db, sqlite3_stmt *statement, db_row visit, void *arg,
            struct hearth_failure *failure)
{
    int error = 0, step = SQLITE_ROW;
    while (!error && (step = sqlite3_step(statement)) == SQLITE_ROW)
        error = visit(arg, statement);
    if (!error && step != SQLITE_DONE)
        error = db_error(db, failure);
    sqlite3_reset(statement);
    return error;
}

/* A value over the limit is refused when it is bound, and the parameter stays NULL. So that the
 * statement fails rather than write that NULL, it gets a value that is refused when it is used. */
static void check_bound(sqlite3_stmt *statement, int index, int code)
{
    if (code != SQLITE_OK)
        sqlite3_bind_zeroblob(statement, index, INT_MAX);
}

void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    check_bound(statement, index, sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC));
}

void bind_integer(sqlite3_stmt *statement, int index, int64_t value)
{
    sqlite3_bind_int64(statement, index, value);
}

void bind_blob(sqlite3_stmt *statement, int index, const void *data, size_t length)
{
    check_bound(statement, index,
                sqlite3_bind_blob64(statement, index, data ? data : "", length, SQLITE_STATIC));
}

const char *column_text(sqlite3_stmt *row, int index)
{
    return (const char *)sqlite3_column_text(row, index);
}
