/* What the store's own files share; the lock is held wherever one of these is used. */
#pragma once

#include "storage/store.h"

#include <pthread.h>

struct blob {
    struct pack_record record;
    uint64_t offset;
    uint32_t pack;       /* index in store::packs; UINT32_MAX: the slot is free */
    uint32_t references; /* from nodes and roots */
    uint32_t holds;      /* from sessions */
    uint32_t roots;      /* of the references, those of roots */
    uint32_t seen;       /* store_verify's own count */
    bool counted;        /* a node whose references to its children are counted */
};

struct store {
    pthread_mutex_t lock;
    int dir_fd;
    struct pack *packs;
    uint32_t pack_count, next_number;
    struct blob *blobs;
    uint32_t blob_count, blob_capacity, free_count;
    uint32_t *free_slots;
    uint32_t *table; /* slot + 1, 0 is empty; linear probing */
    uint32_t table_size;
    uint32_t live_count;
    unsigned char *scratch; /* PACK_HEADER_SIZE + PACK_BLOB_MAX */
    unsigned char *node;    /* PACK_BLOB_MAX: a node that is being looked into */
    void *compressor;       /* ZSTD_CCtx */
    bool broken;            /* a sync failed: nothing more is written */
};

/* store_index.c */
struct blob *store_find(struct store *store, const struct store_hash *hash);
/* Makes a slot for a hash that is not there. NULL: out of memory. */
struct blob *store_insert(struct store *store, const struct store_hash *hash);
void store_forget(struct store *store, struct blob *blob);

/* store.c */
int store_add_pack(struct store *store,
                   struct hearth_failure *failure); /* an empty one, the last */
struct pack *store_pack_for(struct store *store, size_t room, struct hearth_failure *failure);
/* Counts a node's references to its children, which a fresh node does once. */
int store_count_children(struct store *store, struct blob *blob, struct hearth_failure *failure);
/* Drops the blob, and what only it referred to, where nobody needs it. */
void store_maybe_drop(struct store *store, struct blob *blob);
