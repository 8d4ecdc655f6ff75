/* A tree as a sorted list of entries, in memory: what a scan of a guest saw, or what a manifest
 * holds. Pure; one thread at a time. */
#pragma once

#include "base/failure.h"
#include "storage/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TREE_ENTRIES_MAX 1000000u
#define TREE_PATH_MAX 4095

enum tree_type { TREE_FILE = 1, TREE_DIRECTORY = 2, TREE_SYMLINK = 3 };

struct tree_entry {
    const char *path;        /* relative, clean; bytes, not necessarily UTF-8 */
    const char *link_target; /* of a symlink */
    const char *hard_link;   /* of a file: the first path that is the same file; NULL */
    enum tree_type type;
    uint32_t mode, uid, gid; /* 07777 */
    uint64_t size;           /* of a file */
    int64_t mtime_ns;
    struct store_hash content; /* of a file, where hashed */
    bool hashed;
    /* What only a scan knows. */
    bool recent; /* it may have changed since without showing it */
    int64_t ctime_ns;
    uint64_t inode;
    uint32_t links;
    uint32_t order; /* in which it was added; tree_list_sort's */
};

struct tree_block;

struct tree_list {
    struct tree_entry *entries; /* by path, as strcmp orders: parents first */
    size_t count, capacity;
    struct tree_block *blocks; /* the texts */
};

void tree_list_free(struct tree_list *list);
/* Copies entry and its texts to the end. HEARTH_ENOMEMORY; HEARTH_ETOOLARGE `tree_too_large`. */
int tree_list_add(struct tree_list *list, const struct tree_entry *entry,
                  struct hearth_failure *failure);
/* A copy of length bytes with a NUL, that lives as long as the list; NULL: out of memory. */
char *tree_list_text(struct tree_list *list, const char *data, size_t length);
/* Puts it in order; of entries with one path the last that was added stays. */
void tree_list_sort(struct tree_list *list);
struct tree_entry *tree_list_find(const struct tree_list *list, const char *path);
/* A path as a tree may have it: relative, no empty component, no "." and no "..". */
bool tree_path_good(const char *path);
/* Sets hard_link of files that are one (same inode) from what the scan told; a content that is
 * known of one name is known of all. */
int tree_list_group_links(struct tree_list *list, struct hearth_failure *failure);
/* Sum of the files' sizes, a file with several names once. */
uint64_t tree_list_bytes(const struct tree_list *list);

/* How much an old entry must agree with a new one for its content to be taken over. */
enum tree_trust {
    TREE_TRUST_SCAN, /* every time, inode and size, and the old one was not recent */
    TREE_TRUST_TIME, /* size and mtime: nothing but the agent has written since */
};
/* What is there now: `scanned` (sorted; taken over, texts too), and where it is a difference
 * (from_base) also those of old that are neither in it nor in removed (sorted). Contents that are
 * known of old stay known. */
int tree_list_merge(struct tree_list *scanned, const struct tree_list *old, bool from_base,
                    const char *const *removed, size_t removed_count, enum tree_trust trust,
                    struct hearth_failure *failure);
