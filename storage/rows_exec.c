#include "storage/db_internal.h"

#define EXEC_COLUMNS                                                                               \
    "exec_id, workspace_id, tenant_id, sequence, command, cwd, state, execution_mode, problem"     \
    ", started, timed_out, cancelled, drained, truncated, signalled, exit_code, signal"            \
    ", started_at, ended_at, duration_us, stdout_bytes, stderr_bytes, stdout_data"                 \
    ", stderr_data"

int rows_put_exec(struct db *db, const struct row_exec *row, struct hearth_failure *failure)
{
    static const char sql[] = "REPLACE INTO exec (" EXEC_COLUMNS
                              ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, "
                              "?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, row->exec_id);
    bind_text(statement, 2, row->workspace_id);
    bind_text(statement, 3, row->tenant_id);
    bind_integer(statement, 4, (int64_t)row->sequence);
    bind_text(statement, 5, row->command);
    bind_text(statement, 6, row->cwd);
    bind_text(statement, 7, row->state);
    bind_text(statement, 8, row->execution_mode);
    bind_text(statement, 9, row->problem);
    bind_integer(statement, 10, row->started);
    bind_integer(statement, 11, row->timed_out);
    bind_integer(statement, 12, row->cancelled);
    bind_integer(statement, 13, row->drained);
    bind_integer(statement, 14, row->truncated);
    bind_integer(statement, 15, row->signalled);
    bind_integer(statement, 16, row->exit_code);
    bind_integer(statement, 17, row->signal);
    bind_integer(statement, 18, row->started_at);
    bind_integer(statement, 19, row->ended_at);
    bind_integer(statement, 20, row->duration_us);
    bind_integer(statement, 21, (int64_t)row->stdout_bytes);
    bind_integer(statement, 22, (int64_t)row->stderr_bytes);
    bind_blob(statement, 23, row->stdout_data, row->stdout_length);
    bind_blob(statement, 24, row->stderr_data, row->stderr_length);
    return db_run(db, statement, failure);
}

