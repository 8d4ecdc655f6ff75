#include "base/crash_point.h"
#include "supervisord/snapshot_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int snapshot_name_check(const char *name, struct hearth_failure *failure)
{
    size_t length = strlen(name);
    bool good = length >= 1 && length <= SNAPSHOT_NAME_MAX && isalnum((unsigned char)name[0]);
    for (size_t i = 0; i < length && good; i++)
        good = isalnum((unsigned char)name[i]) || strchr("._-", name[i]);
    if (good)
        return 0;
    int error = hearth_fail(failure, HEARTH_EINVALID, "bad_snapshot_name",
                            "a snapshot's name is 1 to 64 of A-Z, a-z, 0-9 and ._-, beginning with "
                            "a letter or digit");
    hearth_failure_field(failure, "/snapshot_name");
    return error;
}

static struct snapshot_info info_of(const struct workspace *workspace,
                                    const struct snapshot *snapshot)
{
    return (struct snapshot_info){.workspace_id = workspace->workspace_id,
                                  .name = snapshot->name,
                                  .baseline = snapshot->baseline,
                                  .created_at = snapshot->created_at,
                                  .entry_count = snapshot->entry_count,
                                  .bytes = snapshot->bytes};
}

/* The list. */

static void insert(struct workspace *workspace, struct snapshot *snapshot)
{
    struct list *at = workspace->snapshots.next;
    if (!snapshot->baseline && at != &workspace->snapshots &&
        container_of(at, struct snapshot, link)->baseline)
        at = at->next;
    list_insert(at, &snapshot->link);
}

static struct snapshot *snapshot_new(const char *name, bool baseline,
                                     const struct captured *captured)
{
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        abort();
    list_init(&snapshot->link);
    snprintf(snapshot->name, sizeof snapshot->name, "%s", name);
    snapshot->baseline = baseline;
    if (captured) {
        static const struct store_hash none;
        snapshot->root = captured->root;
        snapshot->has_root = memcmp(&captured->root, &none, sizeof none) != 0;
        snapshot->entry_count = captured->entry_count;
        snapshot->bytes = captured->bytes;
    }
    return snapshot;
}

int snapshot_load(struct supervisor *supervisor, const struct row_snapshot *row)
{
    struct workspace *workspace = supervisor_workspace(supervisor, row->workspace_id);
    if (!workspace)
        return 0;
    struct captured captured = {.entry_count = row->entry_count, .bytes = row->bytes};
    if (row->has_root)
        memcpy(&captured.root, row->root, sizeof row->root);
    struct snapshot *snapshot =
        snapshot_new(row->name, strcmp(row->kind, "baseline") == 0, &captured);
    snapshot->created_at = row->created_at;
    insert(workspace, snapshot);
    return 0;
}

struct snapshot *snapshot_find(struct workspace *workspace, const char *name,
                               struct hearth_failure *failure)
{
    list_for_each(cursor, next, &workspace->snapshots)
    {
        struct snapshot *snapshot = container_of(cursor, struct snapshot, link);
        if (strcmp(snapshot->name, name) == 0 && !snapshot->uncommitted)
            return snapshot;
    }
    hearth_fail(failure, HEARTH_ENOTFOUND, "snapshot_not_found",
                "the workspace has no snapshot of this name");
    hearth_failure_hint(failure, "snapshot_list tells which there are.");
    return NULL;
}

void snapshot_each(struct workspace *workspace,
                   void (*visit)(void *arg, const struct snapshot_info *snapshot), void *arg)
{
    list_for_each(cursor, next, &workspace->snapshots)
    {
        const struct snapshot *snapshot = container_of(cursor, struct snapshot, link);
        struct snapshot_info info = info_of(workspace, snapshot);
        if (!snapshot->uncommitted)
            visit(arg, &info);
    }
}

static void put_row(const struct workspace *workspace, const struct snapshot *snapshot,
                    struct change *change)
{
    struct row_snapshot row = {.workspace_id = workspace->workspace_id,
                               .name = snapshot->name,
                               .tenant_id = workspace->tenant->tenant_id,
                               .kind = snapshot->baseline ? "baseline" : "named",
                               .has_root = snapshot->has_root,
                               .entry_count = snapshot->entry_count,
                               .bytes = snapshot->bytes,
                               .created_at = snapshot->created_at};
    memcpy(row.root, &snapshot->root, sizeof row.root);
    change_put_snapshot(change, &row);
}

void snapshot_put_baseline(struct workspace *workspace, const struct captured *captured,
                           struct change *change)
{
    struct snapshot *snapshot = snapshot_new(SNAPSHOT_BASELINE, true, captured);
    snapshot->created_at = clock_wall_us();
    insert(workspace, snapshot);
    put_row(workspace, snapshot, change);
}

void snapshots_free(struct workspace *workspace)
{
    list_for_each(cursor, next, &workspace->snapshots)
    {
        list_remove(cursor);
        free(container_of(cursor, struct snapshot, link));
    }
}

