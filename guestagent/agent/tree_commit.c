#include "guestagent/agent/tree_commit.h"

#include "base/cleanup.h"
#include "base/path_at.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_BYTES 4096
#define DEPTH_MAX 128 /* the archive's check allows 64 */

/* A name that has changed, for the way back. */
struct changed {
    struct changed *next;
    bool replaced; /* the old one is aside under `number` */
    size_t number;
    char path[]; /* below the destination */
};

struct merge {
    struct tree_commit *commit;
    int into_fd;             /* the destination */
    bool check;              /* look, change nothing */
    struct changed *changed; /* newest first */
    size_t replaced_count;
    char path[PATH_BYTES];
};

static int blame(struct merge *merge, int error, const char *why)
{
    if (!*merge->commit->problem)
        snprintf(merge->commit->problem, sizeof merge->commit->problem, "the member %.200s %s",
                 merge->path, why);
    return error;
}

static int blame_errno(struct merge *merge, int error)
{
    char why[100];
    snprintf(why, sizeof why, "cannot be put in place: %s", strerror(-error));
    return blame(merge, error, why);
}

static void aside_name(char out[32], size_t number)
{
    snprintf(out, 32, "%zu", number);
}

/* A member whose name is free: with all that is below it in one move. */
static int move_in(struct merge *merge, int from, int into, const char *name,
                   struct changed *changed)
{
    if (renameat2(from, name, into, name, RENAME_NOREPLACE) < 0)
        return -errno;
    changed->replaced = false;
    return 0;
}

/* The old one is linked aside and then replaced, so that the name is never without a file. */
static int replace(struct merge *merge, int from, int into, const char *name,
                   struct changed *changed)
{
    char aside[32];
    aside_name(aside, merge->replaced_count);
    if (linkat(into, name, merge->commit->aside_fd, aside, 0) < 0)
        return -errno;
    if (renameat(from, name, into, name) < 0)
        return -errno;
    changed->replaced = true;
    changed->number = merge->replaced_count++;
    return 0;
}

static int put(struct merge *merge, int from, int into, const char *name, bool there)
{
    struct changed *changed = malloc(sizeof *changed + strlen(merge->path) + 1);
    if (!changed)
        return blame_errno(merge, -ENOMEM);
    memcpy(changed->path, merge->path, strlen(merge->path) + 1);
    int error = there ? replace(merge, from, into, name, changed)
                      : move_in(merge, from, into, name, changed);
    if (error) {
        free(changed);
        return blame_errno(merge, error);
    }
    changed->next = merge->changed;
    merge->changed = changed;
    return 0;
}

static int merge_directory(struct merge *merge, int from, int into, int depth);

static int merge_below(struct merge *merge, int from, int into, const char *name, int depth)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    auto_close int inner_from = openat(from, name, flags);
    auto_close int inner_into = inner_from < 0 ? -1 : openat(into, name, flags);
    if (inner_into < 0 || depth == DEPTH_MAX)
        return blame_errno(merge, inner_into < 0 ? -errno : -ELOOP);
    return merge_directory(merge, inner_from, inner_into, depth + 1);
}

static int merge_entry(struct merge *merge, int from, int into, const char *name, int depth)
{
    struct stat member, old;
    if (fstatat(from, name, &member, AT_SYMLINK_NOFOLLOW) < 0)
        return blame_errno(merge, -errno);
    bool there = fstatat(into, name, &old, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && errno != ENOENT)
        return blame_errno(merge, -errno);
    if (there && S_ISDIR(member.st_mode)) {
        if (S_ISLNK(old.st_mode))
            return blame(merge, -EXDEV,
                         "would be written through a symlink that is in the workspace");
        if (!S_ISDIR(old.st_mode))
            return blame(merge, -ENOTDIR,
                         "is a directory, and a file of the workspace has its name");
        return merge_below(merge, from, into, name, depth);
    }
    if (there && S_ISDIR(old.st_mode))
        return blame(merge, -EISDIR, "is no directory, and one of the workspace has its name");
    return merge->check ? 0 : put(merge, from, into, name, there);
}

