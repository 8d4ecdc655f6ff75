#include "supervisord/tree/capture.h"

#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/content.h"
#include "supervisord/tree/manifest.h"
#include "supervisord/tree/scan_parse.h"

#include <stdlib.h>
#include <string.h>

struct capture {
    struct tree_work work;
    bool has_hints;
    struct store_hash hints_root;
    struct tree_list hints;
    struct store_session *session;
    struct content content;
    bool whole; /* nothing is left to do: the tree is in the store as it is */
    uint64_t store_limit;
    struct captured result;
    tree_captured done;
    void *arg;
};

static struct capture *capture_of(struct tree_work *work)
{
    return container_of(work, struct capture, work);
}

static void finish(struct capture *capture)
{
    struct tree_work *work = &capture->work;
    int error = (int)work->failure.error;
    struct hearth_failure failure = work->failure;
    tree_captured done = capture->done;
    void *arg = capture->arg;
    struct captured result = capture->result;
    tree_work_end(work);
    store_abort(capture->session);
    content_free(&capture->content);
    tree_list_free(&capture->hints);
    free(capture);
    done(arg, error, &failure, error ? NULL : &result);
}

/* The end, on the worker: what has been read is in the store. */

static void run_conclude(void *arg)
{
    struct capture *capture = arg;
    struct tree_work *work = &capture->work;
    struct known *known = &work->known;
    struct store_hash root;
    if (!capture->whole) {
        tree_list_compact(&known->list);
        int error = manifest_write(capture->session, &known->list, &root, &work->failure);
        if (!error && manifest_is_empty(&root))
            store_abort(steal_pointer(capture->session));
        else if (!error)
            store_commit(steal_pointer(capture->session), &root, &work->failure);
        if (work->failure.error)
            return;
        known->root = root;
        known->has_root = true;
        work->known_changed = true;
    }
    capture->result = (struct captured){.root = known->root,
                                        .entry_count = known->list.count,
                                        .bytes = tree_list_bytes(&known->list)};
    if (work->known_changed)
        known_save(known, work->store->dir_fd, work->known_name);
}

static void concluded(void *arg)
{
    finish(arg);
}

/* Contents. */

void tree_list_compact(struct tree_list *list)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct tree_entry *entry = &list->entries[i];
        const struct tree_entry *first =
            entry->hard_link ? tree_list_find(list, entry->hard_link) : NULL;
        if (entry->hard_link && (!first || !first->type))
            entry->type = 0; /* it went with the name that was read */
    }
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].type)
            list->entries[kept++] = list->entries[i];
    list->count = kept;
}

static void share_with_names(struct tree_list *list, const struct tree_entry *first)
{
    for (size_t i = 0; i < list->count; i++) {
        struct tree_entry *entry = &list->entries[i];
        if (entry->hard_link == first->path) {
            const char *path = entry->path, *link = entry->hard_link;
            uint32_t order = entry->order;
            *entry = *first;
            entry->path = path;
            entry->hard_link = link;
            entry->order = order;
        }
    }
}

int tree_entry_read(struct tree_work *work, struct tree_entry *entry, struct content *content,
                    const Hearth__Agent__V1__TreeReadItem *item, struct hearth_failure *failure)
{
    int error = item->data.len ? content_add(content, item->data.data, item->data.len, failure) : 0;
    if (error || !item->end)
        return error;
    struct tree_entry told;
    char unused[TREE_PATH_MAX + 1];
    uint64_t size = content->size;
    bool there = item->entry && scan_entry_take(item->entry, unused, unused, &told, failure) == 1 &&
                 told.type == TREE_FILE;
    error = content_end(content, &entry->content, failure);
    if (!there) {
        entry->type = 0;
        work->known.scan_id[0] = '\0'; /* the next scan looks at everything anew */
        return error;
    }
    bool changed = item->status != HEARTH__AGENT__V1__TREE_READ_STATUS__TREE_READ_STATUS_OK ||
                   size != told.size;
    bool linked = entry->links > 1;
    told.path = entry->path;
    told.hard_link = entry->hard_link;
    told.order = entry->order;
    told.content = entry->content;
    told.hashed = !error;
    told.size = size;
    told.recent |= changed;
    *entry = told;
    work->known.has_root = false;
    if (linked)
        share_with_names(&work->known.list, entry);
    return error;
}

