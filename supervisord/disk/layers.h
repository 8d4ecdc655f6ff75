/* A stopped container's root: the environment's tree with what the guest has changed over it, as
 * the guest saw it, put together by the kernel in namespaces of this process's own. Any failure
 * ends the process through launch_die. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define LAYERS_ROOT "/tmp/root"

struct layers {
    const char *tree, *disk; /* disk/upper is what has changed */
    bool as_root;
    uid_t uid_base;
};

/* Enters the guest's user namespace and mounts its root at LAYERS_ROOT, read-only. No network is
 * left. */
void layers_enter(const struct layers *layers);
