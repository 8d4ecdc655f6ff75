#include "storage/db_internal.h"

#include <string.h>

#define SNAPSHOT_COLUMNS "workspace_id, name, tenant_id, kind, root, entry_count, bytes, created_at"

int rows_put_snapshot(struct db *db, const struct row_snapshot *row, struct hearth_failure *failure)
{
    static const char sql[] =
        "REPLACE INTO snapshot (" SNAPSHOT_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->workspace_id);
    bind_text(statement, 2, row->name);
    bind_text(statement, 3, row->tenant_id);
    bind_text(statement, 4, row->kind);
    bind_blob(statement, 5, row->root, row->has_root ? sizeof row->root : 0);
    bind_integer(statement, 6, (int64_t)row->entry_count);
    bind_integer(statement, 7, (int64_t)row->bytes);
    bind_integer(statement, 8, row->created_at);
    return db_run(db, statement, failure);
}

int rows_delete_snapshot(struct db *db, const char *workspace_id, const char *name,
                         struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db, "DELETE FROM snapshot WHERE workspace_id = ?1 AND name = ?2", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_text(statement, 2, name);
    return db_run(db, statement, failure);
}

struct snapshot_visit {
    row_snapshot_visit visit;
    void *arg;
};

static int visit_snapshot(void *arg, sqlite3_stmt *columns)
{
    const struct snapshot_visit *visitor = arg;
    struct row_snapshot row = {
        .workspace_id = column_text(columns, 0),
        .name = column_text(columns, 1),
        .tenant_id = column_text(columns, 2),
        .kind = column_text(columns, 3),
        .entry_count = (uint64_t)sqlite3_column_int64(columns, 5),
        .bytes = (uint64_t)sqlite3_column_int64(columns, 6),
        .created_at = sqlite3_column_int64(columns, 7),
    };
    const void *root = sqlite3_column_blob(columns, 4);
    row.has_root = root && sqlite3_column_bytes(columns, 4) == (int)sizeof row.root;
    if (row.has_root)
        memcpy(row.root, root, sizeof row.root);
    return visitor->visit(visitor->arg, &row);
}

int rows_each_snapshot(struct db *db, row_snapshot_visit visit, void *arg,
                       struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " SNAPSHOT_COLUMNS " FROM snapshot ORDER BY created_at, workspace_id, name";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct snapshot_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_snapshot, &visitor, failure);
}
