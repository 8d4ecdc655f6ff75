#include "storage/db_internal.h"

#define EVENT_COLUMNS "at, tenant_id, kind, workspace_id, data"

int rows_add_event(struct db *db, const struct row_event *row, struct hearth_failure *failure)
{
    static const char sql[] = "INSERT INTO event (" EVENT_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_integer(statement, 1, row->at);
    bind_text(statement, 2, row->tenant_id);
    bind_text(statement, 3, row->kind);
    bind_text(statement, 4, row->workspace_id);
    bind_text(statement, 5, row->data);
    return db_run(db, statement, failure);
}

struct event_visit {
    row_event_visit visit;
    void *arg;
};

static int visit_event(void *arg, sqlite3_stmt *columns)
{
    const struct event_visit *visitor = arg;
    struct row_event value = {0}, *row = &value;
    row->at = sqlite3_column_int64(columns, 0);
    row->tenant_id = column_text(columns, 1);
    row->kind = column_text(columns, 2);
    row->workspace_id = column_text(columns, 3);
    row->data = column_text(columns, 4);
    row->sequence = (uint64_t)sqlite3_column_int64(columns, 5);
    return visitor->visit(visitor->arg, row);
}

int rows_page_events(struct db *db, const char *tenant_id, uint64_t after, unsigned limit,
                     row_event_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " EVENT_COLUMNS
        ", sequence FROM event WHERE tenant_id = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct event_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, tenant_id);
    bind_integer(statement, 2, (int64_t)after);
    bind_integer(statement, 3, limit);
    return db_each(db, statement, visit_event, &visitor, failure);
}