static int take_item(void *arg, size_t index, const Hearth__Agent__V1__TreeReadItem *item,
                     struct hearth_failure *failure)
{
    struct capture *capture = arg;
    struct tree_work *work = &capture->work;
    int error = tree_entry_read(work, &work->known.list.entries[work->indexes[index]],
                                &capture->content, item, failure);
    if (!error && store_added(capture->session) > capture->store_limit) {
        error = hearth_fail(failure, HEARTH_EQUOTA, "quota_store",
                            "the tenant's snapshots would take more than is allowed");
        hearth_failure_hint(failure, "Delete snapshots or workspaces that are not needed.");
    }
    return error;
}

static void contents_read(void *arg, int error, const struct hearth_failure *failure)
{
    struct capture *capture = arg;
    if (error) {
        capture->work.failure = *failure;
        finish(capture);
        return;
    }
    stores_submit(capture->work.supervisor->stores, run_conclude, concluded, capture);
}

static const struct agent_read_events read_events = {.on_item = take_item, .done = contents_read};

/* What has to be read, on the worker. */

static int want(struct tree_work *work, size_t index)
{
    /* Grown by doubling: the count is a power of two where it is full. */
    if ((work->path_count & (work->path_count - 1)) == 0) {
        size_t room = work->path_count ? work->path_count * 2 : 1;
        const char **paths = realloc(work->paths, room * sizeof *paths);
        if (!paths)
            return hearth_fail(&work->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        work->paths = paths;
        size_t *indexes = realloc(work->indexes, room * sizeof *indexes);
        if (!indexes)
            return hearth_fail(&work->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        work->indexes = indexes;
    }
    work->paths[work->path_count] = work->known.list.entries[index].path;
    work->indexes[work->path_count++] = index;
    return 0;
}

static uint64_t room_left(const struct capture *capture, uint64_t limit)
{
    struct store_report report;
    struct hearth_failure failure;
    if (store_verify(capture->work.store->store, false, &report, &failure))
        return 0;
    return report.stored_bytes < limit ? limit - report.stored_bytes : 0;
}

static void run_plan(void *arg)
{
    struct capture *capture = arg;
    struct tree_work *work = &capture->work;
    struct known *known = &work->known;
    capture->session = store_begin(work->store->store);
    if (!capture->session) {
        hearth_fail(&work->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        return;
    }
    capture->content.session = capture->session;
    if (known->has_root && manifest_is_empty(&known->root)) {
        capture->whole = true;
        return;
    }
    if (known->has_root && store_hold(capture->session, &known->root)) {
        capture->whole =
            store_commit(steal_pointer(capture->session), &known->root, &work->failure) == 0;
        return;
    }
    capture->store_limit = room_left(capture, work->supervisor->config->max_store_bytes);
    for (size_t i = 0; i < known->list.count && !work->failure.error; i++) {
        const struct tree_entry *entry = &known->list.entries[i];
        if (entry->type == TREE_FILE && !entry->hard_link &&
            !(entry->hashed && store_hold(capture->session, &entry->content)))
            want(work, i);
    }
}

static void planned(void *arg)
{
    struct capture *capture = arg;
    struct tree_work *work = &capture->work;
    struct agentlink *link = work->path_count ? tree_work_link(work) : NULL;
    if (work->failure.error)
        finish(capture);
    else if (!work->path_count)
        stores_submit(work->supervisor->stores, run_conclude, concluded, capture);
    else
        agent_read(link, work->supervisor->stores, work->paths, work->path_count, &read_events,
                   capture);
}

static void scanned(struct tree_work *work)
{
    struct capture *capture = capture_of(work);
    if (work->failure.error)
        finish(capture);
    else
        stores_submit(work->supervisor->stores, run_plan, planned, capture);
}

/* The beginning. */

static void run_load_hints(void *arg)
{
    struct capture *capture = arg;
    struct hearth_failure failure;
    /* Without them contents are read: slower, and right. */
    if (manifest_read(capture->work.store->store, &capture->hints_root, &capture->hints, &failure))
        tree_list_free(&capture->hints);
}

static void hints_loaded(void *arg)
{
    struct capture *capture = arg;
    tree_work_scan(&capture->work, &capture->hints, scanned);
}

static void start(struct tree_work *work)
{
    struct capture *capture = capture_of(work);
    if (work->failure.error)
        finish(capture);
    else if (capture->has_hints)
        stores_submit(work->supervisor->stores, run_load_hints, hints_loaded, capture);
    else
        tree_work_scan(work, NULL, scanned);
}

void tree_capture(struct workspace *workspace, const struct store_hash *hints, tree_captured done,
                  void *arg)
{
    struct capture *capture = calloc(1, sizeof *capture);
    if (!capture)
        abort();
    capture->done = done;
    capture->arg = arg;
    capture->has_hints = hints != NULL;
    if (hints)
        capture->hints_root = *hints;
    tree_work_begin(&capture->work, workspace, start);
}
