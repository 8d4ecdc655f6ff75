/* A file's content as the store has it: one blob, or for a large file a node of blobs of
 * CONTENT_CHUNK each, so that no file needs its size in memory. The same content always has the
 * same hash. For workers. */
#pragma once

#include "base/buf.h"
#include "storage/store.h"

#define CONTENT_CHUNK ((size_t)1 << 20)

/* Zero-initialised with a session (NULL: the hash alone is wanted) it is ready for a file. */
struct content {
    struct store_session *session;
    struct buf chunk;
    struct store_hash *hashes;
    uint32_t count, capacity;
    uint64_t size;
};
int content_add(struct content *content, const void *data, size_t length,
                struct hearth_failure *failure);
/* The hash of what was added; it is ready for the next file then, whatever it gives. */
int content_end(struct content *content, struct store_hash *ret_hash,
                struct hearth_failure *failure);
void content_free(struct content *content);

/* Gives a stored file in pieces of at most CONTENT_CHUNK. size is what its entry says. scratch is
 * PACK_BLOB_MAX bytes. visit returns 0 or a negative error. */
struct content_reader {
    struct store *store;
    struct store_hash *chunks; /* NULL: the blob itself */
    uint32_t count, at;
    struct store_hash whole;
    uint64_t left;
};
int content_open(struct content_reader *reader, struct store *store, const struct store_hash *hash,
                 uint64_t size, void *scratch, struct hearth_failure *failure);
/* The next piece in scratch; length 0 at the end. */
int content_next(struct content_reader *reader, void *scratch, size_t *ret_length,
                 struct hearth_failure *failure);
void content_close(struct content_reader *reader);
