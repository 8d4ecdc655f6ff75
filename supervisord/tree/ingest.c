#include "supervisord/tree/ingest.h"

#include "agent.pb-c.h"
#include "guestagent/unpack.h"
#include "supervisord/tree/agent_tree.h"
#include "supervisord/tree/content.h"
#include "supervisord/tree/manifest.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX ((size_t)8 << 20)

struct ingest {
    struct stores *stores;
    struct buf incoming, working; /* whole messages: those to come, those on the worker */
    bool busy, ended, whole, finished;
    void (*room)(void *arg);
    void *room_arg;
    ingest_done done;
    void *arg;
    /* The worker's. */
    struct store *store;
    struct store_session *session;
    struct tree_list list;
    struct content content;
    bool in_file;
    struct store_hash root;
    struct hearth_failure failure;
    char path[TREE_PATH_MAX + 1], other[TREE_PATH_MAX + 1];
};

struct ingest *ingest_begin(struct stores *stores, const struct tenant_store *store,
                            ingest_done done, void *arg)
{
    struct ingest *ingest = calloc(1, sizeof *ingest);
    if (!ingest)
        abort();
    *ingest = (struct ingest){.stores = stores, .store = store->store, .done = done, .arg = arg};
    ingest->session = store_begin(store->store);
    if (!ingest->session)
        hearth_fail(&ingest->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    ingest->content.session = ingest->session;
    return ingest;
}

/* On the worker. */

static int end_file(struct ingest *ingest)
{
    if (!ingest->in_file)
        return 0;
    struct tree_entry *entry = &ingest->list.entries[ingest->list.count - 1];
    ingest->in_file = false;
    entry->size = ingest->content.size;
    entry->hashed = true;
    return content_end(&ingest->content, &entry->content, &ingest->failure);
}

static int malformed(struct ingest *ingest)
{
    return hearth_fail(&ingest->failure, HEARTH_EINTERNAL, NULL,
                       "a member of the seed is malformed");
}

static bool take_text(const ProtobufCBinaryData *bytes, char out[TREE_PATH_MAX + 1])
{
    if (!bytes->len || bytes->len > TREE_PATH_MAX || memchr(bytes->data, 0, bytes->len))
        return false;
    memcpy(out, bytes->data, bytes->len);
    out[bytes->len] = '\0';
    return true;
}

static int take_member(struct ingest *ingest, const Hearth__Agent__V1__TreeItem *item)
{
    const Hearth__Agent__V1__FileEntry *from = item->entry;
    struct tree_entry entry = {
        .path = ingest->path, .mode = from->mode & 0777, .mtime_ns = from->mtime_ns};
    if (!take_text(&from->path, ingest->path) || !tree_path_good(ingest->path))
        return malformed(ingest);
    if (from->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY) {
        entry.type = TREE_DIRECTORY;
    } else if (from->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK) {
        entry.type = TREE_SYMLINK;
        entry.link_target = ingest->other;
        if (!take_text(&from->link_target, ingest->other))
            return malformed(ingest);
    } else {
        entry.type = TREE_FILE;
        /* A further name of a file is found by its inode: all that counts is that what had the name
         * before is forgotten. */
        ingest->in_file = !item->hard_link.len;
    }
    return tree_list_add(&ingest->list, &entry, &ingest->failure);
}

static int take_item(struct ingest *ingest, const Hearth__Agent__V1__TreeItem *item)
{
    int error = 0;
    if (item->entry) {
        error = end_file(ingest);
        if (!error)
            error = take_member(ingest, item);
    }
    if (!error && item->data.len)
        error = ingest->in_file ? content_add(&ingest->content, item->data.data, item->data.len,
                                              &ingest->failure)
                                : malformed(ingest);
    return error;
}

static void conclude(struct ingest *ingest)
{
    struct store_session *session = steal_pointer(ingest->session);
    int error = (int)ingest->failure.error;
    if (!error && !ingest->whole)
        error = hearth_fail(&ingest->failure, HEARTH_ECANCELLED, NULL, "the seed was given up");
    if (!error)
        error = end_file(ingest);
    tree_list_sort(&ingest->list);
    size_t kept = 0;
    for (size_t i = 0; i < ingest->list.count; i++)
        if (ingest->list.entries[i].type != TREE_FILE || ingest->list.entries[i].hashed)
            ingest->list.entries[kept++] = ingest->list.entries[i];
    ingest->list.count = kept;
    if (!error)
        error = manifest_write(session, &ingest->list, &ingest->root, &ingest->failure);
    if (!error)
        store_commit(session, manifest_is_empty(&ingest->root) ? NULL : &ingest->root,
                     &ingest->failure);
    else
        store_abort(session);
    content_free(&ingest->content);
    tree_list_free(&ingest->list);
    ingest->finished = true;
}

static void run(void *arg)
{
    struct ingest *ingest = arg;
    const uint8_t *data;
    size_t at = 0, length;
    while (!ingest->failure.error && agent_message_next(&ingest->working, &at, &data, &length)) {
        Hearth__Agent__V1__TreeItem *item =
            unpack_bounded(&hearth__agent__v1__tree_item__descriptor, length, data);
        if (item)
            take_item(ingest, item);
        else
            malformed(ingest);
        if (item)
            hearth__agent__v1__tree_item__free_unpacked(item, NULL);
    }
    if (!ingest->working.length)
        conclude(ingest);
}

/* On the loop. */

static void ran(void *arg);

static void go_on(struct ingest *ingest)
{
    if (ingest->busy || (!ingest->incoming.length && !ingest->ended))
        return;
    struct buf empty = ingest->working;
    ingest->working = ingest->incoming;
    ingest->incoming = empty;
    ingest->busy = true;
    stores_submit(ingest->stores, run, ran, ingest);
}

static void ran(void *arg)
{
    struct ingest *ingest = arg;
    ingest->busy = false;
    buf_clear(&ingest->working);
    if (ingest->finished) {
        ingest->done(ingest->arg, (int)ingest->failure.error, &ingest->failure, &ingest->root);
        buf_free(&ingest->incoming);
        buf_free(&ingest->working);
        free(ingest);
        return;
    }
    if (ingest->room)
        ingest->room(ingest->room_arg);
    go_on(ingest);
}

bool ingest_feed(struct ingest *ingest, const void *data, size_t length)
{
    if (agent_message_append(&ingest->incoming, data, length))
        abort();
    go_on(ingest);
    return ingest->incoming.length < WAITING_MAX;
}

void ingest_on_room(struct ingest *ingest, void (*room)(void *arg), void *arg)
{
    ingest->room = room;
    ingest->room_arg = arg;
}

void ingest_end(struct ingest *ingest, bool whole)
{
    ingest->room = NULL;
    ingest->ended = true;
    ingest->whole = whole;
    go_on(ingest);
}
