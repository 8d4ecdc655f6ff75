#include "storage/db_internal.h"

#include <string.h>

#define TENANT_COLUMNS                                                                             \
    "tenant_id, name, created_at, max_workspaces, max_running_execs, max_mem_mib"                  \
    ", retention_us, host_roots, max_kept_upload_bytes, network"

#define TOKEN_COLUMNS "token_id, tenant_id, hash, rights, note, created_at, expires_at, revoked_at"

int rows_put_tenant(struct db *db, const struct row_tenant *row, struct hearth_failure *failure)
{
    static const char sql[] =
        "INSERT INTO tenant (" TENANT_COLUMNS
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (tenant_id) DO UPDATE SET "
        "name = excluded.name, created_at = excluded.created_at"
        ", max_workspaces = excluded.max_workspaces"
        ", max_running_execs = excluded.max_running_execs"
        ", max_mem_mib = excluded.max_mem_mib, retention_us = excluded.retention_us"
        ", host_roots = excluded.host_roots"
        ", max_kept_upload_bytes = excluded.max_kept_upload_bytes"
        ", network = excluded.network";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->tenant_id);
    bind_text(statement, 2, row->name);
    bind_integer(statement, 3, row->created_at);
    bind_integer(statement, 4, row->max_workspaces);
    bind_integer(statement, 5, row->max_running_execs);
    bind_integer(statement, 6, (int64_t)row->max_mem_mib);
    bind_integer(statement, 7, row->retention_us);
    bind_text(statement, 8, row->host_roots);
    bind_integer(statement, 9, (int64_t)row->max_kept_upload_bytes);
    bind_text(statement, 10, row->network);
    return db_run(db, statement, failure);
}

int rows_set_tenant(struct db *db, const struct row_tenant *row, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db,
                                         "UPDATE tenant SET host_roots = coalesce(?2, host_roots)"
                                         ", network = coalesce(?3, network) WHERE tenant_id = ?1",
                                         failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->tenant_id);
    bind_text(statement, 2, row->host_roots);
    bind_text(statement, 3, row->network);
    return db_run(db, statement, failure);
}

int rows_put_token(struct db *db, const struct row_token *row, struct hearth_failure *failure)
{
    static const char sql[] =
        "REPLACE INTO token (" TOKEN_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->token_id);
    bind_text(statement, 2, row->tenant_id);
    bind_blob(statement, 3, row->hash, sizeof row->hash);
    bind_integer(statement, 4, row->rights);
    bind_text(statement, 5, row->note);
    bind_integer(statement, 6, row->created_at);
    bind_integer(statement, 7, row->expires_at);
    bind_integer(statement, 8, row->revoked_at);
    return db_run(db, statement, failure);
}

int rows_revoke_token(struct db *db, const char *token_id, int64_t at,
                      struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db, "UPDATE token SET revoked_at = ?2 WHERE token_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, token_id);
    bind_integer(statement, 2, at);
    return db_run(db, statement, failure);
}

static void column_hash(sqlite3_stmt *columns, int index, unsigned char out[32])
{
    if (sqlite3_column_bytes(columns, index) == 32)
        memcpy(out, sqlite3_column_blob(columns, index), 32);
}

struct tenant_visit {
    row_tenant_visit visit;
    void *arg;
};

static int visit_tenant(void *arg, sqlite3_stmt *columns)
{
    const struct tenant_visit *visitor = arg;
    struct row_tenant value = {0}, *row = &value;
    row->tenant_id = column_text(columns, 0);
    row->name = column_text(columns, 1);
    row->created_at = sqlite3_column_int64(columns, 2);
    row->max_workspaces = (uint32_t)sqlite3_column_int64(columns, 3);
    row->max_running_execs = (uint32_t)sqlite3_column_int64(columns, 4);
    row->max_mem_mib = (uint64_t)sqlite3_column_int64(columns, 5);
    row->max_kept_upload_bytes = (uint64_t)sqlite3_column_int64(columns, 8);
    row->retention_us = sqlite3_column_int64(columns, 6);
    row->host_roots = column_text(columns, 7);
    row->network = column_text(columns, 9);
    return visitor->visit(visitor->arg, row);
}

struct token_visit {
    row_token_visit visit;
    void *arg;
};

static int visit_token(void *arg, sqlite3_stmt *columns)
{
    const struct token_visit *visitor = arg;
    struct row_token value = {0}, *row = &value;
    row->token_id = column_text(columns, 0);
    row->tenant_id = column_text(columns, 1);
    column_hash(columns, 2, row->hash);
    row->rights = (uint32_t)sqlite3_column_int64(columns, 3);
    row->note = column_text(columns, 4);
    row->created_at = sqlite3_column_int64(columns, 5);
    row->expires_at = sqlite3_column_int64(columns, 6);
    row->revoked_at = sqlite3_column_int64(columns, 7);
    return visitor->visit(visitor->arg, row);
}

int rows_each_tenant(struct db *db, row_tenant_visit visit, void *arg,
                     struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " TENANT_COLUMNS " FROM tenant ORDER BY created_at, tenant_id";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct tenant_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_tenant, &visitor, failure);
}

int rows_each_token(struct db *db, row_token_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] = "SELECT " TOKEN_COLUMNS " FROM token ORDER BY created_at, token_id";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct token_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_token, &visitor, failure);
}
