/* A guest's network, for every driver: hearth-net as a child, which leaves behind what carries the
 * guest's connections and ends with the guest. Loop thread. */
#pragma once

#include "supervisord/drivers/driver.h"
#include "supervisord/spawn.h"

struct network_spec {
    pid_t guest;              /* a container's: whose user and network namespaces they are; or 0 */
    int stream_fd;            /* a machine's: of its device, each packet after its length; or -1 */
    bool as_root;             /* a machine's: owner is the first of the IDs … */
    uid_t owner;              /* … in whose user namespace the rest runs */
    const char *policy, *log; /* its files, as network_paths tells */
    const char *environment;  /* NAME=VALUE that the guest's processes are known by; or NULL */
    const char *const *cgroup_files; /* to join first */
    size_t cgroup_count;
};

/* done is told when the guest has its network (guest_done's failures: HEARTH_EUNSUPPORTED
 * `network_unavailable`). Strings are borrowed for the call. */
int network_connect(struct child **ret_child, struct loop *loop, const struct network_spec *spec,
                    guest_done done, void *arg, struct hearth_failure *failure);

/* Where a guest's policy and the log of its denials are. Pure. */
void network_paths(const char *state_dir, const char *guest_id, char policy[PATH_MAX],
                   char log[PATH_MAX]);

/* Whether text is a list of IPv4 networks with commas between them. Pure. */
bool network_allow_valid(const char *text);
