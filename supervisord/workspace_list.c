/* Pages of a tenant's workspaces. The order is by last activity, which moves while a client turns
 * pages; so that no row that exists throughout is repeated or skipped, the first page that does not
 * hold everything fixes the order of the rest: a snapshot of IDs, kept for a while, which the
 * cursor names. */
#include "base/clock.h"
#include "base/list.h"
#include "supervisord/supervisor_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the whole daemon. Past either bound the one gives way that was used longest ago, of the tenant
 * who has most: nobody's pages end because of another's. */
#define SNAPSHOTS_MAX 1024
#define SNAPSHOT_IDS_MAX 131072 /* 3 MiB */
#define SNAPSHOT_NAME_LENGTH 20

struct list_snapshot {
    char name[SNAPSHOT_NAME_LENGTH + 1];
    struct tenant *tenant;
    uint64_t order; /* tenant::order it was taken at, where it is of everything; else 0 */
    size_t count;
    struct list link; // supervisor::snapshots
    char ids[][ID_SIZE];
};

static bool has_label(const struct workspace *workspace, const char *wanted)
{
    const char *equals = strchr(wanted, '=');
    size_t key_length = equals ? (size_t)(equals - wanted) : strlen(wanted);
    for (size_t i = 0; i < workspace->label_count; i++) {
        const struct row_label *label = &workspace->labels[i];
        if (strncmp(label->key, wanted, key_length) == 0 && !label->key[key_length])
            return !equals || strcmp(label->value, equals + 1) == 0;
    }
    return false;
}

static bool matches(const struct workspace *workspace, const struct workspace_filter *filter)
{
    if (filter->name && (!workspace->name || strcmp(workspace->name, filter->name) != 0))
        return false;
    if (filter->state && strcmp(workspace_state_name(workspace->state), filter->state) != 0)
        return false;
    for (size_t i = 0; i < filter->label_count; i++)
        if (!has_label(workspace, filter->labels[i]))
            return false;
    return true;
}

static void snapshot_drop(struct supervisor *supervisor, struct list_snapshot *snapshot)
{
    list_remove(&snapshot->link);
    snapshot->tenant->snapshot_ids -= snapshot->count;
    supervisor->snapshot_ids -= snapshot->count;
    supervisor->snapshot_count--;
    free(snapshot);
}

/* The newest, which is about to be used, stays. */
static void make_room(struct supervisor *supervisor)
{
    const struct list *newest = supervisor->snapshots.previous;
    while (supervisor->snapshot_count > SNAPSHOTS_MAX ||
           (supervisor->snapshot_ids > SNAPSHOT_IDS_MAX && supervisor->snapshot_count > 1)) {
        struct list_snapshot *least = NULL;
        list_for_each(cursor, next, &supervisor->snapshots)
        {
            struct list_snapshot *snapshot = container_of(cursor, struct list_snapshot, link);
            if (cursor != newest &&
                (!least || snapshot->tenant->snapshot_ids > least->tenant->snapshot_ids))
                least = snapshot;
        }
        snapshot_drop(supervisor, least);
    }
}

static bool is_of_everything(const struct workspace_filter *filter)
{
    return !filter->name && !filter->state && !filter->label_count;
}

/* One of everything, since which nothing has moved: a tenant who lists again and again is not
 * copied all IDs each time. */
static struct list_snapshot *snapshot_again(const struct supervisor *supervisor,
                                            const struct tenant *tenant,
                                            const struct workspace_filter *filter)
{
    if (!is_of_everything(filter))
        return NULL;
    for (struct list *cursor = supervisor->snapshots.previous; cursor != &supervisor->snapshots;
         cursor = cursor->previous) {
        struct list_snapshot *snapshot = container_of(cursor, struct list_snapshot, link);
        if (snapshot->tenant == tenant && snapshot->order == tenant->order)
            return snapshot;
    }
    return NULL;
}

static struct list_snapshot *used(struct supervisor *supervisor, struct list_snapshot *snapshot)
{
    list_remove(&snapshot->link);
    list_append(&supervisor->snapshots, &snapshot->link);
    return snapshot;
}

