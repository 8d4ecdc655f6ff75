#include "storage/db_internal.h"

#define EVENT_COLUMNS "tenant_id, sequence, at, kind, workspace_id, facts"

int rows_add_event(struct db *db, const struct row_event *row, struct hearth_failure *failure)
{
    static const char sql[] =
        "INSERT INTO event (" EVENT_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->tenant_id);
    bind_integer(statement, 2, (int64_t)row->sequence);
    bind_integer(statement, 3, row->at);
    bind_text(statement, 4, row->kind);
    bind_text(statement, 5, row->workspace_id);
    bind_text(statement, 6, row->facts);
    return db_run(db, statement, failure);
}

int rows_prune_events(struct db *db, const char *tenant_id, uint64_t until, int64_t before,
                      struct hearth_failure *failure)
{
    static const char sql[] = "DELETE FROM event WHERE tenant_id = ?1 AND (sequence <= ?2 OR at < "
                              "?3)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, tenant_id);
    bind_integer(statement, 2, (int64_t)until);
    bind_integer(statement, 3, before);
    return db_run(db, statement, failure);
}

struct event_visit {
    row_event_visit visit;
    void *arg;
};

static int visit_event(void *arg, sqlite3_stmt *columns)
{
    const struct event_visit *visitor = arg;
    struct row_event row = {
        .tenant_id = column_text(columns, 0),
        .sequence = (uint64_t)sqlite3_column_int64(columns, 1),
        .at = sqlite3_column_int64(columns, 2),
        .kind = column_text(columns, 3),
        .workspace_id = column_text(columns, 4),
        .facts = column_text(columns, 5),
    };
    return visitor->visit(visitor->arg, &row);
}

int rows_page_events(struct db *db, const char *tenant_id, uint64_t after, unsigned limit,
                     row_event_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " EVENT_COLUMNS
        " FROM event WHERE tenant_id = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct event_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, tenant_id);
    bind_integer(statement, 2, (int64_t)after);
    bind_integer(statement, 3, limit);
    return db_each(db, statement, visit_event, &visitor, failure);
}

int rows_last_event(struct db *db, const char *tenant_id, row_event_visit visit, void *arg,
                    struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " EVENT_COLUMNS " FROM event WHERE tenant_id = ?1 ORDER BY sequence DESC LIMIT 1";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct event_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, tenant_id);
    return db_each(db, statement, visit_event, &visitor, failure);
}
