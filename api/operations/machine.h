/* What vm_run and the machines that vm_create makes have in common. */
#pragma once

#include "api/optable.h"
#include "supervisord/workspace.h"

extern const struct field vm_run_output[]; /* of vm_run and vm_exec */

struct vm_exec_input {
    const char *vm_id, *command, *encoding;
    int64_t timeout_seconds;
};
/* Runs a command in a started machine and deletes it, whatever happened. */
void vm_exec(struct call *call, const void *arg);

/* A workspace's states, and "created" of one that was never started. */
const char *machine_state(struct workspace *workspace, enum workspace_state state);

/* The machine; NULL after the call has been failed with 404 `vm_not_found`. */
struct workspace *machine_or_fail(struct call *call, const char *vm_id);
