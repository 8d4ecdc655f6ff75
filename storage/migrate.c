#include "storage/db_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "hrth": a file that is SQLite's but not ours is refused. */
#define APPLICATION_ID 0x68727468

const struct migration *db_migrations(enum db_kind kind)
{
    return kind == DB_STATE ? state_migrations : history_migrations;
}

static int newest_of(const struct migration *migrations)
{
    int version = 0;
    while (migrations[version].sql)
        version++;
    return version;
}

int db_schema_version(enum db_kind kind)
{
    return newest_of(db_migrations(kind));
}

/* One number, from a statement that is not kept: a changed schema would stay behind in it. */
static int read_number(struct db *db, const char *sql, int *ret_value,
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

int db_check_identity(struct db *db, struct hearth_failure *failure)
{
    int version = 0, application = 0, objects = 0, newest = db_schema_version(db->kind);
    int error = read_number(db, "PRAGMA user_version", &version, failure);
    if (!error)
        error = read_number(db, "PRAGMA application_id", &application, failure);
    if (!error)
        error = read_number(db, "SELECT count(*) FROM sqlite_schema", &objects, failure);
    if (error)
        return error;
    bool empty = !version && !application && !objects;
    if (!empty && application != APPLICATION_ID)
        return hearth_fail(failure, HEARTH_ECONFLICT, "database_foreign",
                           "the file belongs to another program");
    if (version <= newest)
        return 0;
    hearth_fail(failure, HEARTH_ECONFLICT, "database_newer",
                "the database has version %d, this hearthd knows up to %d", version, newest);
    hearth_failure_hint(failure,
                        "Install the newer hearth again, or restore a backup from before it.");
    return HEARTH_ECONFLICT;
}

static int sync_directory_of(const char *path)
{
    auto_free char *directory = strdup(path);
    char *slash = directory ? strrchr(directory, '/') : NULL;
    if (!slash)
        return -ENOMEM;
    *slash = '\0';
    auto_close int fd = open(*directory ? directory : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* VACUUM INTO writes into an empty file as it is; one that SQLite made would be readable by all. */
static int make_copy(struct db *db, const char *path, struct hearth_failure *failure)
{
    unlink(path);
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return hearth_fail_errno(failure, errno, "database_copy", "cannot make %.200s", path);
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db->handle, "VACUUM INTO ?1", -1, &statement, NULL) != SQLITE_OK)
        return db_error(db, failure);
    bind_text(statement, 1, path);
    int error = sqlite3_step(statement) == SQLITE_DONE ? 0 : db_error(db, failure);
    sqlite3_finalize(statement);
    if (!error && fsync(fd) < 0)
        return hearth_fail_errno(failure, errno, "database_copy", "cannot sync %.200s", path);
    return error;
}

/* A copy of the file as it was, beside it: PATH.before-VERSION. */
static int keep_copy(struct db *db, int version, struct hearth_failure *failure)
{
    auto_free char *path = NULL;
    if (asprintf(&path, "%s.before-%d", db->path, version + 1) < 0) {
        path = NULL;
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    }
    int error = make_copy(db, path, failure);
    if (error) {
        unlink(path);
        return error;
    }
    int sync_error = sync_directory_of(path);
    return sync_error ? hearth_fail_errno(failure, -sync_error, "database_copy",
                                          "cannot sync the directory of %.200s", path)
                      : 0;
}

static int migrate_step(struct db *db, const struct migration *migration, int version,
                        struct hearth_failure *failure)
{
    char stamp[96];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id=%d; PRAGMA user_version=%d",
             APPLICATION_ID, version);
    int error = db_execute(db, "BEGIN IMMEDIATE", failure);
    if (!error)
        error = db_execute(db, migration->sql, failure);
    if (!error)
        error = db_execute(db, stamp, failure);
    if (!error)
        error = db_execute(db, "COMMIT", failure);
    if (error) {
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
        hearth_failure_context(failure, "migration to version %d", version);
    }
    return error;
}

int db_migrate(struct db *db, const struct migration *migrations, struct hearth_failure *failure)
{
    int version = 0, newest = newest_of(migrations);
    int error = read_number(db, "PRAGMA user_version", &version, failure);
    if (!error && version && version < newest)
        error = keep_copy(db, version, failure);
    for (; !error && version < newest; version++)
        error = migrate_step(db, &migrations[version], version + 1, failure);
    return error;
}
