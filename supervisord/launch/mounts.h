/* The mounts of a guest's root: detached copies opened by their paths, attached later in the
 * guest's own mount namespace under names that say nothing about the host. Any failure ends the
 * process through launch_die. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* A copy of the mount, with path (of this type) as its root, that hangs nowhere yet. */
int mount_open_detached(const char *path, mode_t type);
/* user_namespace: shows owners as its own; -1: as they are. */
void mount_set_attributes(int fd, const char *what, uint64_t attributes, int user_namespace);
void mount_attach(int fd, const char *target);

/* Descriptors of detached mounts, closed on exec. */
struct launch_mounts {
    int bundle, disk, tree, agent;
};

void mounts_open(struct launch_mounts *ret_mounts, const char *bundle, const char *disk,
                 const char *tree, const char *agent);

/* Shows the tree's owners as this user namespace's. Needs privilege over the tree's file system. */
void mounts_idmap_tree(const struct launch_mounts *mounts, int user_namespace);

/* Bundle at /tmp, the guest's root (tree below, disk/upper above it) at /tmp/rootfs, the agent at
 * /tmp/agent; /tmp is the working directory after. */
void mounts_attach(const struct launch_mounts *mounts);
