#include "supervisord/disk/layers.h"

#include "supervisord/launch/mounts.h"
#include "supervisord/launch/userns.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOP "/tmp" /* a directory that every host has */

static void make_directory(const char *name)
{
    if (mkdir(name, 0700) < 0)
        launch_die(errno, "cannot make a mount point");
}

void layers_enter(const struct layers *layers)
{
    int tree = -1, disk = -1;
    /* Root opens while it may go everywhere; a plain user once it may make mounts. */
    if (layers->as_root) {
        tree = mount_open_detached(layers->tree, S_IFDIR);
        disk = mount_open_detached(layers->disk, S_IFDIR);
    }
    int user_namespace = userns_make(layers->as_root, layers->uid_base);
    if (layers->as_root)
        mount_set_attributes(tree, "the environment", MOUNT_ATTR_RDONLY, user_namespace);
    userns_become_root(user_namespace);
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        launch_die(errno, "cannot leave the host's namespaces");
    if (!layers->as_root) {
        tree = mount_open_detached(layers->tree, S_IFDIR);
        disk = mount_open_detached(layers->disk, S_IFDIR);
    }
    if (mount("none", TOP, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755") < 0 ||
        chdir(TOP) < 0)
        launch_die(errno, "cannot make a place for mounts");
    make_directory("tree");
    make_directory("disk");
    make_directory("root");
    mount_attach(tree, "tree");
    mount_attach(disk, "disk");
    /* Without an upper layer nothing is written, not even by overlayfs itself. */
    if (mount("overlay", "root", "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "lowerdir=disk/upper:tree,userxattr") < 0)
        launch_die(errno, "cannot mount the root file system");
}
