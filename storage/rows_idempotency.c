#include "storage/db_internal.h"

#include <string.h>

#define IDEMPOTENCY_COLUMNS                                                                        \
    "tenant_id, key, fingerprint, status, content_type, body, created_at, intent, content_hash"

int rows_put_idempotency(struct db *db, const struct row_idempotency *row,
                         struct hearth_failure *failure)
{
    static const char sql[] = "REPLACE INTO idempotency (" IDEMPOTENCY_COLUMNS
                              ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->tenant_id);
    bind_text(statement, 2, row->key);
    bind_blob(statement, 3, row->fingerprint, sizeof row->fingerprint);
    bind_integer(statement, 4, row->status);
    bind_text(statement, 5, row->content_type);
    bind_blob(statement, 6, row->body, row->body_length);
    bind_integer(statement, 7, row->created_at);
    bind_integer(statement, 8, (int64_t)row->intent);
    if (row->has_content)
        bind_blob(statement, 9, row->content_hash, sizeof row->content_hash);
    return db_run(db, statement, failure);
}

int rows_delete_idempotency(struct db *db, const struct row_idempotency *row,
                            struct hearth_failure *failure)
{
    static const char sql[] =
        "DELETE FROM idempotency WHERE tenant_id = ?1 AND key = ?2 AND intent = ?3";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->tenant_id);
    bind_text(statement, 2, row->key);
    bind_integer(statement, 3, (int64_t)row->intent);
    return db_run(db, statement, failure);
}

int rows_prune_idempotency(struct db *db, int64_t before, struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db, "DELETE FROM idempotency WHERE created_at < ?1", failure);
    if (!statement)
        return db->error;
    bind_integer(statement, 1, before);
    return db_run(db, statement, failure);
}

static void column_hash(sqlite3_stmt *columns, int index, unsigned char out[32])
{
    if (sqlite3_column_bytes(columns, index) == 32)
        memcpy(out, sqlite3_column_blob(columns, index), 32);
}

struct idempotency_visit {
    row_idempotency_visit visit;
    void *arg;
};

static int visit_idempotency(void *arg, sqlite3_stmt *columns)
{
    const struct idempotency_visit *visitor = arg;
    struct row_idempotency value = {0}, *row = &value;
    row->tenant_id = column_text(columns, 0);
    row->key = column_text(columns, 1);
    column_hash(columns, 2, row->fingerprint);
    row->status = sqlite3_column_int(columns, 3);
    row->content_type = column_text(columns, 4);
    row->body = sqlite3_column_blob(columns, 5);
    row->body_length = (size_t)sqlite3_column_bytes(columns, 5);
    row->created_at = sqlite3_column_int64(columns, 6);
    row->intent = (uint64_t)sqlite3_column_int64(columns, 7);
    row->has_content = sqlite3_column_type(columns, 8) != SQLITE_NULL;
    column_hash(columns, 8, row->content_hash);
    return visitor->visit(visitor->arg, row);
}

int rows_find_idempotency(struct db *db, const char *tenant_id, const char *key,
                          row_idempotency_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " IDEMPOTENCY_COLUMNS " FROM idempotency WHERE tenant_id = ?1 AND key = ?2";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct idempotency_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, tenant_id);
    bind_text(statement, 2, key);
    return db_each(db, statement, visit_idempotency, &visitor, failure);
}
