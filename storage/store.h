/* One tenant's content-addressed store: blobs by their hash in pack files, counted references, and
 * nothing shared with another tenant's. There is no index on disk: what a crash leaves is whole
 * records, and a start reads their headers, counts the references anew from the roots that the
 * database names, and drops the rest. Blocking: for workers. Any thread; one lock a store. */
#pragma once

#include "storage/pack.h"

struct store;
struct store_session;

/* Opens STORE_DIR/NAME, making it where it is missing. The caller then names each root by
 * store_keep and ends with store_collect. Gives a store. */
int store_open(struct store **ret_store, int dir_fd, const char *name,
               struct hearth_failure *failure);
void store_close(struct store *store); /* sessions must have ended */

/* One more reference to a root. HEARTH_EIO `store_damaged` where it, or something below, is
 * missing. */
int store_keep(struct store *store, const struct store_hash *root, struct hearth_failure *failure);
/* One less: what nobody refers to any more goes, and its room is used again. */
void store_release(struct store *store, const struct store_hash *root);
/* Gives room back: packs that are empty or for the most part dead are rewritten. `all` rewrites
 * every one with anything dead in it. */
int store_collect(struct store *store, bool all, struct hearth_failure *failure);

/* A session holds what it puts or finds until it ends. */
struct store_session *store_begin(struct store *store); /* NULL: out of memory */
/* Puts a blob of data, or finds that it is there. */
int store_put(struct store_session *session, const void *data, size_t length,
              struct store_hash *ret_hash, struct hearth_failure *failure);
/* A node: `count` children, each held by this session, and a payload. */
int store_put_node(struct store_session *session, const struct store_hash *children, uint32_t count,
                   const void *payload, size_t length, struct store_hash *ret_hash,
                   struct hearth_failure *failure);
/* The hash that such a node would have. */
int store_hash_node(const struct store_hash *children, uint32_t count, const void *payload,
                    size_t length, struct store_hash *ret_hash, struct hearth_failure *failure);
/* Is it there? Then the session holds it. */
bool store_hold(struct store_session *session, const struct store_hash *hash);
/* Everything put is durable when it returns, and root has one more reference: the caller's, to be
 * given back by store_release. Ends the session, also on error. root NULL: only ends it. */
int store_commit(struct store_session *session, const struct store_hash *root,
                 struct hearth_failure *failure);
void store_abort(struct store_session *session);
/* Bytes that the session has added to the packs. */
uint64_t store_added(const struct store_session *session);

/* A blob into a buffer of the caller's, PACK_BLOB_MAX bytes. HEARTH_ENOTFOUND, HEARTH_EIO
 * `store_damaged`. */
int store_get(struct store *store, const struct store_hash *hash, void *out, size_t *ret_length,
              struct hearth_failure *failure);
/* The parts of a node's bytes; false where they are none. */
struct store_node {
    const unsigned char *children; /* count hashes */
    uint32_t count;
    const unsigned char *payload;
    size_t length;
};
bool store_node_parse(const void *data, size_t length, struct store_node *ret_node);

struct store_report {
    uint64_t blobs, roots;
    uint64_t raw_bytes, stored_bytes; /* of live blobs; in the packs */
    uint64_t dead_bytes;              /* in the packs, waiting for their pack to be rewritten */
    uint32_t packs;
    uint64_t damaged,
        missing;         /* blobs whose bytes are wrong; references to blobs that are not there */
    uint64_t miscounted; /* blobs whose count is not the number of references to it */
};
/* Counts. With `deep` every live blob is read and its hash and references are checked. */
int store_verify(struct store *store, bool deep, struct store_report *ret_report,
                 struct hearth_failure *failure);
