#include "storage/db_internal.h"

#define UPLOAD_COLUMNS                                                                             \
    "upload_id, tenant_id, size_bytes, entry_count, content_bytes, sha256, compression"            \
    ", created_at, last_used_at"

int rows_put_upload(struct db *db, const struct row_upload *row, struct hearth_failure *failure)
{
    static const char sql[] =
        "REPLACE INTO upload (" UPLOAD_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->upload_id);
    bind_text(statement, 2, row->tenant_id);
    bind_integer(statement, 3, (int64_t)row->size_bytes);
    bind_integer(statement, 4, (int64_t)row->entry_count);
    bind_integer(statement, 5, (int64_t)row->content_bytes);
    bind_text(statement, 6, row->sha256);
    bind_text(statement, 7, row->compression);
    bind_integer(statement, 8, row->created_at);
    bind_integer(statement, 9, row->last_used_at);
    return db_run(db, statement, failure);
}

int rows_delete_upload(struct db *db, const char *upload_id, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, "DELETE FROM upload WHERE upload_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, upload_id);
    return db_run(db, statement, failure);
}

struct upload_visit {
    row_upload_visit visit;
    void *arg;
};

static int visit_upload(void *arg, sqlite3_stmt *columns)
{
    const struct upload_visit *visitor = arg;
    struct row_upload value = {0}, *row = &value;
    row->upload_id = column_text(columns, 0);
    row->tenant_id = column_text(columns, 1);
    row->size_bytes = (uint64_t)sqlite3_column_int64(columns, 2);
    row->entry_count = (uint64_t)sqlite3_column_int64(columns, 3);
    row->content_bytes = (uint64_t)sqlite3_column_int64(columns, 4);
    row->sha256 = column_text(columns, 5);
    row->compression = column_text(columns, 6);
    row->created_at = sqlite3_column_int64(columns, 7);
    row->last_used_at = sqlite3_column_int64(columns, 8);
    return visitor->visit(visitor->arg, row);
}

int rows_each_upload(struct db *db, row_upload_visit visit, void *arg,
                     struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " UPLOAD_COLUMNS " FROM upload ORDER BY created_at, upload_id";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct upload_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_upload, &visitor, failure);
}
