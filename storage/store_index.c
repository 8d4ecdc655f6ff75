/* The index of a store: a table of slots by hash, in memory. */
#include "storage/store_internal.h"

#include <stdlib.h>
#include <string.h>

#define TABLE_FIRST 1024u

/* The hash is uniform as it is, and nobody can choose its value. */
static uint32_t place_of(const struct store *store, const struct store_hash *hash)
{
    uint32_t first;
    memcpy(&first, hash->bytes, sizeof first);
    return first & (store->table_size - 1);
}

struct blob *store_find(struct store *store, const struct store_hash *hash)
{
    if (!store->table_size)
        return NULL;
    for (uint32_t at = place_of(store, hash); store->table[at];
         at = (at + 1) & (store->table_size - 1)) {
        struct blob *blob = &store->blobs[store->table[at] - 1];
        if (memcmp(&blob->record.hash, hash, sizeof *hash) == 0)
            return blob;
    }
    return NULL;
}

static void enter(struct store *store, uint32_t slot)
{
    uint32_t at = place_of(store, &store->blobs[slot].record.hash);
    while (store->table[at])
        at = (at + 1) & (store->table_size - 1);
    store->table[at] = slot + 1;
}

static bool grow_table(struct store *store)
{
    uint32_t size = store->table_size ? store->table_size * 2 : TABLE_FIRST;
    uint32_t *table = calloc(size, sizeof *table);
    if (!table)
        return false;
    free(store->table);
    store->table = table;
    store->table_size = size;
    for (uint32_t slot = 0; slot < store->blob_count; slot++)
        if (store->blobs[slot].pack != UINT32_MAX)
            enter(store, slot);
    return true;
}

static bool grow_slots(struct store *store)
{
    uint32_t capacity = store->blob_capacity ? store->blob_capacity * 2 : 256;
    struct blob *blobs = realloc(store->blobs, capacity * sizeof *blobs);
    if (!blobs)
        return false;
    store->blobs = blobs;
    uint32_t *free_slots = realloc(store->free_slots, capacity * sizeof *free_slots);
    if (!free_slots)
        return false;
    store->free_slots = free_slots;
    store->blob_capacity = capacity;
    return true;
}

struct blob *store_insert(struct store *store, const struct store_hash *hash)
{
    if ((store->live_count + 1) * 2 > store->table_size && !grow_table(store))
        return NULL;
    if (!store->free_count && store->blob_count == store->blob_capacity && !grow_slots(store))
        return NULL;
    uint32_t slot =
        store->free_count ? store->free_slots[--store->free_count] : store->blob_count++;
    store->blobs[slot] = (struct blob){.record.hash = *hash};
    store->live_count++;
    enter(store, slot);
    return &store->blobs[slot];
}

void store_forget(struct store *store, struct blob *blob)
{
    uint32_t slot = (uint32_t)(blob - store->blobs), mask = store->table_size - 1;
    uint32_t hole = place_of(store, &blob->record.hash);
    while (store->table[hole] != slot + 1)
        hole = (hole + 1) & mask;
    /* What was put behind it because of it moves up, so that no search ends too early. */
    for (uint32_t at = (hole + 1) & mask; store->table[at]; at = (at + 1) & mask) {
        uint32_t home = place_of(store, &store->blobs[store->table[at] - 1].record.hash);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            store->table[hole] = store->table[at];
            hole = at;
        }
    }
    store->table[hole] = 0;
    blob->pack = UINT32_MAX;
    store->free_slots[store->free_count++] = slot;
    store->live_count--;
}
