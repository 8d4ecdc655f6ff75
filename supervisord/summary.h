/* What a workspace_summary tells of the past, from the history database: how its commands have
 * ended, and what has left it. What changed, what runs and which snapshots there are is asked of
 * diff.h, service.h and snapshot.h. Loop thread. */
#pragma once

#include "storage/rows.h"
#include "supervisord/exec.h"

/* The newest commands that have ended, newest first and without their output, and all of them
 * counted; best from exec_when_recorded. A reset clears both. */
int summary_commands(struct workspace *workspace, unsigned limit, exec_visit visit, void *arg,
                     struct row_exec_totals *ret_totals, struct hearth_failure *failure);
/* The newest exports, newest first; at most EXPORTS_MAX are known. A reset leaves them. */
int summary_exports(struct workspace *workspace, unsigned limit, row_export_visit visit, void *arg,
                    struct hearth_failure *failure);
