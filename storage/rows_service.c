#include "storage/db_internal.h"

#define SERVICE_COLUMNS                                                                            \
    "workspace_id, name, instance, command, cwd, execution_mode, readiness, target, restart"       \
    ", state, stop_reason, started_at, ready_at, ended_at, has_exit, exit_code, pid, restarts"     \
    ", ports"

int rows_put_service(struct db *db, const struct row_service *row, struct hearth_failure *failure)
{
    /* A workspace that was deleted meanwhile takes no services any more. */
    static const char sql[] =
        "REPLACE INTO service (" SERVICE_COLUMNS ") SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10"
        ", ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19 WHERE EXISTS "
        "(SELECT 1 FROM workspace WHERE workspace_id = ?1)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    const char *texts[] = {row->workspace_id, row->name,           row->instance,   row->command,
                           row->cwd,          row->execution_mode, row->readiness,  row->target,
                           row->restart,      row->state,          row->stop_reason};
    int column = 1;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        bind_text(statement, column++, texts[i]);
    bind_integer(statement, column++, row->started_at);
    bind_integer(statement, column++, row->ready_at);
    bind_integer(statement, column++, row->ended_at);
    bind_integer(statement, column++, row->has_exit);
    bind_integer(statement, column++, row->exit_code);
    bind_integer(statement, column++, row->pid);
    bind_integer(statement, column++, row->restarts);
    bind_text(statement, column++, row->ports ? row->ports : "");
    return db_run(db, statement, failure);
}

int rows_delete_service(struct db *db, const char *workspace_id, const char *name,
                        struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db, "DELETE FROM service WHERE workspace_id = ?1 AND name = ?2", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_text(statement, 2, name);
    return db_run(db, statement, failure);
}

struct service_visit {
    row_service_visit visit;
    void *arg;
};

static int visit_service(void *arg, sqlite3_stmt *columns)
{
    const struct service_visit *visitor = arg;
    struct row_service row = {
        .workspace_id = column_text(columns, 0),
        .name = column_text(columns, 1),
        .instance = column_text(columns, 2),
        .command = column_text(columns, 3),
        .cwd = column_text(columns, 4),
        .execution_mode = column_text(columns, 5),
        .readiness = column_text(columns, 6),
        .target = column_text(columns, 7),
        .restart = column_text(columns, 8),
        .state = column_text(columns, 9),
        .stop_reason = column_text(columns, 10),
        .started_at = sqlite3_column_int64(columns, 11),
        .ready_at = sqlite3_column_int64(columns, 12),
        .ended_at = sqlite3_column_int64(columns, 13),
        .has_exit = sqlite3_column_int(columns, 14) != 0,
        .exit_code = sqlite3_column_int(columns, 15),
        .pid = (uint32_t)sqlite3_column_int64(columns, 16),
        .restarts = (uint32_t)sqlite3_column_int64(columns, 17),
        .ports = column_text(columns, 18),
    };
    return visitor->visit(visitor->arg, &row);
}

int rows_each_service(struct db *db, row_service_visit visit, void *arg,
                      struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " SERVICE_COLUMNS " FROM service ORDER BY workspace_id, started_at, name";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct service_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_service, &visitor, failure);
}
