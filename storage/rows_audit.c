#include "storage/db_internal.h"

#define AUDIT_COLUMNS "at, tenant_id, token_id, request_id, operation, subject_id, outcome, intent"

int rows_add_audit(struct db *db, const struct row_audit *row, struct hearth_failure *failure)
{
    static const char sql[] =
        "INSERT INTO audit (" AUDIT_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_integer(statement, 1, row->at);
    bind_text(statement, 2, row->tenant_id);
    bind_text(statement, 3, row->token_id);
    bind_text(statement, 4, row->request_id);
    bind_text(statement, 5, row->operation);
    bind_text(statement, 6, row->subject_id);
    bind_text(statement, 7, row->outcome);
    bind_integer(statement, 8, (int64_t)row->intent);
    return db_run(db, statement, failure);
}

struct audit_visit {
    row_audit_visit visit;
    void *arg;
};

static int visit_audit(void *arg, sqlite3_stmt *columns)
{
    const struct audit_visit *visitor = arg;
    struct row_audit value = {0}, *row = &value;
    row->at = sqlite3_column_int64(columns, 0);
    row->tenant_id = column_text(columns, 1);
    row->token_id = column_text(columns, 2);
    row->request_id = column_text(columns, 3);
    row->operation = column_text(columns, 4);
    row->subject_id = column_text(columns, 5);
    row->outcome = column_text(columns, 6);
    row->intent = (uint64_t)sqlite3_column_int64(columns, 7);
    return visitor->visit(visitor->arg, row);
}

int rows_page_audit(struct db *db, const char *tenant_id, int64_t before, unsigned limit,
                    row_audit_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " AUDIT_COLUMNS
        " FROM audit WHERE tenant_id = ?1 AND at < ?2 ORDER BY at DESC, sequence DESC LIMIT ?3";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct audit_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, tenant_id);
    bind_integer(statement, 2, before);
    bind_integer(statement, 3, limit);
    return db_each(db, statement, visit_audit, &visitor, failure);
}

int rows_find_effect(struct db *db, uint64_t intent, row_audit_visit visit, void *arg,
                     struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " AUDIT_COLUMNS
        " FROM audit WHERE intent = ?1 AND intent <> 0 ORDER BY sequence DESC LIMIT 1";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct audit_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_integer(statement, 1, (int64_t)intent);
    return db_each(db, statement, visit_audit, &visitor, failure);
}
