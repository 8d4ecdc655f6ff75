#include "storage/db_internal.h"

int rows_put_service_log(struct db *db, const struct row_service_log *row,
                         struct hearth_failure *failure)
{
    static const char sql[] =
        "REPLACE INTO service_log (workspace_id, name, instance, stdout_from, stdout, stderr_from,"
        " stderr) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->workspace_id);
    bind_text(statement, 2, row->name);
    bind_text(statement, 3, row->instance);
    bind_integer(statement, 4, (int64_t)row->output.from);
    bind_blob(statement, 5, row->output.data, row->output.length);
    bind_integer(statement, 6, (int64_t)row->errors.from);
    bind_blob(statement, 7, row->errors.data, row->errors.length);
    return db_run(db, statement, failure);
}

int rows_clear_service_logs(struct db *db, const char *workspace_id, struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db, "DELETE FROM service_log WHERE workspace_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    return db_run(db, statement, failure);
}

struct service_log_visit {
    row_service_log_visit visit;
    void *arg;
};

static int visit_service_log(void *arg, sqlite3_stmt *columns)
{
    const struct service_log_visit *visitor = arg;
    const struct row_service_log row = {
        .workspace_id = column_text(columns, 0),
        .name = column_text(columns, 1),
        .instance = column_text(columns, 2),
        .output = {.from = (uint64_t)sqlite3_column_int64(columns, 3),
                   .data = sqlite3_column_blob(columns, 4),
                   .length = (size_t)sqlite3_column_bytes(columns, 4)},
        .errors = {.from = (uint64_t)sqlite3_column_int64(columns, 5),
                   .data = sqlite3_column_blob(columns, 6),
                   .length = (size_t)sqlite3_column_bytes(columns, 6)},
    };
    return visitor->visit(visitor->arg, &row);
}

int rows_find_service_log(struct db *db, const char *workspace_id, const char *instance,
                          row_service_log_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT workspace_id, name, instance, stdout_from, stdout, stderr_from, stderr "
        "FROM service_log WHERE workspace_id = ?1 AND instance = ?2";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct service_log_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_text(statement, 2, instance);
    return db_each(db, statement, visit_service_log, &visitor, failure);
}
