/* Puts a workspace's tree into its tenant's store: what is known to be unchanged is not read again,
 * and an unchanged tree costs nothing. Loop thread. */
#pragma once

#include "supervisord/tree/work.h"

struct captured {
    struct store_hash
        root; /* with a reference, which the callee gives back; the empty root: none */
    uint64_t entry_count, bytes;
};

/* result is NULL on error: the workspace's state, the agent, the store, HEARTH_ETOOLARGE
 * `tree_too_large`, HEARTH_EQUOTA `quota_store`. */
typedef void (*tree_captured)(void *arg, int error, const struct hearth_failure *failure,
                              const struct captured *result);
/* hints: the root of a tree that was put there just now, whose contents need not be read (borrowed
 * for the call); NULL. */
void tree_capture(struct workspace *workspace, const struct store_hash *hints, tree_captured done,
                  void *arg);

/* For works that read files: a file that came, and what it turned out to be. On a worker. The entry
 * is removed (type 0) where it is gone. */
struct content;
int tree_entry_read(struct tree_work *work, struct tree_entry *entry, struct content *content,
                    const Hearth__Agent__V1__TreeReadItem *item, struct hearth_failure *failure);
/* Drops the entries that were removed. */
void tree_list_compact(struct tree_list *list);
