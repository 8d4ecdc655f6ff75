#include "supervisord/summary.h"

#include "base/clock.h"
#include "supervisord/exec_internal.h"
#include "supervisord/supervisor_internal.h"

struct commands {
    exec_visit visit;
    void *arg;
};

static int visit_command(void *arg, const struct row_exec *row)
{
    const struct commands *commands = arg;
    struct exec_status status;
    exec_status_from_row(row, 0, 0, &status);
    commands->visit(commands->arg, &status);
    return 0;
}

int summary_commands(struct workspace *workspace, unsigned limit, exec_visit visit, void *arg,
                     struct row_exec_totals *ret_totals, struct hearth_failure *failure)
{
    struct commands commands = {visit, arg};
    struct db *db = workspace->supervisor->history_reader;
    int error = rows_total_execs(db, workspace->workspace_id, ret_totals, failure);
    return error ? error
                 : rows_latest_execs(db, workspace->workspace_id, limit, visit_command, &commands,
                                     failure);
}

int summary_exports(struct workspace *workspace, unsigned limit, row_export_visit visit, void *arg,
                    struct hearth_failure *failure)
{
    return rows_latest_exports(workspace->supervisor->history_reader, workspace->workspace_id,
                               limit, visit, arg, failure);
}

void workspace_exported(struct supervisor *supervisor, const struct row_export *row,
                        writer_done done, void *arg)
{
    struct row_export dated = *row;
    struct change *change = change_new();
    dated.at = clock_wall_us();
    change_add_export(change, &dated);
    change_commit(change, supervisor->history, done, arg);
}
