/* The content of uploads in their tenants' stores: put there by the first workspace that is seeded
 * from one, found there by all others. Loop thread. */
#pragma once

#include "supervisord/tree/ingest.h"

struct supervisor;

/* ready once, never before this returns: with an ingest to be fed and ended by whoever seeds, or
 * NULL where nothing is to be done. */
void seed_tree_open(struct supervisor *supervisor, const char *tenant_id, const char *upload_id,
                    void (*ready)(void *arg, struct ingest *ingest), void *arg);
/* ready once, never before this returns, when what is under way has ended: the root of the upload's
 * tree, or NULL where it is not known. Borrowed for the call. */
void seed_tree_find(struct supervisor *supervisor, const char *tenant_id, const char *upload_id,
                    void (*ready)(void *arg, const struct store_hash *root), void *arg);
