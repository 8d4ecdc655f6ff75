#include "storage/store_internal.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for the store");
}

static int missing(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_EIO, "store_damaged", "a stored blob is not there");
}

bool store_node_parse(const void *data, size_t length, struct store_node *ret_node)
{
    uint32_t count;
    if (length < sizeof count)
        return false;
    memcpy(&count, data, sizeof count);
    count = le32toh(count);
    if (count > (length - sizeof count) / sizeof(struct store_hash))
        return false;
    const unsigned char *children = (const unsigned char *)data + sizeof count;
    size_t used = (size_t)count * sizeof(struct store_hash);
    *ret_node = (struct store_node){.children = children,
                                    .count = count,
                                    .payload = children + used,
                                    .length = length - sizeof count - used};
    return true;
}

/* Packs. */

static int add_pack(struct store *store, uint32_t number, bool make, struct hearth_failure *failure)
{
    struct pack *packs = realloc(store->packs, (store->pack_count + 1) * sizeof *packs);
    if (!packs)
        return no_memory(failure);
    store->packs = packs;
    int error = pack_open(&packs[store->pack_count], store->dir_fd, number, make, failure);
    if (error)
        return error;
    store->pack_count++;
    if (number >= store->next_number)
        store->next_number = number + 1;
    return 0;
}

int store_add_pack(struct store *store, struct hearth_failure *failure)
{
    return add_pack(store, store->next_number, true, failure);
}

struct pack *store_pack_for(struct store *store, size_t room, struct hearth_failure *failure)
{
    if (store->broken) {
        hearth_fail(failure, HEARTH_EIO, "storage_stopped", "the store cannot be written any more");
        return NULL;
    }
    struct pack *last = store->pack_count ? &store->packs[store->pack_count - 1] : NULL;
    if (last && last->fd >= 0 && last->size + room <= PACK_SIZE_MAX)
        return last;
    return store_add_pack(store, failure) ? NULL : &store->packs[store->pack_count - 1];
}

static int read_blob(struct store *store, const struct blob *blob, void *out,
                     struct hearth_failure *failure)
{
    return pack_read(&store->packs[blob->pack], blob->offset, &blob->record, out, store->scratch,
                     failure);
}

/* References. */

static int node_of(struct store *store, const struct blob *blob, struct store_node *ret_node,
                   struct hearth_failure *failure)
{
    int error = read_blob(store, blob, store->node, failure);
    if (!error && !store_node_parse(store->node, blob->record.raw, ret_node))
        error = hearth_fail(failure, HEARTH_EIO, "store_damaged", "a stored node is malformed");
    return error;
}

static struct blob *child_at(struct store *store, const struct store_node *node, uint32_t index)
{
    struct store_hash hash;
    memcpy(&hash, node->children + (size_t)index * sizeof hash, sizeof hash);
    return store_find(store, &hash);
}

int store_count_children(struct store *store, struct blob *blob, struct hearth_failure *failure)
{
    struct store_node node;
    if (blob->record.kind != STORE_NODE || blob->counted)
        return 0;
    int error = node_of(store, blob, &node, failure);
    for (uint32_t i = 0; !error && i < node.count; i++)
        if (!child_at(store, &node, i))
            error = missing(failure);
    if (error)
        return error;
    for (uint32_t i = 0; i < node.count; i++)
        child_at(store, &node, i)->references++;
    blob->counted = true;
    return 0;
}

/* A list of slots that are still to be looked at. */
struct pending {
    uint32_t *slots;
    size_t count, capacity;
};

static bool push(struct pending *pending, uint32_t slot)
{
    if (pending->count == pending->capacity) {
        size_t capacity = pending->capacity ? pending->capacity * 2 : 64;
        uint32_t *slots = realloc(pending->slots, capacity * sizeof *slots);
        if (!slots)
            return false;
        pending->slots = slots;
        pending->capacity = capacity;
    }
    pending->slots[pending->count++] = slot;
    return true;
}

static bool unneeded(const struct blob *blob)
{
    return blob->pack != UINT32_MAX && !blob->references && !blob->holds;
}

void store_maybe_drop(struct store *store, struct blob *blob)
{
    struct pending pending = {0};
    struct hearth_failure failure;
    if (unneeded(blob))
        push(&pending, (uint32_t)(blob - store->blobs));
    /* Where memory is short, or a node cannot be read, its children stay until the next start. */
    while (pending.count) {
        struct blob *dead = &store->blobs[pending.slots[--pending.count]];
        struct store_node node;
        if (!unneeded(dead))
            continue;
        if (dead->counted && node_of(store, dead, &node, &failure) == 0)
            for (uint32_t i = 0; i < node.count; i++) {
                struct blob *child = child_at(store, &node, i);
                if (child && child->references)
                    child->references--;
                if (child && unneeded(child))
                    push(&pending, (uint32_t)(child - store->blobs));
            }
        struct pack *pack = &store->packs[dead->pack];
        pack->live -= PACK_HEADER_SIZE + dead->record.stored;
        pack->entries--;
        store_forget(store, dead);
    }
    free(pending.slots);
}

/* Counts everything below a root, each node once: children before the parent's own mark, so that a
 * failure leaves nothing counted twice. */
