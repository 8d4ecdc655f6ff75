/* Putting blobs in: a session holds what it has put or found, until a root refers to it or the
 * session is given up. */
#include "storage/store_internal.h"

#include "base/cleanup.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

struct store_session {
    struct store *store;
    uint32_t *held; /* slots, one for each hold */
    size_t held_count, held_capacity;
    uint64_t added;
};

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for the store");
}

struct store_session *store_begin(struct store *store)
{
    struct store_session *session = calloc(1, sizeof *session);
    if (session)
        session->store = store;
    return session;
}

uint64_t store_added(const struct store_session *session)
{
    return session->added;
}

static bool hold(struct store_session *session, struct blob *blob)
{
    if (session->held_count == session->held_capacity) {
        size_t capacity = session->held_capacity ? session->held_capacity * 2 : 256;
        uint32_t *held = realloc(session->held, capacity * sizeof *held);
        if (!held)
            return false;
        session->held = held;
        session->held_capacity = capacity;
    }
    session->held[session->held_count++] = (uint32_t)(blob - session->store->blobs);
    blob->holds++;
    return true;
}

bool store_hold(struct store_session *session, const struct store_hash *hash)
{
    pthread_mutex_lock(&session->store->lock);
    struct blob *blob = store_find(session->store, hash);
    bool held = blob && hold(session, blob);
    pthread_mutex_unlock(&session->store->lock);
    return held;
}

static int put_new(struct store_session *session, struct pack_record *record, const void *data,
                   struct hearth_failure *failure)
{
    struct store *store = session->store;
    uint64_t offset;
    struct pack *pack = store_pack_for(store, PACK_HEADER_SIZE + record->raw, failure);
    if (!pack)
        return (int)failure->error;
    int error =
        pack_append(pack, record, data, store->scratch, store->compressor, &offset, failure);
    if (error)
        return error;
    size_t length = PACK_HEADER_SIZE + record->stored;
    session->added += length;
    struct blob *blob = store_insert(store, &record->hash);
    if (!blob)
        return no_memory(failure); /* the record is dead: nothing knows of it */
    blob->record = *record;
    blob->offset = offset;
    blob->pack = (uint32_t)(pack - store->packs);
    pack->live += length;
    pack->entries++;
    if (hold(session, blob)) {
        error = store_count_children(store, blob, failure);
        return error;
    }
    store_maybe_drop(store, blob);
    return no_memory(failure);
}

static int put(struct store_session *session, enum store_kind kind, const void *data, size_t length,
               struct store_hash *ret_hash, struct hearth_failure *failure)
{
    if (length > PACK_BLOB_MAX)
        return hearth_fail(failure, HEARTH_ETOOLARGE, "blob_too_large",
                           "a blob of the store is too large");
    struct pack_record record = {.kind = kind, .raw = (uint32_t)length};
    store_hash_blob(&record.hash, kind, data, length);
    *ret_hash = record.hash;
    pthread_mutex_lock(&session->store->lock);
    struct blob *blob = store_find(session->store, &record.hash);
    int error = 0;
    if (!blob)
        error = put_new(session, &record, data, failure);
    else if (!hold(session, blob))
        error = no_memory(failure);
    pthread_mutex_unlock(&session->store->lock);
    return error;
}

int store_put(struct store_session *session, const void *data, size_t length,
              struct store_hash *ret_hash, struct hearth_failure *failure)
{
    return put(session, STORE_DATA, data, length, ret_hash, failure);
}

static void *node_bytes(const struct store_hash *children, uint32_t count, const void *payload,
                        size_t length, size_t *ret_size)
{
    size_t hashes = (size_t)count * sizeof *children;
    uint32_t little = htole32(count);
    *ret_size = sizeof little + hashes + length;
    unsigned char *data = malloc(*ret_size);
    if (!data)
        return NULL;
    memcpy(data, &little, sizeof little);
    if (count)
        memcpy(data + sizeof little, children, hashes);
    if (length)
        memcpy(data + sizeof little + hashes, payload, length);
    return data;
}

int store_put_node(struct store_session *session, const struct store_hash *children, uint32_t count,
                   const void *payload, size_t length, struct store_hash *ret_hash,
                   struct hearth_failure *failure)
{
    size_t size;
    auto_free void *data = node_bytes(children, count, payload, length, &size);
    return data ? put(session, STORE_NODE, data, size, ret_hash, failure) : no_memory(failure);
}

int store_hash_node(const struct store_hash *children, uint32_t count, const void *payload,
                    size_t length, struct store_hash *ret_hash, struct hearth_failure *failure)
{
    size_t size;
    auto_free void *data = node_bytes(children, count, payload, length, &size);
    if (!data)
        return no_memory(failure);
    store_hash_blob(ret_hash, STORE_NODE, data, size);
    return 0;
}

static void end(struct store_session *session)
{
    struct store *store = session->store;
    /* The newest first: nodes go before what they refer to. */
    while (session->held_count) {
        struct blob *blob = &store->blobs[session->held[--session->held_count]];
        blob->holds--;
        store_maybe_drop(store, blob);
    }
    free(session->held);
    free(session);
}

int store_commit(struct store_session *session, const struct store_hash *root,
                 struct hearth_failure *failure)
{
    struct store *store = session->store;
    int error = 0;
    pthread_mutex_lock(&store->lock);
    for (uint32_t i = 0; root && !error && i < store->pack_count; i++)
        if (store->packs[i].fd >= 0)
            error = pack_sync(&store->packs[i], failure);
    if (error)
        store->broken = true; /* what was written before may be lost now: a start finds out */
    struct blob *blob = root && !error ? store_find(store, root) : NULL;
    if (blob) {
        blob->references++;
        blob->roots++;
    } else if (root && !error) {
        error = hearth_fail(failure, HEARTH_EINTERNAL, NULL, "the root was not put into the store");
    }
    end(session);
    pthread_mutex_unlock(&store->lock);
    return error;
}

void store_abort(struct store_session *session)
{
    if (!session)
        return;
    struct store *store = session->store;
    pthread_mutex_lock(&store->lock);
    end(session);
    pthread_mutex_unlock(&store->lock);
}
