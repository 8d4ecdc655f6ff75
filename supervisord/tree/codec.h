/* Entries as bytes: the pages of a manifest, and what is known of a guest's tree. What is decoded
 * may be damaged or forged: everything is checked. Pure. */
#pragma once

#include "base/buf.h"
#include "supervisord/tree/entries.h"

/* Appends entry; previous is the path of the one before ("" at the start of a page), whose
 * beginning is not repeated. with_scan adds what only a scan knows, and the content itself; else it
 * is left to the page's children. */
int tree_entry_encode(struct buf *out, const struct tree_entry *entry, const char *previous,
                      bool with_scan);

struct tree_decoder {
    const unsigned char *data;
    size_t length, at;
    bool with_scan;
    char path[TREE_PATH_MAX + 1]; /* of the last entry */
    char other[TREE_PATH_MAX + 1];
};
/* 1 with an entry, whose texts are borrowed until the next call; 0 at the end; HEARTH_EIO
 * `store_damaged`. */
int tree_entry_decode(struct tree_decoder *decoder, struct tree_entry *ret_entry,
                      struct hearth_failure *failure);

/* Numbers, seven bits a byte, the lowest first. */
int tree_number_encode(struct buf *out, uint64_t number);
bool tree_number_decode(const unsigned char *data, size_t length, size_t *at, uint64_t *ret_number);
