#include "base/map.h"

#include "base/failure.h"
#include "base/id.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a from a random offset, then a final mix (MurmurHash3's) so that the low bits depend on all
 * of it. */
static uint64_t hash_text(uint64_t seed, const char *key)
{
    uint64_t hash = seed ^ UINT64_C(14695981039346656037);
    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * UINT64_C(1099511628211);
    hash ^= hash >> 33;
    hash *= UINT64_C(0xff51afd7ed558ccd);
    return hash ^ hash >> 33;
}

static int grow(struct map *map)
{
    size_t count = map->bucket_count ? map->bucket_count * 2 : 16;
    struct map_entry **buckets = calloc(count, sizeof *buckets);
    if (!buckets)
        return HEARTH_ENOMEMORY;
    for (size_t i = 0; i < map->bucket_count; i++)
        for (struct map_entry *entry = map->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            entry->next = buckets[entry->hash & (count - 1)];
            buckets[entry->hash & (count - 1)] = entry;
        }
    free(map->buckets);
    map->buckets = buckets;
    map->bucket_count = count;
    return 0;
}

int map_insert(struct map *map, struct map_entry *entry, const char *key)
{
    if (!map->seed)
        id_random_bytes(&map->seed, sizeof map->seed);
    if (map->count >= map->bucket_count) {
        int error = grow(map);
        if (error)
            return error;
    }
    entry->key = key;
    entry->hash = hash_text(map->seed, key);
    struct map_entry **bucket = &map->buckets[entry->hash & (map->bucket_count - 1)];
    entry->next = *bucket;
    *bucket = entry;
    map->count++;
    return 0;
}

struct map_entry *map_find(const struct map *map, const char *key)
{
    if (!map->count)
        return NULL;
    uint64_t hash = hash_text(map->seed, key);
    struct map_entry *entry = map->buckets[hash & (map->bucket_count - 1)];
    while (entry && (entry->hash != hash || strcmp(entry->key, key) != 0))
        entry = entry->next;
    return entry;
}

void map_remove(struct map *map, struct map_entry *entry)
{
    struct map_entry **link = &map->buckets[entry->hash & (map->bucket_count - 1)];
    while (*link && *link != entry)
        link = &(*link)->next;
    if (*link) {
        *link = entry->next;
        map->count--;
    }
}

void map_free(struct map *map)
{
    free(map->buckets);
    *map = (struct map){0};
}
