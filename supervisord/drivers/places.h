/* Where drivers keep what guests leave on the host: a directory of each driver's own in the state
 * and the runtime directory, and cgroups named after it. */
#pragma once

#include "supervisord/drivers/cgroup.h"

/* Gives DIRECTORY/NAME, made if need be, for nobody but us; or a negative error. */
int guests_directory(const char *directory, const char *name, struct hearth_failure *failure);
/* Daemons that share a host must not take each other's guests for leftovers: the name is that of
 * the driver's directory of state, which has one daemon. */
void guests_find_cgroups(struct cgroups *ret_cgroups, int state_fd);
