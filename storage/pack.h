/* Pack files: where a store keeps its blobs, one record after the other, only ever appended. A
 * record is a fixed header and the blob, compressed by zstd where that makes it smaller. A pack
 * that was cut short (a kill, a full disk) ends at its last whole record. One thread at a time. */
#pragma once

#include "base/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACK_BLOB_MAX ((size_t)2 << 20) /* of one blob, before compression */
#define PACK_SIZE_MAX ((uint64_t)64 << 20)
#define PACK_HEADER_SIZE 48

struct store_hash {
    unsigned char bytes[32]; /* BLAKE2b of the kind and the content */
};

/* A node begins with the number of blobs that it refers to and their hashes. */
enum store_kind { STORE_DATA = 1, STORE_NODE = 2 };

struct pack_record {
    struct store_hash hash;
    enum store_kind kind;
    bool compressed;
    uint32_t stored, raw; /* bytes in the pack without the header; of the blob */
};

struct pack {
    uint32_t number; /* file "pack-NUMBER" */
    int fd;
    uint64_t size;    /* written, or waiting in the writer */
    uint64_t live;    /* of it, records that somebody needs */
    bool unsynced;    /* written since the last sync */
    unsigned entries; /* live records */
};

/* Opens pack number in dir_fd, or makes it. */
int pack_open(struct pack *ret_pack, int dir_fd, uint32_t number, bool make,
              struct hearth_failure *failure);
void pack_close(struct pack *pack);
int pack_remove(struct pack *pack, int dir_fd); /* closes it too; 0 or a negative errno */

/* Gives each whole record in order and cuts off what follows the last. visit returns 0 or a
 * negative error, which ends it. */
int pack_scan(struct pack *pack,
              int (*visit)(void *arg, uint64_t offset, const struct pack_record *record), void *arg,
              struct hearth_failure *failure);

/* Compresses (scratch is PACK_HEADER_SIZE + PACK_BLOB_MAX bytes and holds the record after), and
 * appends. context is a ZSTD_CCtx. */
int pack_append(struct pack *pack, struct pack_record *record, const void *data, void *scratch,
                void *context, uint64_t *ret_offset, struct hearth_failure *failure);
/* Copies a record as it is. */
int pack_copy(struct pack *to, const struct pack *from, uint64_t offset,
              const struct pack_record *record, void *scratch, uint64_t *ret_offset,
              struct hearth_failure *failure);
/* The blob into out (record.raw bytes). HEARTH_EIO `store_damaged` where it does not have its hash.
 */
int pack_read(const struct pack *pack, uint64_t offset, const struct pack_record *record, void *out,
              void *scratch, struct hearth_failure *failure);
int pack_sync(struct pack *pack, struct hearth_failure *failure);
int pack_cut(struct pack *pack, uint64_t size); /* 0 or a negative errno */

void store_hash_blob(struct store_hash *ret_hash, enum store_kind kind, const void *data,
                     size_t length);
