#include "supervisord/tree/put_back.h"

#include "agent.pb-c.h"
#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/manifest.h"
#include "supervisord/tree/restore.h"

#include <stdlib.h>
#include <string.h>

#define CLEAR_TIMEOUT_MS 60000

struct put_back {
    struct tree_work work;
    struct store_hash root;
    struct known old_known;
    struct tree_list tree;
    struct restore restore;
    size_t clear_at; /* of what the fresh guest came with */
    void (*done)(void *arg, const struct hearth_failure *failure);
    void *arg;
};

static void ended(struct put_back *put)
{
    put->done(put->arg, &put->work.failure);
}

/* What the guest has is what the snapshot had, but for times that only the scan knows. */
static bool same_tree(const struct tree_list *left, const struct tree_list *right)
{
    bool same = left->count == right->count;
    for (size_t i = 0; same && i < left->count; i++) {
        const struct tree_entry *a = &left->entries[i], *b = &right->entries[i];
        same = strcmp(a->path, b->path) == 0 && a->type == b->type && a->size == b->size &&
               (a->type == TREE_SYMLINK || a->mode == b->mode) && a->mtime_ns == b->mtime_ns;
    }
    return same;
}

static void run_check(void *arg)
{
    struct put_back *put = arg;
    struct known *known = &put->work.known;
    if (!same_tree(&known->list, &put->tree)) {
        hearth_fail(&put->work.failure, HEARTH_EINTERNAL, "restore_failed",
                    "the fresh guest does not have the stored files as they were");
        return;
    }
    known->root = put->root;
    known->has_root = true;
    known_save(known, put->work.store->dir_fd, put->work.known_name);
}

static void checked(void *arg)
{
    ended(arg);
}

static void scanned(struct tree_work *work)
{
    struct put_back *put = container_of(work, struct put_back, work);
    if (work->failure.error)
        ended(put);
    else
        stores_submit(put->work.supervisor->stores, run_check, checked, put);
}

static void put_done(void *arg, int error, const struct hearth_failure *failure)
{
    struct put_back *put = arg;
    if (error) {
        put->work.failure = *failure;
        ended(put);
        return;
    }
    tree_work_scan(&put->work, &put->tree, scanned);
}

static int fill(void *arg, struct buf *out, bool *ret_end, struct hearth_failure *failure)
{
    struct put_back *put = arg;
    return restore_fill(&put->restore, out, ret_end, failure);
}

static const struct agent_put_events put_events = {.fill = fill, .done = put_done};

/* What the environment itself has in /workspace goes first: the snapshot tells all. */

static void clear_next(struct put_back *put);

static void cleared(void *arg, enum link_status status, const struct hearth_failure *failure,
                    const ProtobufCMessage *reply)
{
    struct put_back *put = arg;
    (void)reply;
    if (status == LINK_STATUS_OK) {
        clear_next(put);
        return;
    }
    put->work.failure = *failure;
    ended(put);
}

static void clear_next(struct put_back *put)
{
    const struct tree_list *list = &put->work.known.list;
    struct agentlink *link = tree_work_link(&put->work);
    while (put->clear_at < list->count && strchr(list->entries[put->clear_at].path, '/'))
        put->clear_at++;
    if (!link) {
        ended(put);
        return;
    }
    if (put->clear_at == list->count) {
        known_free(&put->work.known);
        agent_put(link, put->work.supervisor->stores, &put_events, put);
        return;
    }
    Hearth__Agent__V1__FileDeleteRequest request = HEARTH__AGENT__V1__FILE_DELETE_REQUEST__INIT;
    request.path = (char *)(uintptr_t)list->entries[put->clear_at++].path;
    request.recursive = true;
    agent_call(link, "FileDelete", &request.base, &hearth__agent__v1__empty__descriptor,
               CLEAR_TIMEOUT_MS, cleared, put);
}

static void found_at_first(struct tree_work *work)
{
    struct put_back *put = container_of(work, struct put_back, work);
    if (work->failure.error)
        ended(put);
    else
        clear_next(put);
}

static void run_load(void *arg)
{
    struct put_back *put = arg;
    manifest_read(put->work.store->store, &put->root, &put->tree, &put->work.failure);
}

static void loaded(void *arg)
{
    struct put_back *put = arg;
    if (put->work.failure.error) {
        ended(put);
        return;
    }
    put->restore = (struct restore){.store = put->work.store->store, .list = &put->tree};
    tree_work_scan(&put->work, NULL, found_at_first);
}

static void begin(struct tree_work *work)
{
    struct put_back *put = container_of(work, struct put_back, work);
    put->old_known = work->known;
    work->known = (struct known){0};
    if (work->failure.error)
        ended(put);
    else
        stores_submit(put->work.supervisor->stores, run_load, loaded, put);
}

struct put_back *put_back_begin(struct workspace *workspace, struct sandbox *sandbox,
                                const struct store_hash *root,
                                void (*done)(void *arg, const struct hearth_failure *failure),
                                void *arg)
{
    struct put_back *put = calloc(1, sizeof *put);
    if (!put)
        abort();
    put->root = *root;
    put->done = done;
    put->arg = arg;
    put->work.sandbox = sandbox;
    tree_work_begin(&put->work, workspace, begin);
    return put;
}

void put_back_totals(const struct put_back *put, struct put_back_totals *ret_totals)
{
    *ret_totals = (struct put_back_totals){.entry_count = put->tree.count,
                                           .bytes = tree_list_bytes(&put->tree)};
}

void put_back_end(struct put_back *put, bool keep)
{
    if (!keep) {
        known_free(&put->work.known);
        put->work.known = put->old_known;
        put->old_known = (struct known){0};
    }
    tree_work_end(&put->work);
    restore_free(&put->restore);
    tree_list_free(&put->tree);
    known_free(&put->old_known);
    free(put);
}
