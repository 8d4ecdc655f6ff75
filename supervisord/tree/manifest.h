/* A tree in the store: a root over pages of entries. Where a page ends depends on the names alone,
 * so that a tree that differs in a few files shares all other pages. For workers. */
#pragma once

#include "supervisord/tree/entries.h"

/* An empty tree needs no blob: its root is all zeros. */
bool manifest_is_empty(const struct store_hash *root);

/* Writes a sorted list whose files are hashed and held by session; gives the root, which session
 * holds. The root of an empty list is the empty one. */
int manifest_write(struct store_session *session, const struct tree_list *list,
                   struct store_hash *ret_root, struct hearth_failure *failure);
/* Adds what root holds to an empty list. */
int manifest_read(struct store *store, const struct store_hash *root, struct tree_list *list,
                  struct hearth_failure *failure);