void snapshots_release(struct workspace *workspace)
{
    size_t count = 0;
    list_for_each(cursor, next, &workspace->snapshots) count++;
    struct store_hash *roots = calloc(count + 1, sizeof *roots);
    char known_name[64];
    count = 0;
    list_for_each(cursor, next, &workspace->snapshots)
    {
        const struct snapshot *snapshot = container_of(cursor, struct snapshot, link);
        if (roots && snapshot->has_root)
            roots[count++] = snapshot->root;
    }
    tree_known_name(known_name, workspace->workspace_id);
    snapshots_free(workspace);
    if (count)
        stores_release(workspace->supervisor->stores, workspace->tenant->tenant_id, roots, count,
                       known_name);
    free(roots);
}

void snapshots_each_root(void *arg, const char *tenant_id,
                         void (*visit)(void *visit_arg, const struct store_hash *root),
                         void *visit_arg)
{
    struct supervisor *supervisor = arg;
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i]; entry;
             entry = entry->next) {
            struct workspace *workspace = container_of(entry, struct workspace, entry);
            if (strcmp(workspace->tenant->tenant_id, tenant_id) != 0)
                continue;
            list_for_each(cursor, next, &workspace->snapshots)
            {
                const struct snapshot *snapshot = container_of(cursor, struct snapshot, link);
                if (snapshot->has_root)
                    visit(visit_arg, &snapshot->root);
            }
        }
}

bool snapshots_known_wanted(void *arg, const char *known_name)
{
    struct supervisor *supervisor = arg;
    return supervisor_workspace(supervisor, known_name + strlen("known-")) != NULL;
}

/* Creating and deleting. */

struct pending {
    struct supervisor *supervisor;
    struct workspace *workspace; /* NULL once it is gone, which only its works tell */
    struct tree_work *work;
    struct principal principal;
    char request_id[68], tenant_id[64], workspace_id[ID_SIZE];
    char name[SNAPSHOT_NAME_MAX + 1];
    struct snapshot *snapshot; /* made, not yet in the list */
    struct hearth_failure failure;
    snapshot_done done;
    void *arg;
};

static struct pending *pending_new(struct workspace *workspace, const struct principal *principal,
                                   const char *name, const char *request_id, snapshot_done done,
                                   void *arg)
{
    struct pending *pending = calloc(1, sizeof *pending);
    if (!pending)
        abort();
    *pending = (struct pending){.supervisor = workspace->supervisor,
                                .workspace = workspace,
                                .principal = *principal,
                                .done = done,
                                .arg = arg};
    snprintf(pending->request_id, sizeof pending->request_id, "%s", request_id ? request_id : "");
    snprintf(pending->tenant_id, sizeof pending->tenant_id, "%s", workspace->tenant->tenant_id);
    snprintf(pending->workspace_id, sizeof pending->workspace_id, "%s", workspace->workspace_id);
    snprintf(pending->name, sizeof pending->name, "%s", name);
    return pending;
}

static struct workspace *still_there(const struct pending *pending)
{
    return supervisor_workspace(pending->supervisor, pending->workspace_id);
}

static void refused(void *arg)
{
    struct pending *pending = arg;
    supervisor_audit_soon(pending->supervisor, &pending->principal, pending->request_id,
                          "snapshot_create", pending->workspace_id, pending->failure.code);
    pending->done(pending->arg, (int)pending->failure.error, &pending->failure, NULL);
    free(pending);
}

/* The store drops its reference, once no row names the tree. */
static void give_back(struct pending *pending)
{
    if (pending->snapshot)
        list_remove(&pending->snapshot->link);
    if (pending->snapshot && pending->snapshot->has_root)
        stores_release(pending->supervisor->stores, pending->tenant_id, &pending->snapshot->root, 1,
                       NULL);
    free(steal_pointer(pending->snapshot));
}

static void committed(void *arg, int error, const struct hearth_failure *failure)
{
    struct pending *pending = arg;
    struct workspace *workspace = still_there(pending);
    if (!workspace) { /* and its snapshots with it */
        hearth_fail(&pending->failure, HEARTH_ENOTFOUND, "workspace_not_found",
                    "the workspace is gone");
        refused(pending);
        return;
    }
    if (error) {
        pending->failure = *failure;
        give_back(pending);
        refused(pending);
        return;
    }
    crash_point("snapshot:committed");
    struct snapshot_info info = info_of(workspace, pending->snapshot);
    pending->snapshot->uncommitted = false;
    pending->done(pending->arg, 0, NULL, &info);
    free(pending);
}

static bool name_taken(struct workspace *workspace, const char *name)
{
    list_for_each(cursor, next, &workspace->snapshots)
    {
        if (strcmp(container_of(cursor, struct snapshot, link)->name, name) == 0)
            return true;
    }
    return false;
}

