#include "supervisord/launch/mounts.h"

#include "supervisord/launch/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOP "/tmp" /* a directory that every host has */

int mount_open_detached(const char *path, mode_t type)
{
    int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        launch_die(errno, "cannot open %s", path);
    if ((status.st_mode & S_IFMT) != type)
        launch_die(type == S_IFDIR ? ENOTDIR : EINVAL, "cannot use %s", path);
    return fd;
}

void mount_set_attributes(int fd, const char *what, uint64_t attributes, int user_namespace)
{
    struct mount_attr set = {.attr_set = attributes};
    if (user_namespace >= 0) {
        set.attr_set |= MOUNT_ATTR_IDMAP;
        set.userns_fd = (uint64_t)user_namespace;
    }
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &set, sizeof set) < 0)
        launch_die(errno, "cannot change the mount of %s", what);
}

void mounts_open(struct launch_mounts *ret_mounts, const char *bundle, const char *disk,
                 const char *tree, const char *agent)
{
    *ret_mounts = (struct launch_mounts){
        .bundle = mount_open_detached(bundle, S_IFDIR),
        .disk = mount_open_detached(disk, S_IFDIR),
        .tree = mount_open_detached(tree, S_IFDIR),
        .agent = mount_open_detached(agent, S_IFREG),
    };
    mount_set_attributes(ret_mounts->agent, "the agent",
                         MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, -1);
}

void mounts_idmap_tree(const struct launch_mounts *mounts, int user_namespace)
{
    mount_set_attributes(mounts->tree, "the environment (does its file system support ID maps?)",
                         MOUNT_ATTR_RDONLY, user_namespace);
}

void mount_attach(int fd, const char *target)
{
    if (move_mount(fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        launch_die(errno, "cannot attach %s", target);
}

void mounts_attach(const struct launch_mounts *mounts)
{
    mount_attach(mounts->bundle, TOP);
    if (chdir(TOP) < 0)
        launch_die(errno, "cannot enter the bundle");
    mount_attach(mounts->tree, "tree");
    mount_attach(mounts->disk, "disk");
    mount_attach(mounts->agent, "agent");
    /* The guest can read these options in its mountinfo: relative names give nothing away. */
    if (mount("overlay", "rootfs", "overlay", 0,
              "lowerdir=tree,upperdir=disk/upper,workdir=disk/work,userxattr") < 0)
        launch_die(errno, "cannot mount the root file system");
}
