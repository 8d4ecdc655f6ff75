#include "supervisord/tree/work.h"

#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/scan_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Entries that are kept in memory for all workspaces together: some 150 bytes each. What is over is
 * read from its file again. */
#define KNOWN_ENTRIES_MAX 300000u

void tree_known_name(char out[64], const char *workspace_id)
{
    snprintf(out, 64, "known-%s", workspace_id);
}

static void load_known(void *arg)
{
    struct tree_work *work = arg;
    known_load(&work->known, work->store->dir_fd, work->known_name);
}

static void known_loaded(void *arg)
{
    struct tree_work *work = arg;
    work->start(work);
}

static void take_known(struct tree_work *work)
{
    struct workspace *workspace = work->workspace;
    struct known *known = workspace ? steal_pointer(workspace->known) : NULL;
    if (!known) {
        stores_submit(work->supervisor->stores, load_known, known_loaded, work);
        return;
    }
    work->supervisor->known_entries -= known->list.count;
    list_remove(&workspace->known_link);
    work->known = *known;
    free(known);
    work->start(work);
}

static void store_opened(void *arg, int error, const struct hearth_failure *failure,
                         const struct tenant_store *store)
{
    struct tree_work *work = arg;
    work->store = store;
    if (!error && !work->workspace)
        hearth_fail(&work->failure, HEARTH_ENOTFOUND, "workspace_not_found",
                    "the workspace is gone");
    else if (error)
        work->failure = *failure;
    if (work->failure.error)
        work->start(work);
    else
        take_known(work);
}

static void go(struct tree_work *work)
{
    work->began = true;
    stores_use(work->supervisor->stores, work->tenant_id, store_opened, work);
}

void tree_work_begin(struct tree_work *work, struct workspace *workspace,
                     void (*start)(struct tree_work *work))
{
    work->supervisor = workspace->supervisor;
    work->workspace = workspace;
    work->start = start;
    snprintf(work->tenant_id, sizeof work->tenant_id, "%s", workspace->tenant->tenant_id);
    tree_known_name(work->known_name, workspace->workspace_id);
    bool first = list_empty(&workspace->tree_works);
    list_init(&work->link);
    list_append(&workspace->tree_works, &work->link);
    work->supervisor->works++;
    if (first)
        go(work);
}

static void evict(struct supervisor *supervisor)
{
    while (supervisor->known_entries > KNOWN_ENTRIES_MAX && !list_empty(&supervisor->known)) {
        struct workspace *oldest =
            container_of(supervisor->known.next, struct workspace, known_link);
        tree_work_forget_known(oldest);
    }
}

void tree_work_forget_known(struct workspace *workspace)
{
    struct known *known = steal_pointer(workspace->known);
    if (!known)
        return;
    workspace->supervisor->known_entries -= known->list.count;
    list_remove(&workspace->known_link);
    known_free(known);
    free(known);
}

static void give_known(struct tree_work *work)
{
    struct workspace *workspace = work->workspace;
    struct known *known = workspace && *work->known.scan_id ? malloc(sizeof *known) : NULL;
    if (!known) {
        known_free(&work->known);
        return;
    }
    *known = work->known;
    work->known = (struct known){0};
    tree_work_forget_known(workspace);
    workspace->known = known;
    work->supervisor->known_entries += known->list.count;
    list_append(&work->supervisor->known, &workspace->known_link);
    evict(work->supervisor);
}

void tree_work_end(struct tree_work *work)
{
    struct supervisor *supervisor = work->supervisor;
    struct workspace *workspace = work->workspace;
    give_known(work);
    list_remove(&work->link);
    buf_free(&work->messages);
    free(steal_pointer(work->paths));
    free(steal_pointer(work->indexes));
    if (workspace && !list_empty(&workspace->tree_works))
        go(container_of(workspace->tree_works.next, struct tree_work, link));
    supervisor->works--;
    supervisor_maybe_quiet(supervisor);
}

void tree_work_detach_all(struct workspace *workspace)
{
    tree_work_forget_known(workspace);
    while (!list_empty(&workspace->tree_works)) {
        struct tree_work *work = container_of(workspace->tree_works.next, struct tree_work, link);
        list_remove(&work->link);
        work->workspace = NULL;
        if (!work->began)
            go(work);
    }
}

struct agentlink *tree_work_link(struct tree_work *work)
{
    if (work->failure.error)
        return NULL;
    if (work->sandbox)
        return &work->sandbox->link;
    if (!work->workspace) {
        hearth_fail(&work->failure, HEARTH_ENOTFOUND, "workspace_not_found",
                    "the workspace is gone");
        return NULL;
    }
    /* At its creation it is not started yet, for anybody else. */
    if (work->workspace->state != WORKSPACE_CREATING &&
        workspace_ready(work->workspace, &work->failure))
        return NULL;
    if (work->workspace->sandbox)
        return &work->workspace->sandbox->link;
    hearth_fail(&work->failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                "the workspace has no guest");
    return NULL;
}

/* Scanning. */

static void parse_scan(void *arg)
{
    struct tree_work *work = arg;
    bool changed = false;
    if (scan_parse(&work->known, &work->messages, work->hints, &changed, &work->failure))
        changed = true;
    work->known_changed |= changed;
}

static void scan_parsed(void *arg)
{
    struct tree_work *work = arg;
    buf_free(&work->messages);
    work->scanned(work);
}

static void scan_came(void *arg, int error, const struct hearth_failure *failure,
                      struct buf *messages)
{
    struct tree_work *work = arg;
    if (error) {
        work->failure = *failure;
        work->scanned(work);
        return;
    }
    work->messages = *messages;
    *messages = (struct buf){0};
    stores_submit(work->supervisor->stores, parse_scan, scan_parsed, work);
}

void tree_work_scan(struct tree_work *work, const struct tree_list *hints,
                    void (*scanned)(struct tree_work *work))
{
    struct agentlink *link = tree_work_link(work);
    work->hints = hints;
    work->scanned = scanned;
    if (!link)
        scanned(work);
    else
        agent_scan(link, work->known.scan_id, scan_came, work);
}
