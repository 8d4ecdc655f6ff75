/* Snapshots: a workspace's tree by a name. The baseline is the first, made with the workspace; it
 * cannot be deleted. Loop thread; completions exactly once, never before the call returns, and
 * after it is durable. */
#pragma once

#include "supervisord/workspace.h"

#define SNAPSHOT_NAME_MAX 64
#define SNAPSHOT_BASELINE "baseline"

struct snapshot_info {
    const char *workspace_id, *name;
    bool baseline;
    int64_t created_at;
    uint64_t entry_count, bytes;
};

/* [A-Za-z0-9][A-Za-z0-9._-]{0,63}; HEARTH_EINVALID `bad_snapshot_name`, field "/snapshot_name". */
int snapshot_name_check(const char *name, struct hearth_failure *failure);

typedef void (*snapshot_done)(void *arg, int error, const struct hearth_failure *failure,
                              const struct snapshot_info *snapshot);
/* HEARTH_ECONFLICT `snapshot_exists`, HEARTH_EINVALID `snapshot_name_reserved`, HEARTH_EQUOTA
 * `quota_snapshots`, and what tree_capture says. */
void snapshot_create(struct workspace *workspace, const struct principal *principal,
                     const char *name, const char *request_id, snapshot_done done, void *arg);
/* HEARTH_ENOTFOUND `snapshot_not_found`, HEARTH_ECONFLICT `snapshot_protected` for the baseline. */
void snapshot_delete(struct workspace *workspace, const struct principal *principal,
                     const char *name, const char *request_id, snapshot_done done, void *arg);
/* The baseline first, then the newest first. */
void snapshot_each(struct workspace *workspace,
                   void (*visit)(void *arg, const struct snapshot_info *snapshot), void *arg);
