#include "storage/db_internal.h"

#define GUEST_COLUMNS                                                                              \
    "guest_id, guest_index, workspace_id, tenant_id, driver, environment_version"                  \
    ", driver_state, created_at, state_key"

int rows_put_guest(struct db *db, const struct row_guest *row, struct hearth_failure *failure)
{
    static const char sql[] =
        "REPLACE INTO guest (" GUEST_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->guest_id);
    bind_integer(statement, 2, row->guest_index);
    bind_text(statement, 3, row->workspace_id);
    bind_text(statement, 4, row->tenant_id);
    bind_text(statement, 5, row->driver);
    bind_text(statement, 6, row->environment_version);
    bind_text(statement, 7, row->driver_state);
    bind_integer(statement, 8, row->created_at);
    if (row->state_key)
        bind_blob(statement, 9, row->state_key, row->state_key_length);
    return db_run(db, statement, failure);
}

int rows_delete_guest(struct db *db, const char *guest_id, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, "DELETE FROM guest WHERE guest_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, guest_id);
    return db_run(db, statement, failure);
}

int rows_delete_guests_of(struct db *db, const char *workspace_id, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, "DELETE FROM guest WHERE workspace_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    return db_run(db, statement, failure);
}

struct guest_visit {
    row_guest_visit visit;
    void *arg;
};

static int visit_guest(void *arg, sqlite3_stmt *columns)
{
    const struct guest_visit *visitor = arg;
    struct row_guest value = {0}, *row = &value;
    row->guest_id = column_text(columns, 0);
    row->guest_index = (uint32_t)sqlite3_column_int64(columns, 1);
    row->workspace_id = column_text(columns, 2);
    row->tenant_id = column_text(columns, 3);
    row->driver = column_text(columns, 4);
    row->environment_version = column_text(columns, 5);
    row->driver_state = column_text(columns, 6);
    row->created_at = sqlite3_column_int64(columns, 7);
    row->state_key = sqlite3_column_blob(columns, 8);
    row->state_key_length = (size_t)sqlite3_column_bytes(columns, 8);
    return visitor->visit(visitor->arg, row);
}

int rows_each_guest(struct db *db, row_guest_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] = "SELECT " GUEST_COLUMNS " FROM guest ORDER BY created_at, guest_id";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct guest_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_guest, &visitor, failure);
}
