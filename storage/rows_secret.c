#include "storage/db_internal.h"

int rows_put_secret(struct db *db, const struct row_secret *row, struct hearth_failure *failure)
{
    /* A workspace that was deleted meanwhile takes none any more. */
    static const char sql[] =
        "REPLACE INTO secret (workspace_id, name, source_kind, sealed) SELECT ?1, ?2, ?3, ?4 "
        "WHERE EXISTS (SELECT 1 FROM workspace WHERE workspace_id = ?1)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->workspace_id);
    bind_text(statement, 2, row->name);
    bind_text(statement, 3, row->source_kind);
    bind_blob(statement, 4, row->sealed, row->sealed_length);
    return db_run(db, statement, failure);
}

struct secret_visit {
    row_secret_visit visit;
    void *arg;
};

static int visit_secret(void *arg, sqlite3_stmt *columns)
{
    const struct secret_visit *visitor = arg;
    const struct row_secret row = {
        .workspace_id = column_text(columns, 0),
        .name = column_text(columns, 1),
        .source_kind = column_text(columns, 2),
        .sealed = sqlite3_column_blob(columns, 3),
        .sealed_length = (size_t)sqlite3_column_bytes(columns, 3),
    };
    return visitor->visit(visitor->arg, &row);
}

int rows_each_secret(struct db *db, row_secret_visit visit, void *arg,
                     struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT workspace_id, name, source_kind, sealed FROM secret ORDER BY workspace_id, name";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct secret_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_secret, &visitor, failure);
}

static int take_count(void *arg, sqlite3_stmt *columns)
{
    *(size_t *)arg = (size_t)sqlite3_column_int64(columns, 0);
    return 0;
}

int rows_count_secrets(struct db *db, const char *beginning, size_t *ret_count,
                       struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT count(*) FROM (SELECT workspace_id, sealed FROM secret UNION ALL "
        "SELECT workspace_id, state_key FROM guest WHERE state_key IS NOT NULL) "
        "JOIN workspace USING (workspace_id) "
        "WHERE hex(substr(sealed, 1, length(?1) / 2)) = upper(?1) AND state <> 'deleting'";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, beginning);
    return db_each(db, statement, take_count, ret_count, failure);
}
