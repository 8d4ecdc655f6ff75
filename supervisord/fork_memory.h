/* Forks with memory: the copy of a running guest that fork.c's creates begin with. Loop thread. */
#pragma once

#include "supervisord/drivers/driver.h"
#include "supervisord/steps.h"

struct services_noted;
struct workspace;

/* Can it be, now? HEARTH_EUNSUPPORTED `fork_memory_unsupported`, HEARTH_EINVALID
 * `fork_memory_of_snapshot`, and what workspace_ready and workspace_busy say. */
int fork_memory_check(struct workspace *workspace, bool of_snapshot,
                      struct hearth_failure *failure);
/* copy is given, for fork_memory_free, and so are the services that run in it; both are NULL on
 * error. The guest goes on whatever comes of it. */
typedef void (*fork_memory_done)(void *arg, int error, const struct hearth_failure *failure,
                                 struct guest_copy *copy, struct services_noted *services);
/* For so many to begin with; checked before. The workspace is busy until done. */
void fork_memory(struct workspace *workspace, unsigned count, fork_memory_done done, void *arg);
void fork_memory_free(struct supervisor *supervisor, struct guest_copy *copy);

/* After a restart: what was left paused goes on. */
extern const struct steps_kind fork_kind;
struct steps *fork_memory_resume(struct workspace *workspace, const struct row_operation *row);
