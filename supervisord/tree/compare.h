/* What has become of a tree: the difference of two lists, with renames. Pure; one thread. */
#pragma once

#include "supervisord/tree/entries.h"

enum change_status { CHANGE_ADDED, CHANGE_MODIFIED, CHANGE_DELETED, CHANGE_TYPE };

struct tree_change {
    const struct tree_entry *old, *new; /* NULL where there is none */
    size_t new_index;                   /* of new in its list */
    enum change_status status;
    bool content; /* the content (a link's target) is another, or is not known to be the same */
    bool known;   /* content is known for certain */
    /* A deleted and an added one that are one file renamed point at each other. */
    struct tree_change *partner;
    int similarity;
};

struct tree_changes {
    struct tree_change *changes; /* by path */
    size_t count, capacity;
};

/* Those of old and new that differ, under one of the paths (count 0: all). Times do not count. */
int tree_compare(const struct tree_list *old, const struct tree_list *new, const char *const *paths,
                 size_t path_count, struct tree_changes *ret_changes,
                 struct hearth_failure *failure);
void tree_changes_free(struct tree_changes *changes);
/* Pairs deleted and added files of the same content. */
int tree_pair_exact(struct tree_changes *changes, struct hearth_failure *failure);
bool tree_path_under(const char *path, const char *const *paths, size_t path_count);
/* As git sees it. */
uint32_t tree_git_mode(const struct tree_entry *entry);
