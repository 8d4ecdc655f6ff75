#include "guestagent/agent/inside.h"

#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYMLINKS_MAX 40 /* as the kernel's own limit */

/* What is resolved, and what of the path is still ahead. */
struct walk {
    char *done; /* INSIDE_PATH_MAX */
    size_t length;
    char ahead[2 * INSIDE_PATH_MAX];
    unsigned symlinks;
};

static int go_up(struct walk *walk)
{
    if (!walk->length)
        return -EXDEV;
    const char *slash = memrchr(walk->done, '/', walk->length);
    walk->length = slash ? (size_t)(slash - walk->done) : 0;
    walk->done[walk->length] = '\0';
    return 0;
}

static int go_down(struct walk *walk, const char *name, size_t length)
{
    if (walk->length + length + 2 > INSIDE_PATH_MAX)
        return -ENAMETOOLONG;
    if (walk->length)
        walk->done[walk->length++] = '/';
    memcpy(walk->done + walk->length, name, length);
    walk->length += length;
    walk->done[walk->length] = '\0';
    return 0;
}

/* The part of an absolute target below the workspace, or NULL. */
static const char *below_workspace(const struct agent *agent, const char *target)
{
    size_t length = strlen(agent->options.workspace);
    if (strncmp(target, agent->options.workspace, length) != 0 ||
        (target[length] && target[length] != '/'))
        return NULL;
    return target + length;
}

/* Puts the symlink's target before what is ahead. */
static int follow_link(const struct agent *agent, struct walk *walk, const char *target,
                       const char *rest)
{
    char joined[sizeof walk->ahead];
    const char *from = target;
    if (++walk->symlinks > SYMLINKS_MAX)
        return -ELOOP;
    if (*target == '/') {
        from = below_workspace(agent, target);
        if (!from)
            return -EXDEV;
        walk->length = 0;
        walk->done[0] = '\0';
    }
    if (snprintf(joined, sizeof joined, "%s/%s", from, rest) >= (int)sizeof joined)
        return -ENAMETOOLONG;
    memcpy(walk->ahead, joined, strlen(joined) + 1);
    return 0;
}

/* The target of what was just walked onto; -EINVAL where it is no symlink or not there. */
static int read_link(const struct agent *agent, const struct walk *walk,
                     char target[INSIDE_PATH_MAX])
{
    auto_close int fd = path_open_plain(agent->root_fd, walk->done, O_PATH | O_NOFOLLOW);
    ssize_t length = fd < 0 ? -1 : readlinkat(fd, "", target, INSIDE_PATH_MAX - 1);
    if (length <= 0)
        return -EINVAL;
    target[length] = '\0';
    return 0;
}

int inside_resolve(const struct agent *agent, const char *path, bool follow,
                   char out[INSIDE_PATH_MAX])
{
    struct walk walk = {.done = out};
    char target[INSIDE_PATH_MAX];
    out[0] = '\0';
    if (strlen(path) >= INSIDE_PATH_MAX)
        return -ENAMETOOLONG;
    if (*path == '/')
        return -EXDEV;
    memcpy(walk.ahead, path, strlen(path) + 1);
    for (;;) {
        const char *name = walk.ahead + strspn(walk.ahead, "/");
        size_t length = strcspn(name, "/");
        char rest[sizeof walk.ahead];
        if (!length)
            return 0;
        snprintf(rest, sizeof rest, "%s", name + length + strspn(name + length, "/"));
        int error = 0;
        if (length == 2 && name[0] == '.' && name[1] == '.')
            error = go_up(&walk);
        else if (!(length == 1 && name[0] == '.'))
            error = go_down(&walk, name, length);
        if (error)
            return error;
        if ((*rest || follow) && read_link(agent, &walk, target) == 0) {
            go_up(&walk);
            error = follow_link(agent, &walk, target, rest);
        } else {
            memcpy(walk.ahead, rest, strlen(rest) + 1);
        }
        if (error)
            return error;
    }
}

int inside_open(const struct agent *agent, const char *path, int flags)
{
    char resolved[INSIDE_PATH_MAX];
    int fd = path_open_beneath(agent->root_fd, path, flags, 0);
    if (fd != -EXDEV)
        return fd;
    int error = inside_resolve(agent, path, !(flags & O_NOFOLLOW), resolved);
    return error ? error : path_open_beneath(agent->root_fd, resolved, flags, 0);
}

int inside_open_parent(const struct agent *agent, const char *path, const char **ret_name)
{
    char parent[INSIDE_PATH_MAX];
    const char *slash = strrchr(path, '/');
    int fd = path_open_parent(agent->root_fd, path, ret_name);
    if (fd != -EXDEV || !slash)
        return fd;
    if ((size_t)(slash - path) >= sizeof parent)
        return -ENAMETOOLONG;
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = '\0';
    fd = inside_open(agent, parent, O_DIRECTORY | O_PATH);
    if (fd >= 0)
        *ret_name = slash + 1;
    return fd;
}

void inside_find_root(const struct agent *agent)
{
    const char *path = agent->options.workspace;
    struct stat held, there;
    if (!path || fstat(agent->root_fd, &held) < 0 ||
        (lstat(path, &there) == 0 && held.st_dev == there.st_dev && held.st_ino == there.st_ino))
        return;
    mkdir(path, 0755);
    auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        dup3(fd, agent->root_fd, O_CLOEXEC);
}
