#include "storage/db_internal.h"

#define OPERATION_COLUMNS                                                                          \
    "operation_id, tenant_id, subject_id, kind, request, step, undoing, created_at"

int rows_put_operation(struct db *db, const struct row_operation *row,
                       struct hearth_failure *failure)
{
    static const char sql[] =
        "REPLACE INTO operation (" OPERATION_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->operation_id);
    bind_text(statement, 2, row->tenant_id);
    bind_text(statement, 3, row->subject_id);
    bind_text(statement, 4, row->kind);
    bind_text(statement, 5, row->request);
    bind_integer(statement, 6, row->step);
    bind_integer(statement, 7, row->undoing);
    bind_integer(statement, 8, row->created_at);
    return db_run(db, statement, failure);
}

int rows_delete_operation(struct db *db, const char *operation_id, struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db, "DELETE FROM operation WHERE operation_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, operation_id);
    return db_run(db, statement, failure);
}

struct operation_visit {
    row_operation_visit visit;
    void *arg;
};

static int visit_operation(void *arg, sqlite3_stmt *columns)
{
    const struct operation_visit *visitor = arg;
    struct row_operation value = {0}, *row = &value;
    row->operation_id = column_text(columns, 0);
    row->tenant_id = column_text(columns, 1);
    row->subject_id = column_text(columns, 2);
    row->kind = column_text(columns, 3);
    row->request = column_text(columns, 4);
    row->step = (uint32_t)sqlite3_column_int64(columns, 5);
    row->undoing = sqlite3_column_int(columns, 6) != 0;
    row->created_at = sqlite3_column_int64(columns, 7);
    return visitor->visit(visitor->arg, row);
}

int rows_each_operation(struct db *db, row_operation_visit visit, void *arg,
                        struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " OPERATION_COLUMNS " FROM operation ORDER BY created_at, operation_id";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct operation_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_operation, &visitor, failure);
}
