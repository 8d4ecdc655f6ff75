/* What storage's own files share. Only this room knows that there is SQLite. */
#pragma once

#include "storage/change.h"
#include "storage/db.h"
#include "storage/rows.h"

#include <sqlite3.h>

#define DB_STATEMENTS_MAX 64
/* Only a backup tool can make us wait: nobody else opens the files. */
#define DB_BUSY_TIMEOUT_MS 5000

struct db {
    sqlite3 *handle;
    enum db_kind kind;
    enum db_mode mode;
    char *path; /* absolute, the directory without symlinks */
    int error;  /* of the db_prepare that gave NULL last */
    /* A sync has failed or the file is damaged: nothing may be written any more. */
    bool broken;
    /* Prepared once, found by the address of their text. */
    struct {
        const char *sql;
        sqlite3_stmt *statement;
    } statements[DB_STATEMENTS_MAX];
    unsigned statement_count;
};

struct migration {
    const char *sql;
};
/* Made from migrations/KIND_*.sql at build time; ended by a NULL text. */
extern const struct migration state_migrations[], history_migrations[];

/* db_settings.c: sets all that a connection needs, and reads it back. */
int db_configure(struct db *db, struct hearth_failure *failure);

/* migrate.c. Is the file empty or ours, and not newer than this build? Writes nothing. */
int db_check_identity(struct db *db, struct hearth_failure *failure);
const struct migration *db_migrations(enum db_kind kind);
/* Applies what the file lacks of migrations, one transaction a step; keeps a copy of a file that
 * had a version before. */
int db_migrate(struct db *db, const struct migration *migrations, struct hearth_failure *failure);

/* statement.c. */

/* Runs text that gives no rows. */
int db_execute(struct db *db, const char *sql, struct hearth_failure *failure);
/* A reset statement with no bindings; sql must be a literal: it is known by its address. NULL with
 * the failure, and db->error. */
sqlite3_stmt *db_prepare(struct db *db, const char *sql, struct hearth_failure *failure);
/* Steps a statement that gives no rows, and resets it. */
int db_run(struct db *db, sqlite3_stmt *statement, struct hearth_failure *failure);
/* Both, for a literal without bindings. */
int db_do(struct db *db, const char *sql, struct hearth_failure *failure);
/* What SQLite's last error means: HEARTH_ENOSPACE, HEARTH_EIO, HEARTH_ECONFLICT, … Gives the error,
 * and notes one after which nothing may be written. */
int db_error(struct db *db, struct hearth_failure *failure);

typedef int (*db_row)(void *arg, sqlite3_stmt *row);
/* Calls visit for each row; a negative return ends it and is returned. Resets the statement. */
int db_each(struct db *db, sqlite3_stmt *statement, db_row visit, void *arg,
            struct hearth_failure *failure);

/* Bindings and columns: text may be NULL. A value over the limit fails the statement. */
void bind_text(sqlite3_stmt *statement, int index, const char *text);
void bind_integer(sqlite3_stmt *statement, int index, int64_t value);
void bind_blob(sqlite3_stmt *statement, int index, const void *data, size_t length);
const char *column_text(sqlite3_stmt *row, int index);

/* rows_KIND.c: one row each, on the writing connection. */
int rows_put_tenant(struct db *db, const struct row_tenant *row, struct hearth_failure *failure);
int rows_set_tenant(struct db *db, const struct row_tenant *row, struct hearth_failure *failure);
int rows_put_token(struct db *db, const struct row_token *row, struct hearth_failure *failure);
int rows_revoke_token(struct db *db, const char *token_id, int64_t at,
                      struct hearth_failure *failure);
int rows_put_workspace(struct db *db, const struct row_workspace *row,
                       struct hearth_failure *failure);
int rows_delete_workspace(struct db *db, const char *workspace_id, struct hearth_failure *failure);
int rows_touch_workspace(struct db *db, const char *workspace_id, int64_t at,
                         uint64_t command_count, struct hearth_failure *failure);
int rows_put_guest(struct db *db, const struct row_guest *row, struct hearth_failure *failure);
int rows_delete_guest(struct db *db, const char *guest_id, struct hearth_failure *failure);
int rows_delete_guests_of(struct db *db, const char *workspace_id, struct hearth_failure *failure);
int rows_put_operation(struct db *db, const struct row_operation *row,
                       struct hearth_failure *failure);
int rows_delete_operation(struct db *db, const char *operation_id, struct hearth_failure *failure);
int rows_put_upload(struct db *db, const struct row_upload *row, struct hearth_failure *failure);
int rows_delete_upload(struct db *db, const char *upload_id, struct hearth_failure *failure);
int rows_put_service(struct db *db, const struct row_service *row, struct hearth_failure *failure);
int rows_delete_service(struct db *db, const char *workspace_id, const char *name,
                        struct hearth_failure *failure);
int rows_put_secret(struct db *db, const struct row_secret *row, struct hearth_failure *failure);
int rows_put_snapshot(struct db *db, const struct row_snapshot *row,
                      struct hearth_failure *failure);
int rows_delete_snapshot(struct db *db, const char *workspace_id, const char *name,
                         struct hearth_failure *failure);
int rows_put_idempotency(struct db *db, const struct row_idempotency *row,
                         struct hearth_failure *failure);
int rows_delete_idempotency(struct db *db, const struct row_idempotency *row,
                            struct hearth_failure *failure);
int rows_prune_idempotency(struct db *db, int64_t before, struct hearth_failure *failure);
int rows_put_clock(struct db *db, const struct row_clock *row, struct hearth_failure *failure);
int rows_shift_activity(struct db *db, int64_t step_us, struct hearth_failure *failure);
int rows_add_audit(struct db *db, const struct row_audit *row, struct hearth_failure *failure);
int rows_put_exec(struct db *db, const struct row_exec *row, struct hearth_failure *failure);
int rows_clear_execs(struct db *db, const char *workspace_id, struct hearth_failure *failure);
int rows_clear_execs_before(struct db *db, const char *workspace_id, int64_t at,
                            struct hearth_failure *failure);
int rows_prune_execs(struct db *db, const char *workspace_id, unsigned keep,
                     struct hearth_failure *failure);
int rows_add_export(struct db *db, const struct row_export *row, struct hearth_failure *failure);
int rows_put_service_log(struct db *db, const struct row_service_log *row,
                         struct hearth_failure *failure);
int rows_clear_service_logs(struct db *db, const char *workspace_id,
                            struct hearth_failure *failure);
int rows_clear_exports(struct db *db, const char *workspace_id, struct hearth_failure *failure);
int rows_add_event(struct db *db, const struct row_event *row, struct hearth_failure *failure);
int rows_prune_events(struct db *db, const char *tenant_id, uint64_t until, int64_t before,
                      struct hearth_failure *failure);