static int count_below(struct store *store, struct blob *root, struct hearth_failure *failure)
{
    struct pending pending = {0};
    int error = push(&pending, (uint32_t)(root - store->blobs)) ? 0 : no_memory(failure);
    while (!error && pending.count) {
        struct blob *blob = &store->blobs[pending.slots[--pending.count]];
        if (blob->record.kind != STORE_NODE || blob->counted)
            continue;
        struct store_node node;
        error = store_count_children(store, blob, failure);
        if (!error)
            error = node_of(store, blob, &node, failure);
        for (uint32_t i = 0; !error && i < node.count; i++)
            if (!push(&pending, (uint32_t)(child_at(store, &node, i) - store->blobs)))
                error = no_memory(failure);
    }
    free(pending.slots);
    return error;
}

int store_keep(struct store *store, const struct store_hash *root, struct hearth_failure *failure)
{
    pthread_mutex_lock(&store->lock);
    struct blob *blob = store_find(store, root);
    int error = blob ? count_below(store, blob, failure) : missing(failure);
    if (!error) {
        blob->references++;
        blob->roots++;
    }
    pthread_mutex_unlock(&store->lock);
    return error;
}

void store_release(struct store *store, const struct store_hash *root)
{
    pthread_mutex_lock(&store->lock);
    struct blob *blob = store_find(store, root);
    if (blob && blob->roots) {
        blob->references--;
        blob->roots--;
        store_maybe_drop(store, blob);
    }
    pthread_mutex_unlock(&store->lock);
}

int store_get(struct store *store, const struct store_hash *hash, void *out, size_t *ret_length,
              struct hearth_failure *failure)
{
    pthread_mutex_lock(&store->lock);
    const struct blob *blob = store_find(store, hash);
    int error = blob ? read_blob(store, blob, out, failure)
                     : hearth_fail(failure, HEARTH_ENOTFOUND, "blob_not_found",
                                   "there is no such blob in the store");
    if (!error)
        *ret_length = blob->record.raw;
    pthread_mutex_unlock(&store->lock);
    return error;
}

/* Opening. */

struct scanning {
    struct store *store;
    uint32_t pack;
};

static int note_record(void *arg, uint64_t offset, const struct pack_record *record)
{
    const struct scanning *scanning = arg;
    struct store *store = scanning->store;
    if (store_find(store, &record->hash))
        return 0; /* a pack was being rewritten when the daemon ended: one copy is enough */
    struct blob *blob = store_insert(store, &record->hash);
    if (!blob)
        return HEARTH_ENOMEMORY;
    blob->record = *record;
    blob->offset = offset;
    blob->pack = scanning->pack;
    store->packs[scanning->pack].live += PACK_HEADER_SIZE + record->stored;
    store->packs[scanning->pack].entries++;
    return 0;
}

static int compare_numbers(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static int open_packs(struct store *store, struct hearth_failure *failure)
{
    auto_free uint32_t *numbers = NULL;
    size_t count = 0;
    int fd = openat(store->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory)
        return hearth_fail_errno(failure, errno, "store_failed", "the store cannot be listed");
    for (struct dirent *file; (file = readdir(directory));) {
        unsigned number;
        int used = 0;
        if (sscanf(file->d_name, "pack-%8u%n", &number, &used) != 1 || file->d_name[used])
            continue;
        uint32_t *grown = realloc(numbers, (count + 1) * sizeof *grown);
        if (!grown)
            return no_memory(failure);
        numbers = grown;
        numbers[count++] = number;
    }
    if (count)
        qsort(numbers, count, sizeof *numbers, compare_numbers);
    int error = 0;
    for (size_t i = 0; !error && i < count; i++) {
        struct scanning scanning = {store, store->pack_count};
        error = add_pack(store, numbers[i], false, failure);
        if (!error)
            error = pack_scan(&store->packs[scanning.pack], note_record, &scanning, failure);
    }
    return error;
}

int store_open(struct store **ret_store, int dir_fd, const char *name,
               struct hearth_failure *failure)
{
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return no_memory(failure);
    store->next_number = 1;
    pthread_mutex_init(&store->lock, NULL);
    if (mkdirat(dir_fd, name, 0700) == 0)
        fsync(dir_fd);
    store->dir_fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    store->scratch = malloc(PACK_HEADER_SIZE + PACK_BLOB_MAX);
    store->node = malloc(PACK_BLOB_MAX);
    store->compressor = ZSTD_createCCtx();
    int error = 0;
    if (store->dir_fd < 0)
        error = hearth_fail_errno(failure, errno, "store_failed", "the store cannot be opened");
    else if (!store->scratch || !store->node || !store->compressor)
        error = no_memory(failure);
    if (!error)
        error = open_packs(store, failure);
    if (error) {
        store_close(store);
        return error;
    }
    *ret_store = store;
    return 0;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    for (uint32_t i = 0; i < store->pack_count; i++)
        pack_close(&store->packs[i]);
    cleanup_close(&store->dir_fd);
    ZSTD_freeCCtx(store->compressor);
    free(store->packs);
    free(store->blobs);
    free(store->free_slots);
    free(store->table);
    free(store->scratch);
    free(store->node);
    pthread_mutex_destroy(&store->lock);
    free(store);
}
