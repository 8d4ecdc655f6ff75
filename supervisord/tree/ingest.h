/* A checked archive's members put into a tenant's store while they are on their way to a guest, so
 * that a seed is hashed once, whatever number of workspaces it is for. Loop thread. */
#pragma once

#include "supervisord/tree/stores.h"

struct ingest;

/* done once, on the loop, after ingest_end or an error: the root of what was put, with a reference
 * that is the callee's. */
typedef void (*ingest_done)(void *arg, int error, const struct hearth_failure *failure,
                            const struct store_hash *root);
/* Gives an ingest that lives until done. */
struct ingest *ingest_begin(struct stores *stores, const struct tenant_store *store,
                            ingest_done done, void *arg);
/* One TreeItem message. False: the workers are behind; room is called when there is room again. */
bool ingest_feed(struct ingest *ingest, const void *data, size_t length);
void ingest_on_room(struct ingest *ingest, void (*room)(void *arg), void *arg);
/* There are no more; whole false: what came is to be dropped (done tells HEARTH_ECANCELLED). */
void ingest_end(struct ingest *ingest, bool whole);
