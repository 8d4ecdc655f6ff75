/* A hash map from text to intrusive entries. The map owns its buckets alone; keys are borrowed from
 * the elements. Keys that a stranger chooses cannot be made to collide: each map has a random seed.
 * One thread at a time. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct map_entry {
    struct map_entry *next;
    const char *key; /* borrowed from the element that embeds this */
    uint64_t hash;
};

struct map {
    struct map_entry **buckets;
    size_t bucket_count, count;
    uint64_t seed;
};

/* Zero-initialised a map is empty. 0 or HEARTH_ENOMEMORY; the key must not be in the map yet. */
int map_insert(struct map *map, struct map_entry *entry, const char *key);
struct map_entry *map_find(const struct map *map, const char *key);
void map_remove(struct map *map, struct map_entry *entry);
/* Frees the buckets, not the elements. */
void map_free(struct map *map);
