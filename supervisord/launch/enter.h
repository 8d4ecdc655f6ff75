/* What every guest's first process does before it is anything else. Failures end it (launch_die).
 */
#pragma once

/* file is the cgroup's cgroup.procs or tasks. */
void launch_join_cgroup(const char *file);
/* Guests go before the host's own programs do. */
void launch_raise_oom_score(void);
