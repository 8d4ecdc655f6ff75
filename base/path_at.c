#include "base/path_at.h"

#include "base/cleanup.h"
#include "base/id.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int open_resolved(int dir_fd, const char *path, struct open_how *how)
{
    for (;;) {
        long fd = syscall(SYS_openat2, dir_fd, *path ? path : ".", how, sizeof *how);
        if (fd >= 0)
            return (int)fd;
        /* EAGAIN: a rename raced with the walk; the kernel asks to be asked again. */
        if (errno != EINTR && errno != EAGAIN)
            return -errno;
    }
}

int path_open_beneath(int dir_fd, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (unsigned long long)(flags | O_CLOEXEC),
        .mode = (flags & (O_CREAT | __O_TMPFILE)) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    return open_resolved(dir_fd, path, &how);
}

int path_open_plain(int dir_fd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (unsigned long long)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    return open_resolved(dir_fd, path, &how);
}

/* Splits path into the directory that holds its last component, "." where it names none, and that
 * component. 0 or a negative errno. */
static int split(const char *path, char parent[4096], const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t length = slash ? (size_t)(slash - path) : 1;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    if (slash == path) /* "/name": without its slash it would be another path */
        return -EXDEV;
    if (length >= 4096)
        return -ENAMETOOLONG;
    memcpy(parent, slash ? path : ".", length);
    parent[length] = '\0';
    *ret_name = name;
    return 0;
}

int path_open_parent(int dir_fd, const char *path, const char **ret_name)
{
    char parent[4096];
    int error = split(path, parent, ret_name);
    return error ? error : path_open_beneath(dir_fd, parent, O_DIRECTORY | O_PATH, 0);
}

int path_open_plain_parent(int dir_fd, const char *path, const char **ret_name)
{
    char parent[4096];
    int error = split(path, parent, ret_name);
    return error ? error : path_open_plain(dir_fd, parent, O_DIRECTORY | O_PATH);
}

int path_make_directories(int dir_fd, const char *path, mode_t mode)
{
    char partial[4096];
    size_t length = strlen(path);
    if (length >= sizeof partial)
        return -ENAMETOOLONG;
    for (size_t end = 1; end <= length; end++) {
        if (path[end] != '/' && path[end] != '\0')
            continue;
        memcpy(partial, path, end);
        partial[end] = '\0';
        auto_close int existing = path_open_beneath(dir_fd, partial, O_DIRECTORY | O_PATH, 0);
        if (existing >= 0)
            continue;
        if (existing != -ENOENT)
            return existing;
        const char *name;
        auto_close int parent = path_open_parent(dir_fd, partial, &name);
        if (parent < 0)
            return parent == -EINVAL && partial[end - 1] == '/' ? 0 : parent;
        if (mkdirat(parent, name, mode) == 0)
            continue;
        if (errno != EEXIST)
            return -errno;
        /* Somebody else has made it just now, or it is a symlink to nothing. */
        auto_close int made = path_open_beneath(dir_fd, partial, O_DIRECTORY | O_PATH, 0);
        if (made < 0)
            return made;
    }
    return 0;
}

int path_make_own_directories(const char *path, mode_t mode)
{
    char partial[4096];
    size_t length = strlen(path);
    if (length >= sizeof partial)
        return -ENAMETOOLONG;
    for (size_t end = 1; end <= length; end++) {
        if (path[end] != '/' && path[end] != '\0')
            continue;
        memcpy(partial, path, end);
        partial[end] = '\0';
        if (mkdir(partial, mode) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* A guest makes its tree as deep as it likes, and each level that is walked holds a descriptor. So
 * a directory this far down is moved up to the top, and removed from there on the next pass. */
#define REMOVE_DEPTH_MAX 32
/* Only a tree that grows while it is removed needs more passes. */
#define REMOVE_PASSES_MAX 65536

struct removal {
    int top_fd;
    dev_t device;
    bool moved_up;
};

static int remove_children(struct removal *removal, int fd, int depth);

static int move_up(struct removal *removal, int parent, const char *name)
{
    char fresh[27];
    id_random_text(fresh, sizeof fresh - 1);
    if (renameat(parent, name, removal->top_fd, fresh) < 0)
        return errno == ENOENT ? 0 : -errno;
    removal->moved_up = true;
    return 0;
}

static int remove_entry(struct removal *removal, int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (depth == REMOVE_DEPTH_MAX)
        return move_up(removal, parent, name);
    int fd = path_open_directory(parent, name);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    int error = remove_children(removal, fd, depth + 1);
    if (error)
        return error;
    return unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

/* Takes fd. Goes on after an error, and gives the first one. */
static int remove_children(struct removal *removal, int fd, int depth)
{
    auto_closedir DIR *dir = fdopendir(fd);
    if (!dir) {
        int error = -errno;
        close(fd);
        return error;
    }
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (status.st_dev != removal->device)
        return -EXDEV;
    struct dirent *entry;
    int result = 0;
    while ((errno = 0, entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            int error = remove_entry(removal, fd, entry->d_name, depth);
            if (error && !result)
                result = error;
        }
    return result ? result : -errno;
}

static int remove_directory(int parent, const char *name)
{
    auto_close int fd = path_open_directory(parent, name);
    struct stat status;
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    if (fstat(fd, &status) < 0)
        return -errno;
    struct removal removal = {.top_fd = fd, .device = status.st_dev};
    int error, passes = 0;
    do {
        int pass_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        removal.moved_up = false;
        error = pass_fd < 0 ? -errno : remove_children(&removal, pass_fd, 0);
    } while (removal.moved_up && ++passes < REMOVE_PASSES_MAX);
    if (error)
        return error;
    return unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int path_remove_tree(int dir_fd, const char *path)
{
    const char *name;
    auto_close int parent = path_open_parent(dir_fd, path, &name);
    if (parent < 0)
        return parent == -ENOENT ? 0 : parent;
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    return errno == EISDIR || errno == EPERM ? remove_directory(parent, name) : -errno;
}

int path_open_directory(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int path_write_all(int fd, const void *data, size_t length)
{
    for (const char *at = data; length;) {
        ssize_t put = write(fd, at, length);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        at += put;
        length -= (size_t)put;
    }
    return 0;
}

ssize_t path_read_all(int fd, void *out, size_t size)
{
    size_t used = 0;
    while (used < size) {
        ssize_t got = read(fd, (char *)out + used, size - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

ssize_t path_read_small(int dir_fd, const char *path, char *out, size_t size)
{
    auto_close int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    ssize_t used = path_read_all(fd, out, size - 1);
    if (used >= 0)
        out[used] = '\0';
    return used;
}

int path_write_durable(int dir_fd, const char *path, const void *data, size_t length, mode_t mode)
{
    char temporary[4200], suffix[9], directory[4096] = ".";
    id_random_text(suffix, sizeof suffix - 1);
    if (snprintf(temporary, sizeof temporary, "%s.%s", path, suffix) >= (int)sizeof temporary)
        return -ENAMETOOLONG;
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(directory, sizeof directory, "%.*s", (int)(slash == path ? 1 : slash - path),
                 path);
    auto_close int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    int error = path_write_all(fd, data, length);
    if (!error && (fsync(fd) < 0 || renameat(dir_fd, temporary, dir_fd, path) < 0))
        error = -errno;
    if (error) {
        unlinkat(dir_fd, temporary, 0);
        return error;
    }
    auto_close int parent = openat(dir_fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return parent < 0 || fsync(parent) < 0 ? -errno : 0;
}