static int check_name(struct workspace *workspace, const char *name, struct hearth_failure *failure)
{
    int error = snapshot_name_check(name, failure);
    if (!error && strcmp(name, SNAPSHOT_BASELINE) == 0)
        error = hearth_fail(failure, HEARTH_EINVALID, "snapshot_name_reserved",
                            "\"baseline\" is the tree that the workspace began with");
    else if (!error && name_taken(workspace, name))
        error = hearth_fail(failure, HEARTH_ECONFLICT, "snapshot_exists",
                            "the workspace has a snapshot \"%s\"", name);
    if (error) {
        hearth_failure_field(failure, "/snapshot_name");
        hearth_failure_hint(failure, "Choose another name, or delete that snapshot first.");
        return error;
    }
    unsigned count = 0;
    list_for_each(cursor, next, &workspace->snapshots) count++;
    if (count <= workspace->supervisor->config->max_snapshots)
        return 0;
    error = hearth_fail(failure, HEARTH_EQUOTA, "quota_snapshots",
                        "a workspace has at most %u snapshots",
                        workspace->supervisor->config->max_snapshots);
    hearth_failure_hint(failure, "Delete snapshots that are not needed.");
    return error;
}

static void captured(void *arg, int error, const struct hearth_failure *failure,
                     const struct captured *result)
{
    struct pending *pending = arg;
    if (error) {
        pending->failure = *failure;
        refused(pending);
        return;
    }
    crash_point("snapshot:captured");
    pending->snapshot = snapshot_new(pending->name, false, result);
    pending->snapshot->created_at = clock_wall_us();
    struct workspace *workspace = still_there(pending);
    if (!workspace)
        hearth_fail(&pending->failure, HEARTH_ENOTFOUND, "workspace_not_found",
                    "the workspace is gone");
    else
        check_name(workspace, pending->name, &pending->failure); /* another came first */
    if (pending->failure.error) {
        give_back(pending);
        refused(pending);
        return;
    }
    pending->snapshot->uncommitted = true;
    insert(workspace, pending->snapshot);
    struct change *change = change_new();
    put_row(workspace, pending->snapshot, change);
    workspace_audit(workspace, change, &pending->principal, pending->request_id, "snapshot_create",
                    "ok");
    workspace_touch(workspace);
    change_commit(change, pending->supervisor->writer, committed, pending);
}

void snapshot_create(struct workspace *workspace, const struct principal *principal,
                     const char *name, const char *request_id, snapshot_done done, void *arg)
{
    struct pending *pending = pending_new(workspace, principal, name, request_id, done, arg);
    if (check_name(workspace, name, &pending->failure) ||
        workspace_ready(workspace, &pending->failure))
        loop_defer(workspace->supervisor->loop, refused, pending);
    else
        tree_capture(workspace, NULL, captured, pending);
}

static void deletion_refused(void *arg)
{
    struct pending *pending = arg;
    supervisor_audit_soon(pending->supervisor, &pending->principal, pending->request_id,
                          "snapshot_delete", pending->workspace_id, pending->failure.code);
    pending->done(pending->arg, (int)pending->failure.error, &pending->failure, NULL);
    free(pending);
}

static void given_back(void *arg)
{
    struct pending *pending = arg;
    struct snapshot_info info = {.workspace_id = pending->workspace_id, .name = pending->name};
    pending->done(pending->arg, 0, NULL, &info);
    free(pending);
}

/* It is answered once its content counts for nobody: not for a quota, not for a verification. */
static void deleted(void *arg, int error, const struct hearth_failure *failure)
{
    struct pending *pending = arg;
    struct workspace *workspace = still_there(pending);
    if (error) {
        pending->failure = *failure;
        if (workspace)
            insert(workspace, steal_pointer(pending->snapshot));
        free(pending->snapshot);
        deletion_refused(pending);
        return;
    }
    crash_point("snapshot:deleted");
    auto_free struct snapshot *snapshot = steal_pointer(pending->snapshot);
    if (snapshot->has_root)
        stores_release_then(pending->supervisor->stores, pending->tenant_id, &snapshot->root,
                            given_back, pending);
    else
        given_back(pending);
}

void snapshot_delete(struct workspace *workspace, const struct principal *principal,
                     const char *name, const char *request_id, snapshot_done done, void *arg)
{
    struct pending *pending = pending_new(workspace, principal, name, request_id, done, arg);
    struct snapshot *snapshot = snapshot_find(workspace, name, &pending->failure);
    if (snapshot && snapshot->baseline)
        hearth_fail(&pending->failure, HEARTH_ECONFLICT, "snapshot_protected",
                    "the baseline goes with its workspace alone");
    if (pending->failure.error) {
        hearth_failure_field(&pending->failure, "/snapshot_name");
        loop_defer(workspace->supervisor->loop, deletion_refused, pending);
        return;
    }
    list_remove(&snapshot->link);
    pending->snapshot = snapshot;
    struct change *change = change_new();
    change_delete_snapshot(change, workspace->workspace_id, name);
    workspace_audit(workspace, change, principal, request_id, "snapshot_delete", "ok");
    workspace_touch(workspace);
    change_commit(change, workspace->supervisor->writer, deleted, pending);
}
