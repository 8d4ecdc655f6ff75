/* The files that a patch is about: as they are in the workspace, and as they are to be. A patch is
 * applied to that, in memory, and what differs in the end is what is to be done. Paths are relative
 * to the workspace. Not locked: one thread at a time. */
#pragma once

#include "base/map.h"
#include "supervisord/patch/patch.h"

enum patch_type { PATCH_NOTHING, PATCH_FILE, PATCH_SYMLINK, PATCH_DIRECTORY, PATCH_OTHER };

struct patch_state {
    enum patch_type type;
    uint32_t mode;
    char *content; /* owned; a symlink's is its target */
    size_t length;
};

struct patch_node {
    struct map_entry entry; // patch_tree::nodes
    struct patch_node *next;
    char *path;
    bool behind_link, too_large; /* as it was found */
    struct patch_state base, now;
    bool leaves; /* a file of git's patch takes it away, and has not yet … */
    bool early;  /* … though another one has been put in its place */
    /* As the guest told them, to be told again when it is changed. */
    uint64_t size;
    uint32_t whole_mode;
    int64_t mtime_ns;
};

#define PATCH_MADE_MAX ((size_t)256 << 20) /* contents that one patch may make, together */

struct patch_tree {
    size_t made; /* bytes so far */
    struct map nodes;
    struct patch_node *first, *last; /* in the order that they were added */
};

/* Every path that the patch may be about; names that lead out of the workspace are refused:
 * HEARTH_EINVALID `path_outside_workspace`, field "/patch". */
int patch_tree_begin(struct patch_tree *tree, const struct patch *patch,
                     struct hearth_failure *failure);
struct patch_node *patch_tree_find(const struct patch_tree *tree, const char *path);
/* After base is filled in each node. HEARTH_ECONFLICT `patch_does_not_apply`, `already_exists`;
 * HEARTH_ENOTFOUND `file_not_found`; HEARTH_EINVALID where a path is behind a symlink. */
int patch_tree_apply(struct patch_tree *tree, const struct patch *patch,
                     struct hearth_failure *failure);
enum patch_status { PATCH_SAME, PATCH_ADDED, PATCH_MODIFIED, PATCH_DELETED };
enum patch_status patch_node_status(const struct patch_node *node);
void patch_tree_free(struct patch_tree *tree);
