/* What the supervisor's own files share about snapshots. */
#pragma once

#include "base/id.h"
#include "base/list.h"
#include "storage/change.h"
#include "supervisord/snapshot.h"
#include "supervisord/tree/capture.h"

struct snapshot {
    struct list link; // workspace::snapshots
    char name[SNAPSHOT_NAME_MAX + 1];
    bool baseline, has_root; /* no root: the tree is empty */
    bool uncommitted;        /* its row is on its way: it holds its name, and is told to nobody */
    struct store_hash root;  /* the store counts a reference */
    uint64_t entry_count, bytes;
    int64_t created_at;
};

/* What a fork begins with. The caller holds a reference to root until the create is done. */
struct fork_origin {
    struct store_hash root;
    char environment_version[72];
    char workspace_id[ID_SIZE];      /* whose secrets a copy gets too */
    struct guest_copy *copy;         /* of its running guest, instead of root; NULL */
    struct services_noted *services; /* that run in it; NULL */
};

/* Start-up. */
int snapshot_load(struct supervisor *supervisor, const struct row_snapshot *row);
/* NULL and HEARTH_ENOTFOUND `snapshot_not_found`. */
struct snapshot *snapshot_find(struct workspace *workspace, const char *name,
                               struct hearth_failure *failure);
/* Makes the baseline of what was captured (NULL: an empty tree) and adds its row to change. */
void snapshot_put_baseline(struct workspace *workspace, const struct captured *captured,
                           struct change *change);
void snapshots_free(struct workspace *workspace);
/* The workspace is deleted, its rows with it: their trees are given back. */
void snapshots_release(struct workspace *workspace);
/* The stores' way to count references at their opening. */
void snapshots_each_root(void *supervisor, const char *tenant_id,
                         void (*visit)(void *arg, const struct store_hash *root), void *arg);
/* As `wanted` for stores_tidy. */
bool snapshots_known_wanted(void *supervisor, const char *known_name);