static int merge_directory(struct merge *merge, int from, int into, int depth)
{
    size_t length = strlen(merge->path);
    int error = 0, copy = fcntl(from, F_DUPFD_CLOEXEC, 0);
    auto_closedir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        error = blame_errno(merge, -errno);
        cleanup_close(&copy);
        return error;
    }
    rewinddir(dir); /* the copy shares its place with the one that was walked before */
    for (struct dirent *entry; !error && (errno = 0, entry = readdir(dir));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (snprintf(merge->path + length, sizeof merge->path - length, "%s%s", length ? "/" : "",
                     name) >= (int)(sizeof merge->path - length))
            error = blame_errno(merge, -ENAMETOOLONG);
        else
            error = merge_entry(merge, from, into, name, depth);
        if (!error)
            merge->path[length] = '\0';
    }
    return error;
}

static int take_back(struct merge *merge, const struct changed *changed)
{
    char aside[32];
    const char *name;
    aside_name(aside, changed->number);
    auto_close int parent = path_open_plain_parent(merge->into_fd, changed->path, &name);
    if (parent < 0)
        return parent;
    if (changed->replaced)
        return renameat(merge->commit->aside_fd, aside, parent, name) < 0 ? -errno : 0;
    return path_remove_tree(parent, name);
}

static void undo(struct merge *merge)
{
    struct tree_commit *commit = merge->commit;
    const struct changed *first = NULL;
    for (const struct changed *changed = merge->changed; changed; changed = changed->next)
        if (take_back(merge, changed)) {
            commit->remaining++;
            first = changed;
        }
    size_t length = strlen(commit->problem);
    if (first)
        snprintf(commit->problem + length, sizeof commit->problem - length,
                 "; %zu members remain, among them %.100s", commit->remaining, first->path);
}

static void forget(struct merge *merge)
{
    while (merge->changed) {
        struct changed *changed = merge->changed;
        merge->changed = changed->next;
        free(changed);
    }
}

/* Bytes of destination that are there already. */
static size_t existing_length(const struct tree_commit *commit)
{
    char prefix[PATH_BYTES];
    size_t length = strlen(commit->destination);
    memcpy(prefix, commit->destination, length + 1);
    while (length) {
        auto_close int fd = path_open_plain(commit->root_fd, prefix, O_PATH | O_NOFOLLOW);
        if (fd >= 0)
            break;
        const char *slash = memrchr(prefix, '/', length);
        length = slash ? (size_t)(slash - prefix) : 0;
        prefix[length] = '\0';
    }
    return length;
}

static void remove_made(const struct tree_commit *commit, size_t kept)
{
    char path[PATH_BYTES];
    size_t length = strlen(commit->destination);
    memcpy(path, commit->destination, length + 1);
    while (length > kept) {
        const char *name;
        auto_close int parent = path_open_plain_parent(commit->root_fd, path, &name);
        if (parent < 0 || unlinkat(parent, name, AT_REMOVEDIR) < 0)
            return;
        const char *slash = memrchr(path, '/', length);
        length = slash ? (size_t)(slash - path) : 0;
        path[length] = '\0';
    }
}

static int merge_all(struct tree_commit *commit, int into_fd)
{
    struct merge merge = {.commit = commit, .into_fd = into_fd, .check = true};
    int error = merge_directory(&merge, commit->staged_fd, into_fd, 0);
    if (error)
        return error;
    merge.check = false;
    error = merge_directory(&merge, commit->staged_fd, into_fd, 0);
    if (error)
        undo(&merge);
    forget(&merge);
    return error;
}

int tree_commit(struct tree_commit *commit)
{
    commit->problem[0] = '\0';
    commit->remaining = 0;
    if (strlen(commit->destination) >= PATH_BYTES)
        return -ENAMETOOLONG;
    size_t kept = existing_length(commit);
    int error = *commit->destination
                    ? path_make_directories(commit->root_fd, commit->destination, 0755)
                    : 0;
    auto_close int into =
        error ? error
              : path_open_plain(commit->root_fd, commit->destination, O_RDONLY | O_DIRECTORY);
    if (into < 0) {
        snprintf(commit->problem, sizeof commit->problem, "the destination cannot be used: %s",
                 strerror(-into));
        error = into;
    } else {
        error = merge_all(commit, into);
    }
    if (error)
        remove_made(commit, kept);
    return error;
}
