/* Control groups of the guests, cgroup v1 and v2 alike: one group NAME/GUEST_ID in every
 * hierarchy that matters. hearth-launch enters it before it does anything else, so that all that
 * ever runs for a guest is in there. Calls are blocking file operations: any thread. */
#pragma once

#include "base/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CGROUP_CONTROLLERS_MAX 3
#define CGROUP_PATH_SIZE 512

enum cgroup_kind { CGROUP_NONE, CGROUP_V1, CGROUP_V2 };

/* What this host lets us do. With v1 there is a directory for each controller, with v2 one. */
struct cgroups {
    enum cgroup_kind kind;
    bool memory, pids, cpu; /* limits that can be set */
    char bases[CGROUP_CONTROLLERS_MAX][CGROUP_PATH_SIZE];
    size_t base_count;
};

struct cgroup_limits {
    uint32_t mem_mib, vcpu_count, pids_max;
};

/* Finds the hierarchies and makes the directory NAME there; what cannot be is not in the result. */
void cgroups_find(struct cgroups *ret_cgroups, const char *name);
/* Removes the directories unless there are guests in them. */
void cgroups_leave(const struct cgroups *cgroups);

/* Makes the guest's groups (they may be there) with their limits. */
int cgroup_make(const struct cgroups *cgroups, const char *guest_id,
                const struct cgroup_limits *limits, struct hearth_failure *failure);
int cgroup_limit(const struct cgroups *cgroups, const char *guest_id,
                 const struct cgroup_limits *limits, struct hearth_failure *failure);

/* A group that comes last has a tenth of what any other may have of the processor where both want
 * it. Nothing where the host has no controller for that. */
void cgroup_prioritise(const struct cgroups *cgroups, const char *guest_id, bool last);

/* Where a process of one thread writes "0" to enter; index < base_count. */
void cgroup_join_file(const struct cgroups *cgroups, size_t index, const char *guest_id,
                      char out[CGROUP_PATH_SIZE]);

/* Sends SIGKILL to all in there, once, and frees them of their processor's limit, that they end:
 * cgroup_make sets it again. */
void cgroup_kill(const struct cgroups *cgroups, const char *guest_id);
/* Kills until empty (for at most a few seconds) and removes. 0 or HEARTH_EIO; none is no error. */
int cgroup_destroy(const struct cgroups *cgroups, const char *guest_id,
                   struct hearth_failure *failure);

/* Has the kernel killed something in there for want of memory? */
bool cgroup_was_out_of_memory(const struct cgroups *cgroups, const char *guest_id);

void cgroup_each(const struct cgroups *cgroups, void (*visit)(void *arg, const char *guest_id),
                 void *arg);
