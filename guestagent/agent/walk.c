#include "guestagent/agent/walk.h"

#include "base/cleanup.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct level {
    int fd;
    char **names; /* sorted */
    size_t count, next;
    size_t path_length; /* of the directory's own path, with its slash */
};

struct walk {
    struct level levels[WALK_DEPTH_MAX];
    size_t depth;
    char path[WALK_PATH_MAX];
    bool descend; /* the entry given last is a directory */
};

static void level_clear(struct level *level)
{
    for (size_t i = 0; i < level->count; i++)
        free(level->names[i]);
    free(level->names);
    close(level->fd);
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static int add_name(struct level *level, size_t *capacity, const char *name)
{
    if (level->count == *capacity) {
        size_t more = *capacity ? *capacity * 2 : 32;
        char **names = reallocarray(level->names, more, sizeof *names);
        if (!names)
            return -ENOMEM;
        level->names = names;
        *capacity = more;
    }
    char *copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    level->names[level->count++] = copy;
    return 0;
}

static int read_names(struct level *level)
{
    int copy = fcntl(level->fd, F_DUPFD_CLOEXEC, 0);
    auto_closedir DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    size_t capacity = 0;
    int error = 0;
    if (!directory) {
        error = -errno;
        cleanup_close(&copy);
        return error;
    }
    for (struct dirent *entry; !error && (errno = 0, entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = add_name(level, &capacity, entry->d_name);
    if (!error && errno)
        error = -errno;
    if (level->count)
        qsort(level->names, level->count, sizeof *level->names, compare_names);
    return error;
}

/* Takes fd. */
static int push(struct walk *walk, int fd)
{
    if (walk->depth == WALK_DEPTH_MAX) {
        close(fd);
        return -ELOOP;
    }
    struct level *level = &walk->levels[walk->depth];
    *level = (struct level){.fd = fd, .path_length = strlen(walk->path)};
    if (level->path_length && level->path_length + 1 < WALK_PATH_MAX) {
        walk->path[level->path_length++] = '/';
        walk->path[level->path_length] = '\0';
    }
    int error = read_names(level);
    if (error) {
        level_clear(level);
        return error;
    }
    walk->depth++;
    return 0;
}

int walk_open(struct walk **ret_walk, int root_fd, const char *path)
{
    size_t length = strlen(path);
    if (length + 1 >= WALK_PATH_MAX)
        return -ENAMETOOLONG;
    int fd = path_open_beneath(root_fd, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    struct walk *walk = calloc(1, sizeof *walk);
    if (!walk) {
        close(fd);
        return -ENOMEM;
    }
    memcpy(walk->path, path, length + 1);
    int error = push(walk, fd);
    if (error) {
        walk_close(walk);
        return error;
    }
    *ret_walk = walk;
    return 0;
}

/* What was a directory a moment ago may be gone, or something else: then there is nothing below. */
static int descend(struct walk *walk)
{
    const struct level *level = &walk->levels[walk->depth - 1];
    walk->descend = false;
    int fd = path_open_directory(level->fd, level->names[level->next - 1]);
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
    return push(walk, fd);
}

int walk_next(struct walk *walk, struct walk_entry *ret_entry)
{
    int error = walk->descend ? descend(walk) : 0;
    while (!error && walk->depth) {
        struct level *level = &walk->levels[walk->depth - 1];
        if (level->next == level->count) {
            level_clear(level);
            walk->depth--;
            continue;
        }
        const char *name = level->names[level->next++];
        size_t length = strlen(name);
        if (level->path_length + length >= WALK_PATH_MAX)
            return -ENAMETOOLONG;
        memcpy(walk->path + level->path_length, name, length + 1);
        if (fstatat(level->fd, name, &ret_entry->status, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        walk->descend = S_ISDIR(ret_entry->status.st_mode);
        ret_entry->parent_fd = level->fd;
        ret_entry->name = name;
        ret_entry->path = walk->path;
        return 1;
    }
    return error;
}

void walk_skip(struct walk *walk)
{
    walk->descend = false;
}

void walk_close(struct walk *walk)
{
    if (!walk)
        return;
    while (walk->depth)
        level_clear(&walk->levels[--walk->depth]);
    free(walk);
}
