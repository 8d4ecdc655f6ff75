/* hearthd's middle: everything there is one of. Made by main, used by api/ through the headers
 * beside this one. */
#pragma once

#include "supervisord/config.h"
#include "supervisord/disk.h"
#include "supervisord/environment.h"
#include "supervisord/exec.h"
#include "supervisord/files.h"
#include "supervisord/tenant.h"
#include "supervisord/upload.h"
#include "supervisord/workspace.h"

struct supervisor;

struct loop *supervisor_loop(struct supervisor *supervisor);
struct environments *supervisor_environments(struct supervisor *supervisor);
struct uploads *supervisor_uploads(struct supervisor *supervisor);
const struct config *supervisor_config(struct supervisor *supervisor);

/* One audit row (storage/rows.h), for changes that are made outside workspace.h: uploads, tenants,
 * refusals. */
void supervisor_audit(struct supervisor *supervisor, const struct principal *principal,
                      const char *request_id, const char *operation, const char *subject_id,
                      const char *outcome);

/* A cursor that is none of ours: HEARTH_EINVALID `bad_cursor`, field "/cursor". */
int supervisor_bad_cursor(struct hearth_failure *failure);

/* The environment versions that workspaces were made of; borrowed until the next call. */
const char *const *supervisor_versions_in_use(struct supervisor *supervisor, size_t *ret_count);

/* For /readyz, /metrics, doctor. */
#define STORAGE_COUNT 2
struct storage_health {
    const char *name; /* "state", "history" */
    uint64_t commits, changes, failures, queued;
};
struct supervisor_health {
    struct storage_health storage[STORAGE_COUNT];
    bool recovered; /* adoption is done */
    bool storage_ok;
    bool draining;
    const char *driver; /* the chosen one, "none" */
    uint32_t workspaces[WORKSPACE_STATE_MAX];
    uint32_t guests, pooled_guests, paused_guests, pool_making, running_execs, links_up;
    uint64_t execs_total, execs_failed, creates_total, creates_failed, deletes_total, adopted_total,
        links_lost_total, pool_claims_total, pool_evictions_total;
    struct driver_counters drivers;
};
void supervisor_get_health(struct supervisor *supervisor, struct supervisor_health *ret_health);
/* Each driver's last probe; names are static. */
void supervisor_each_driver(struct supervisor *supervisor,
                            void (*visit)(void *arg, const char *name, bool chosen,
                                          const struct driver_probe *probe),
                            void *arg);
