/* What keeps a store small and tells whether it is whole. */
#include "storage/store_internal.h"

#include <stdlib.h>
#include <string.h>

static uint64_t dead_of(const struct pack *pack)
{
    return pack->size - pack->live;
}

/* Blobs that came with the packs and that no root led to. */
static void drop_unneeded(struct store *store)
{
    for (uint32_t slot = 0; slot < store->blob_count; slot++)
        store_maybe_drop(store, &store->blobs[slot]);
}

static int move_out(struct store *store, uint32_t index, struct hearth_failure *failure)
{
    int error = 0;
    for (uint32_t slot = 0; slot < store->blob_count && !error; slot++) {
        struct blob *blob = &store->blobs[slot];
        if (blob->pack != index)
            continue;
        uint64_t offset;
        size_t length = PACK_HEADER_SIZE + blob->record.stored;
        struct pack *to = store_pack_for(store, length, failure);
        if (!to)
            return (int)failure->error;
        error = pack_copy(to, &store->packs[index], blob->offset, &blob->record, store->scratch,
                          &offset, failure);
        if (error)
            break;
        to = &store->packs[store->pack_count - 1];
        store->packs[index].live -= length;
        store->packs[index].entries--;
        to->live += length;
        to->entries++;
        blob->pack = store->pack_count - 1;
        blob->offset = offset;
    }
    return error;
}

/* The place of a pack that is gone is taken by the last one. */
static void remove_pack(struct store *store, uint32_t index)
{
    pack_remove(&store->packs[index], store->dir_fd);
    uint32_t last = --store->pack_count;
    if (index == last)
        return;
    /* Order matters: the last is the one that is appended to. */
    memmove(&store->packs[index], &store->packs[index + 1], (last - index) * sizeof *store->packs);
    for (uint32_t slot = 0; slot < store->blob_count; slot++)
        if (store->blobs[slot].pack != UINT32_MAX && store->blobs[slot].pack > index)
            store->blobs[slot].pack--;
}

static bool worth_it(const struct pack *pack, bool all)
{
    uint64_t dead = dead_of(pack);
    return dead && (all || dead > pack->live);
}

/* Rewrites what was there when it began, into packs that come after. */
static int rewrite(struct store *store, bool all, struct hearth_failure *failure)
{
    uint32_t end = store->next_number;
    bool found = false;
    for (uint32_t i = 0; i < store->pack_count; i++)
        found |= worth_it(&store->packs[i], all);
    if (!found)
        return 0;
    /* What is moved goes to the last pack: never to one that is itself to go. */
    int error =
        worth_it(&store->packs[store->pack_count - 1], all) ? store_add_pack(store, failure) : 0;
    for (uint32_t i = 0; i < store->pack_count && !error;) {
        if (store->packs[i].number >= end || !worth_it(&store->packs[i], all)) {
            i++;
            continue;
        }
        if (store->packs[i].entries)
            error = move_out(store, i, failure);
        for (uint32_t k = i + 1; k < store->pack_count && !error; k++)
            error = pack_sync(&store->packs[k], failure);
        if (!error)
            remove_pack(store, i);
    }
    return error;
}

int store_collect(struct store *store, bool all, struct hearth_failure *failure)
{
    pthread_mutex_lock(&store->lock);
    drop_unneeded(store);
    int error = store->broken ? 0 : rewrite(store, all, failure);
    pthread_mutex_unlock(&store->lock);
    return error;
}

/* Verifying: counts every reference anew. */

static int look_into(struct store *store, const struct blob *blob, struct store_report *report)
{
    struct hearth_failure failure;
    struct store_node node;
    if (pack_read(&store->packs[blob->pack], blob->offset, &blob->record, store->node,
                  store->scratch, &failure) ||
        (blob->record.kind == STORE_NODE &&
         !store_node_parse(store->node, blob->record.raw, &node))) {
        report->damaged++;
        return 0;
    }
    for (uint32_t i = 0; blob->record.kind == STORE_NODE && i < node.count; i++) {
        struct store_hash hash;
        memcpy(&hash, node.children + (size_t)i * sizeof hash, sizeof hash);
        struct blob *child = store_find(store, &hash);
        if (child)
            child->seen++;
        else
            report->missing++;
    }
    return 0;
}

int store_verify(struct store *store, bool deep, struct store_report *ret_report,
                 struct hearth_failure *failure)
{
    struct store_report report = {0};
    int error = 0;
    (void)failure;
    pthread_mutex_lock(&store->lock);
    for (uint32_t i = 0; i < store->pack_count; i++) {
        report.packs++;
        report.stored_bytes += store->packs[i].live;
        report.dead_bytes += dead_of(&store->packs[i]);
    }
    for (uint32_t slot = 0; slot < store->blob_count; slot++)
        store->blobs[slot].seen = 0;
    for (uint32_t slot = 0; slot < store->blob_count && !error; slot++) {
        const struct blob *blob = &store->blobs[slot];
        if (blob->pack == UINT32_MAX)
            continue;
        report.blobs++;
        report.raw_bytes += blob->record.raw;
        report.roots += blob->roots != 0;
        if (deep)
            error = look_into(store, blob, &report);
    }
    for (uint32_t slot = 0; deep && slot < store->blob_count; slot++) {
        const struct blob *blob = &store->blobs[slot];
        if (blob->pack != UINT32_MAX && blob->seen + blob->roots != blob->references)
            report.miscounted++;
    }
    pthread_mutex_unlock(&store->lock);
    *ret_report = report;
    return error;
}
