#include "supervisord/launch/remove.h"

#include "supervisord/launch/userns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64

struct removal {
    const char *path;
    int top;
    unsigned long moved; /* directories brought up from below DEPTH_MAX */
};

static void remove_children(struct removal *removal, int directory, int depth);

static void remove_directory(struct removal *removal, int parent, const char *name, int depth)
{
    if (depth == DEPTH_MAX) {
        char flat[32];
        do
            snprintf(flat, sizeof flat, ".hearth-%lu", removal->moved++);
        while (renameat2(parent, name, removal->top, flat, RENAME_NOREPLACE) < 0 &&
               errno == EEXIST);
        return;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        launch_die(errno, "cannot open a directory in %s", removal->path);
    remove_children(removal, fd, depth + 1);
    if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        launch_die(errno, "cannot remove a directory in %s", removal->path);
}

/* Takes directory. */
static void remove_children(struct removal *removal, int fd, int depth)
{
    DIR *directory = fdopendir(fd);
    if (!directory)
        launch_die(errno, "cannot read a directory in %s", removal->path);
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, entry->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR && errno != EPERM)
            launch_die(errno, "cannot remove a file in %s", removal->path);
        remove_directory(removal, fd, entry->d_name, depth);
    }
    closedir(directory);
}

void remove_tree(const char *path)
{
    struct removal removal = {.path = path};
    /* What is brought up from the depths is seen by the next round. */
    for (;;) {
        unsigned long before = removal.moved;
        removal.top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (removal.top < 0 && errno == ENOENT)
            return;
        if (removal.top < 0)
            launch_die(errno, "cannot open %s", path);
        remove_children(&removal, dup(removal.top), 1);
        close(removal.top);
        if (removal.moved == before)
            break;
    }
    if (rmdir(path) < 0)
        launch_die(errno, "cannot remove %s", path);
}
