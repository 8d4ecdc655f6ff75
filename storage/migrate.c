#include "base/log.h"
#include "storage/db_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* "hrth": a file that is SQLite's but not ours is refused. */
#define APPLICATION_ID 0x68727468

static const struct migration *migrations_of(enum db_kind kind)
{
    return kind == DB_STATE ? state_migrations : history_migrations;
}

int db_schema_version(enum db_kind kind)
{
    int version = 0;
    while (migrations_of(kind)[version].sql)
        version++;
    return version;
}

static int read_pragma(struct db *db, const char *sql, int *ret_value,
                       struct hearth_failure *failure)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL) != SQLITE_OK)
        return db_error(db, failure);
    int error = sqlite3_step(statement) == SQLITE_ROW ? 0 : db_error(db, failure);
    if (!error)
        *ret_value = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return error;
}

/* A copy of the file as it was, beside it: PATH.before-VERSION. */
static int keep_copy(struct db *db, int version, struct hearth_failure *failure)
{
    char copy[4300];
    snprintf(copy, sizeof copy, "%s.before-%d", db->path, version + 1);
    unlink(copy);
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db->handle, "VACUUM INTO ?1", -1, &statement, NULL) != SQLITE_OK)
        return db_error(db, failure);
    bind_text(statement, 1, copy);
    int error = sqlite3_step(statement) == SQLITE_DONE ? 0 : db_error(db, failure);
    sqlite3_finalize(statement);
    return error;
}

static int migrate_step(struct db *db, int version, struct hearth_failure *failure)
{
    char stamp[96];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id=%d; PRAGMA user_version=%d",
             APPLICATION_ID, version + 1);
    int error = db_execute(db, "BEGIN IMMEDIATE", failure);
    if (!error)
        error = db_execute(db, migrations_of(db->kind)[version].sql, failure);
    if (!error)
        error = db_execute(db, stamp, failure);
    if (!error)
        error = db_execute(db, "COMMIT", failure);
    if (error) {
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
        hearth_failure_context(failure, "migration to version %d", version + 1);
    }
    return error;
}

int db_migrate(struct db *db, struct hearth_failure *failure)
{
    int version = 0, application = 0, newest = db_schema_version(db->kind);
    int error = read_pragma(db, "PRAGMA user_version", &version, failure);
    if (!error)
        error = read_pragma(db, "PRAGMA application_id", &application, failure);
    if (!error && version && application != APPLICATION_ID)
        return hearth_fail(failure, HEARTH_ECONFLICT, "database_foreign",
                           "the file belongs to another program");
    if (!error && version > newest) {
        error = hearth_fail(failure, HEARTH_ECONFLICT, "database_newer",
                            "the database has version %d, this hearthd knows up to %d", version,
                            newest);
        hearth_failure_hint(failure,
                            "Install the newer hearth again, or restore a backup from before it.");
    }
    if (!error && version && version < newest)
        error = keep_copy(db, version, failure);
    for (; !error && version < newest; version++)
        error = migrate_step(db, version, failure);
    return error;
}
