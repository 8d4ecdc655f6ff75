#include "base/text.h"
#include "storage/db_internal.h"

#include <stdlib.h>

#define LABELS_MAX 64 /* more than a workspace may have */

#define WORKSPACE_COLUMNS                                                                          \
    "workspace_id, tenant_id, kind, name, environment, environment_version, vcpu_count"            \
    ", mem_mib, disk_mib, ttl_us, network_policy, isolation, allow_host_compat, created_at"        \
    ", last_activity_at, state, failure_code, failure_detail, guest_id, seed_mode, seed_path"      \
    ", seed_destination, seed_entry_count, seed_bytes, command_count, exec_sequence"               \
    ", reset_count, last_reset_at, transport, suspended"

static int put_row(struct db *db, const struct row_workspace *row, struct hearth_failure *failure)
{
    static const char sql[] =
        "INSERT INTO workspace (" WORKSPACE_COLUMNS
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, "
        "?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30) ON CONFLICT "
        "(workspace_id) DO "
        "UPDATE SET "
        "tenant_id = excluded.tenant_id, kind = excluded.kind, name = excluded.name"
        ", environment = excluded.environment"
        ", environment_version = excluded.environment_version"
        ", vcpu_count = excluded.vcpu_count, mem_mib = excluded.mem_mib"
        ", disk_mib = excluded.disk_mib, ttl_us = excluded.ttl_us"
        ", network_policy = excluded.network_policy, isolation = excluded.isolation"
        ", allow_host_compat = excluded.allow_host_compat, created_at = excluded.created_at"
        ", last_activity_at = excluded.last_activity_at, state = excluded.state"
        ", failure_code = excluded.failure_code, failure_detail = excluded.failure_detail"
        ", guest_id = excluded.guest_id, seed_mode = excluded.seed_mode"
        ", seed_path = excluded.seed_path, seed_destination = excluded.seed_destination"
        ", seed_entry_count = excluded.seed_entry_count, seed_bytes = excluded.seed_bytes"
        ", command_count = excluded.command_count, exec_sequence = excluded.exec_sequence"
        ", reset_count = excluded.reset_count, last_reset_at = excluded.last_reset_at"
        ", transport = excluded.transport, suspended = excluded.suspended";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->workspace_id);
    bind_text(statement, 2, row->tenant_id);
    bind_text(statement, 3, row->kind);
    bind_text(statement, 4, row->name);
    bind_text(statement, 5, row->environment);
    bind_text(statement, 6, row->environment_version);
    bind_integer(statement, 7, row->vcpu_count);
    bind_integer(statement, 8, row->mem_mib);
    bind_integer(statement, 9, row->disk_mib);
    bind_integer(statement, 10, row->ttl_us);
    bind_text(statement, 11, row->network_policy);
    bind_text(statement, 12, row->isolation);
    bind_integer(statement, 13, row->allow_host_compat);
    bind_integer(statement, 14, row->created_at);
    bind_integer(statement, 15, row->last_activity_at);
    bind_text(statement, 16, row->state);
    bind_text(statement, 17, row->failure_code);
    bind_text(statement, 18, row->failure_detail);
    bind_text(statement, 19, row->guest_id);
    bind_text(statement, 20, row->seed_mode);
    bind_text(statement, 21, row->seed_path);
    bind_text(statement, 22, row->seed_destination);
    bind_integer(statement, 23, (int64_t)row->seed_entry_count);
    bind_integer(statement, 24, (int64_t)row->seed_bytes);
    bind_integer(statement, 25, (int64_t)row->command_count);
    bind_integer(statement, 26, (int64_t)row->exec_sequence);
    bind_integer(statement, 27, row->reset_count);
    bind_integer(statement, 28, row->last_reset_at);
    bind_text(statement, 29, row->transport);
    bind_integer(statement, 30, row->suspended);
    return db_run(db, statement, failure);
}

static int put_labels(struct db *db, const struct row_workspace *row,
                      struct hearth_failure *failure)
{
    sqlite3_stmt *clear =
        db_prepare(db, "DELETE FROM workspace_label WHERE workspace_id = ?1", failure);
    if (!clear)
        return db->error;
    bind_text(clear, 1, row->workspace_id);
    int error = db_run(db, clear, failure);
    for (size_t i = 0; !error && i < row->label_count; i++) {
        sqlite3_stmt *insert =
            db_prepare(db, "INSERT INTO workspace_label VALUES (?1, ?2, ?3)", failure);
        if (!insert)
            return db->error;
        bind_text(insert, 1, row->workspace_id);
        bind_text(insert, 2, row->labels[i].key);
        bind_text(insert, 3, row->labels[i].value);
        error = db_run(db, insert, failure);
    }
    return error;
}

