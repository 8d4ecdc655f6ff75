#include "storage/db_internal.h"

/* Adds one and forgets those of the workspace before its newest EXPORTS_MAX. */
int rows_add_export(struct db *db, const struct row_export *row, struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db,
                   "INSERT INTO export (workspace_id, at, kind, path, entry_count, bytes)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                   failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->workspace_id);
    bind_integer(statement, 2, row->at);
    bind_text(statement, 3, row->kind);
    bind_text(statement, 4, row->path);
    bind_integer(statement, 5, (int64_t)row->entry_count);
    bind_integer(statement, 6, (int64_t)row->bytes);
    int error = db_run(db, statement, failure);
    if (error)
        return error;
    statement = db_prepare(db,
                           "DELETE FROM export WHERE workspace_id = ?1 AND export <= (SELECT export"
                           " FROM export WHERE workspace_id = ?1 ORDER BY export DESC"
                           " LIMIT 1 OFFSET ?2)",
                           failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->workspace_id);
    bind_integer(statement, 2, EXPORTS_MAX);
    return db_run(db, statement, failure);
}

int rows_clear_exports(struct db *db, const char *workspace_id, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, "DELETE FROM export WHERE workspace_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    return db_run(db, statement, failure);
}

struct export_visit {
    row_export_visit visit;
    void *arg;
};

static int visit_export(void *arg, sqlite3_stmt *columns)
{
    const struct export_visit *visitor = arg;
    struct row_export row = {.workspace_id = column_text(columns, 0),
                             .at = sqlite3_column_int64(columns, 1),
                             .kind = column_text(columns, 2),
                             .path = column_text(columns, 3),
                             .entry_count = (uint64_t)sqlite3_column_int64(columns, 4),
                             .bytes = (uint64_t)sqlite3_column_int64(columns, 5)};
    return visitor->visit(visitor->arg, &row);
}

int rows_latest_exports(struct db *db, const char *workspace_id, unsigned limit,
                        row_export_visit visit, void *arg, struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db,
                   "SELECT workspace_id, at, kind, path, entry_count, bytes FROM export"
                   " WHERE workspace_id = ?1 ORDER BY export DESC LIMIT ?2",
                   failure);
    struct export_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_integer(statement, 2, limit);
    return db_each(db, statement, visit_export, &visitor, failure);
}