int rows_clear_execs(struct db *db, const char *workspace_id, struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(db, "DELETE FROM exec WHERE workspace_id = ?1", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    return db_run(db, statement, failure);
}

int rows_clear_execs_before(struct db *db, const char *workspace_id, int64_t at,
                            struct hearth_failure *failure)
{
    sqlite3_stmt *statement =
        db_prepare(db, "DELETE FROM exec WHERE workspace_id = ?1 AND started_at < ?2", failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_integer(statement, 2, at);
    return db_run(db, statement, failure);
}

int rows_prune_execs(struct db *db, const char *workspace_id, unsigned keep,
                     struct hearth_failure *failure)
{
    sqlite3_stmt *statement = db_prepare(
        db,
        "DELETE FROM exec WHERE workspace_id = ?1 AND state <> 'running' AND sequence <= "
        "(SELECT max(sequence) FROM exec WHERE workspace_id = ?1) - ?2",
        failure);
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_integer(statement, 2, keep);
    return db_run(db, statement, failure);
}

struct exec_visit {
    row_exec_visit visit;
    void *arg;
};

static int visit_exec(void *arg, sqlite3_stmt *columns)
{
    const struct exec_visit *visitor = arg;
    struct row_exec value = {0}, *row = &value;
    row->exec_id = column_text(columns, 0);
    row->workspace_id = column_text(columns, 1);
    row->tenant_id = column_text(columns, 2);
    row->sequence = (uint64_t)sqlite3_column_int64(columns, 3);
    row->command = column_text(columns, 4);
    row->cwd = column_text(columns, 5);
    row->state = column_text(columns, 6);
    row->execution_mode = column_text(columns, 7);
    row->problem = column_text(columns, 8);
    row->started = sqlite3_column_int(columns, 9) != 0;
    row->timed_out = sqlite3_column_int(columns, 10) != 0;
    row->cancelled = sqlite3_column_int(columns, 11) != 0;
    row->drained = sqlite3_column_int(columns, 12) != 0;
    row->truncated = sqlite3_column_int(columns, 13) != 0;
    row->signalled = sqlite3_column_int(columns, 14) != 0;
    row->exit_code = sqlite3_column_int(columns, 15);
    row->signal = sqlite3_column_int(columns, 16);
    row->started_at = sqlite3_column_int64(columns, 17);
    row->ended_at = sqlite3_column_int64(columns, 18);
    row->duration_us = sqlite3_column_int64(columns, 19);
    row->stdout_bytes = (uint64_t)sqlite3_column_int64(columns, 20);
    row->stderr_bytes = (uint64_t)sqlite3_column_int64(columns, 21);
    row->stdout_data = sqlite3_column_blob(columns, 22);
    row->stdout_length = (size_t)sqlite3_column_bytes(columns, 22);
    row->stderr_data = sqlite3_column_blob(columns, 23);
    row->stderr_length = (size_t)sqlite3_column_bytes(columns, 23);
    return visitor->visit(visitor->arg, row);
}

int rows_find_exec(struct db *db, const char *workspace_id, const char *exec_id,
                   row_exec_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " EXEC_COLUMNS " FROM exec WHERE exec_id = ?2 AND workspace_id = ?1";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct exec_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_text(statement, 2, exec_id);
    return db_each(db, statement, visit_exec, &visitor, failure);
}

int rows_page_execs(struct db *db, const char *workspace_id, uint64_t after, unsigned limit,
                    row_exec_visit visit, void *arg, struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " EXEC_COLUMNS
        " FROM exec WHERE workspace_id = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct exec_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_integer(statement, 2, (int64_t)after);
    bind_integer(statement, 3, limit);
    return db_each(db, statement, visit_exec, &visitor, failure);
}

int rows_last_exec(struct db *db, const char *workspace_id, row_exec_visit visit, void *arg,
                   struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " EXEC_COLUMNS
        " FROM exec WHERE workspace_id = ?1 AND state <> 'running' ORDER BY sequence DESC LIMIT 1";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct exec_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    return db_each(db, statement, visit_exec, &visitor, failure);
}

int rows_latest_execs(struct db *db, const char *workspace_id, unsigned limit, row_exec_visit visit,
                      void *arg, struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT exec_id, workspace_id, tenant_id, sequence, command, cwd, state, execution_mode"
        ", problem, started, timed_out, cancelled, drained, truncated, signalled, exit_code, signal"
        ", started_at, ended_at, duration_us, stdout_bytes, stderr_bytes, NULL, NULL FROM exec"
        " WHERE workspace_id = ?1 AND state <> 'running' ORDER BY sequence DESC LIMIT ?2";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct exec_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    bind_integer(statement, 2, limit);
    return db_each(db, statement, visit_exec, &visitor, failure);
}

static int keep_totals(void *arg, sqlite3_stmt *columns)
{
    struct row_exec_totals *totals = arg;
    *totals = (struct row_exec_totals){
        .ended = (uint64_t)sqlite3_column_int64(columns, 0),
        .succeeded = (uint64_t)sqlite3_column_int64(columns, 1),
        .timed_out = (uint64_t)sqlite3_column_int64(columns, 2),
        .cancelled = (uint64_t)sqlite3_column_int64(columns, 3),
        .lost = (uint64_t)sqlite3_column_int64(columns, 4),
        .duration_us = sqlite3_column_int64(columns, 5),
    };
    totals->failed = totals->ended - totals->succeeded;
    return 0;
}

int rows_total_execs(struct db *db, const char *workspace_id, struct row_exec_totals *ret_totals,
                     struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT count(*), total(state = 'exited' AND exit_code = 0 AND NOT signalled AND NOT"
        " timed_out AND NOT cancelled), total(timed_out), total(cancelled), total(state = 'lost')"
        ", total(duration_us) FROM exec WHERE workspace_id = ?1 AND state <> 'running'";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    *ret_totals = (struct row_exec_totals){0};
    if (!statement)
        return db->error;
    bind_text(statement, 1, workspace_id);
    return db_each(db, statement, keep_totals, ret_totals, failure);
}

int rows_each_running_exec(struct db *db, row_exec_visit visit, void *arg,
                           struct hearth_failure *failure)
{
    static const char sql[] =
        "SELECT " EXEC_COLUMNS " FROM exec WHERE state = 'running' ORDER BY workspace_id, sequence";
    sqlite3_stmt *statement = db_prepare(db, sql, failure);
    struct exec_visit visitor = {visit, arg};
    if (!statement)
        return db->error;
    return db_each(db, statement, visit_exec, &visitor, failure);
}