int rows_put_workspace(struct db *db, const struct row_workspace *row,
                       struct hearth_failure *failure)
{
    int error = put_row(db, row, failure);
    return error ? error : put_labels(db, row, failure);
}

int rows_delete_workspace(struct db *db, const char *workspace_id, struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db, "DELETE FROM workspace WHERE workspace_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    return db_run(db, statement, failure);
}

int rows_touch_workspace(struct db *db, const char *workspace_id, int64_t at,
                         uint64_t command_count, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(
        db,
        "UPDATE workspace SET last_activity_at = ?2, command_count = ?3 WHERE workspace_id = ?1",
        failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_integer(statement, 2, at);
    bind_integer(statement, 3, (int64_t)command_count);
    return db_run(db, statement, failure);
}

struct label_rows {
    struct row_label *labels;
    size_t count;
    struct hearth_failure *failure;
};

static int keep_label(void *arg, sqlite3_stmt *columns)
{
    struct label_rows *found = arg;
    if (found->count == LABELS_MAX)
        return 0;
    struct row_label label = {text_copy(column_text(columns, 0)),
                              text_copy(column_text(columns, 1))};
    found->labels[found->count++] = label;
    if (label.key && label.value)
        return 0;
    return hearth_fail(found->failure, HEARTH_ENOMEMORY, NULL, "out of memory for labels");
}

struct workspace_visit {
    struct db *db;
    struct hearth_failure *failure;
    row_workspace_visit visit;
    void *arg;
};

static int visit_workspace(void *arg, sqlite3_stmt *columns)
{
    const struct workspace_visit *visitor = arg;
    struct row_workspace value = {0}, *row = &value;
    row->workspace_id = column_text(columns, 0);
    row->tenant_id = column_text(columns, 1);
    row->kind = column_text(columns, 2);
    row->name = column_text(columns, 3);
    row->environment = column_text(columns, 4);
    row->environment_version = column_text(columns, 5);
    row->vcpu_count = (uint32_t)sqlite3_column_int64(columns, 6);
    row->mem_mib = (uint32_t)sqlite3_column_int64(columns, 7);
    row->disk_mib = (uint32_t)sqlite3_column_int64(columns, 8);
    row->ttl_us = sqlite3_column_int64(columns, 9);
    row->network_policy = column_text(columns, 10);
    row->isolation = column_text(columns, 11);
    row->allow_host_compat = sqlite3_column_int(columns, 12) != 0;
    row->created_at = sqlite3_column_int64(columns, 13);
    row->last_activity_at = sqlite3_column_int64(columns, 14);
    row->state = column_text(columns, 15);
    row->failure_code = column_text(columns, 16);
    row->failure_detail = column_text(columns, 17);
    row->guest_id = column_text(columns, 18);
    row->seed_mode = column_text(columns, 19);
    row->seed_path = column_text(columns, 20);
    row->seed_destination = column_text(columns, 21);
    row->seed_entry_count = (uint64_t)sqlite3_column_int64(columns, 22);
    row->seed_bytes = (uint64_t)sqlite3_column_int64(columns, 23);
    row->command_count = (uint64_t)sqlite3_column_int64(columns, 24);
    row->exec_sequence = (uint64_t)sqlite3_column_int64(columns, 25);
    row->reset_count = (uint32_t)sqlite3_column_int64(columns, 26);
    row->last_reset_at = sqlite3_column_int64(columns, 27);
    row->transport = column_text(columns, 28);
    row->suspended = sqlite3_column_int(columns, 29) != 0;
    struct row_label labels[LABELS_MAX];
    struct label_rows found = {.labels = labels, .failure = visitor->failure};
    sqlite3_stmt *statement = db_prepare(
        visitor->db, "SELECT key, value FROM workspace_label WHERE workspace_id = ?1 ORDER BY key",
        visitor->failure);
    if (!statement)
        return visitor->db->error;
    bind_text(statement, 1, row->workspace_id);
    int error = db_each(visitor->db, statement, keep_label, &found, visitor->failure);
    row->labels = labels;
    row->label_count = found.count;
    if (!error)
        error = visitor->visit(visitor->arg, row);
    for (size_t i = 0; i < found.count; i++) {
        free((char *)(uintptr_t)labels[i].key);
        free((char *)(uintptr_t)labels[i].value);
    }
    return error;
}

int rows_each_workspace(struct db *db, row_workspace_visit visit, void *arg,
                        struct hearth_failure *failure)
{
    /* The reverse of a list's order, so that each is put first in its tenant's. */
    static const char sql[] =
        "SELECT " WORKSPACE_COLUMNS
        " FROM workspace ORDER BY last_activity_at, created_at, workspace_id DESC";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct workspace_visit visitor = {db, failure, visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_workspace, &visitor, failure);
}
