/* hearth-archive below one of a tenant's host_roots, for what reads there and what writes. */
#pragma once

#include "supervisord/host_path.h"
#include "supervisord/spawn.h"

/* Without the slashes at its end; "/" stays. */
size_t host_path_length(const char *path);
/* Starts it; verb: "pack", "read-small", "put" or "put-file". spec says the descriptors and the
 * callback. */
int host_path_spawn(struct child **ret_child, struct loop *loop, const struct spawn_spec *spec,
                    const char *verb, const char *root, const char *below, child_done done,
                    void *arg, struct hearth_failure *failure);
/* Why a path that is allowed was not read, as the child says: HEARTH_EINVALID
 * `host_path_unreadable`. */
void host_path_unreadable(const struct child_result *result, struct hearth_failure *failure);
/* Whether the path leads out of the root: then with the failure, HEARTH_EINVALID
 * `host_path_forbidden`. */
bool host_path_leads_out(const struct child_result *result, struct hearth_failure *failure);