/* The IDs of what matches, in order. NULL: out of memory. */
static struct list_snapshot *snapshot_take(struct supervisor *supervisor, struct tenant *tenant,
                                           const struct workspace_filter *filter)
{
    struct list_snapshot *snapshot = snapshot_again(supervisor, tenant, filter);
    if (snapshot)
        return used(supervisor, snapshot);
    snapshot = malloc(sizeof *snapshot + tenant->workspace_count * sizeof *snapshot->ids);
    if (!snapshot)
        return NULL;
    id_random_text(snapshot->name, SNAPSHOT_NAME_LENGTH);
    snapshot->tenant = tenant;
    snapshot->order = is_of_everything(filter) ? tenant->order : 0;
    snapshot->count = 0;
    for (struct list *cursor = tenant->workspaces.next; cursor != &tenant->workspaces;
         cursor = cursor->next) {
        const struct workspace *workspace = container_of(cursor, struct workspace, link);
        if (snapshot->count < tenant->workspace_count && matches(workspace, filter))
            memcpy(snapshot->ids[snapshot->count++], workspace->workspace_id, ID_SIZE);
    }
    struct list_snapshot *fitting =
        realloc(snapshot, sizeof *snapshot + snapshot->count * sizeof *snapshot->ids);
    snapshot = fitting ? fitting : snapshot;
    list_append(&supervisor->snapshots, &snapshot->link);
    tenant->snapshot_ids += snapshot->count;
    supervisor->snapshot_ids += snapshot->count;
    supervisor->snapshot_count++;
    make_room(supervisor);
    return snapshot;
}

void workspace_list_free(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->snapshots)
        snapshot_drop(supervisor, container_of(cursor, struct list_snapshot, link));
}

static int first_page(struct supervisor *supervisor, struct tenant *tenant,
                      const struct workspace_filter *filter,
                      void (*visit)(void *arg, struct workspace *workspace), void *arg,
                      char ret_cursor[WORKSPACE_CURSOR_SIZE], struct hearth_failure *failure)
{
    unsigned count = 0;
    bool more = false;
    for (struct list *cursor = tenant->workspaces.next; cursor != &tenant->workspaces;
         cursor = cursor->next) {
        struct workspace *workspace = container_of(cursor, struct workspace, link);
        if (!matches(workspace, filter))
            continue;
        if (count++ == filter->limit) {
            more = true;
            break;
        }
        visit(arg, workspace);
    }
    if (!more)
        return 0;
    const struct list_snapshot *snapshot = snapshot_take(supervisor, tenant, filter);
    if (!snapshot)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    snprintf(ret_cursor, WORKSPACE_CURSOR_SIZE, "%s.%u", snapshot->name, filter->limit);
    return 0;
}

static struct list_snapshot *snapshot_find(struct supervisor *supervisor,
                                           const struct tenant *tenant, const char *cursor,
                                           size_t *ret_position)
{
    const char *dot = strchr(cursor, '.');
    char *end;
    if (!dot || dot - cursor != SNAPSHOT_NAME_LENGTH ||
        strspn(dot + 1, "0123456789") != strlen(dot + 1) || !dot[1] || strlen(dot + 1) > 9)
        return NULL;
    *ret_position = strtoul(dot + 1, &end, 10);
    list_for_each(link, next, &supervisor->snapshots)
    {
        struct list_snapshot *snapshot = container_of(link, struct list_snapshot, link);
        if (snapshot->tenant == tenant &&
            memcmp(snapshot->name, cursor, SNAPSHOT_NAME_LENGTH) == 0 &&
            *ret_position <= snapshot->count)
            return used(supervisor, snapshot);
    }
    return NULL;
}

int workspace_list(struct supervisor *supervisor, const struct principal *principal,
                   const struct workspace_filter *filter,
                   void (*visit)(void *arg, struct workspace *workspace), void *arg,
                   char ret_cursor[WORKSPACE_CURSOR_SIZE], struct hearth_failure *failure)
{
    struct tenant *tenant = principal->tenant;
    size_t position = 0;
    *ret_cursor = '\0';
    if (!filter->cursor || !*filter->cursor)
        return first_page(supervisor, tenant, filter, visit, arg, ret_cursor, failure);
    struct list_snapshot *snapshot = snapshot_find(supervisor, tenant, filter->cursor, &position);
    if (!snapshot)
        return supervisor_bad_cursor(failure);
    for (unsigned count = 0; position < snapshot->count && count < filter->limit; position++) {
        struct workspace *workspace = supervisor_workspace(supervisor, snapshot->ids[position]);
        if (!workspace || list_empty(&workspace->link))
            continue;
        visit(arg, workspace);
        count++;
    }
    if (position < snapshot->count)
        snprintf(ret_cursor, WORKSPACE_CURSOR_SIZE, "%s.%zu", snapshot->name, position);
    return 0;
}
