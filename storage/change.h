/* Rows to be written together: built on the loop, applied in order as one submission by the writer.
 * Every call copies what it is given. A change that ran out of memory while it was built fails as a
 * whole when committed. */
#pragma once

#include "storage/rows.h"
#include "storage/writer.h"

struct change;

struct change *
change_new(void); /* never NULL: a change that could not be made fails at its commit */

void change_put_tenant(struct change *change, const struct row_tenant *row);
/* Only host_roots and network, and of these what is not NULL: two settings that are changed at the
 * same time are both kept. */
void change_set_tenant(struct change *change, const struct row_tenant *row);
void change_put_token(struct change *change, const struct row_token *row);
void change_revoke_token(struct change *change, const char *token_id, int64_t revoked_at);

/* put = insert or replace by key, labels and all. */
void change_put_workspace(struct change *change, const struct row_workspace *row);
void change_delete_workspace(struct change *change, const char *workspace_id);
/* The one column that moves with every use. */
void change_touch_workspace(struct change *change, const char *workspace_id,
                            int64_t last_activity_at, uint64_t command_count);

/* The wall clock was set: the times of all workspaces' activity move with it. */
void change_shift_activity(struct change *change, int64_t step_us);
void change_put_clock(struct change *change, const struct row_clock *row);

void change_put_guest(struct change *change, const struct row_guest *row);
void change_delete_guest(struct change *change, const char *guest_id);
void change_delete_guests_of(struct change *change, const char *workspace_id);

void change_put_operation(struct change *change, const struct row_operation *row);
void change_delete_operation(struct change *change, const char *operation_id);

void change_put_upload(struct change *change, const struct row_upload *row);
void change_delete_upload(struct change *change, const char *upload_id);

/* sealed already: no change holds a value in clear. */
void change_put_secret(struct change *change, const struct row_secret *row);
void change_put_snapshot(struct change *change, const struct row_snapshot *row);
void change_delete_snapshot(struct change *change, const char *workspace_id, const char *name);
void change_put_service(struct change *change, const struct row_service *row);
void change_delete_service(struct change *change, const char *workspace_id, const char *name);

void change_put_idempotency(struct change *change, const struct row_idempotency *row);
/* By tenant, key and intent. */
void change_delete_idempotency(struct change *change, const struct row_idempotency *row);
void change_prune_idempotency(struct change *change, int64_t before);

void change_add_audit(struct change *change, const struct row_audit *row);

/* History database only. */
void change_put_exec(struct change *change, const struct row_exec *row);
void change_clear_execs(struct change *change, const char *workspace_id);
/* Those that began before this time: what a reset left. */
void change_clear_execs_before(struct change *change, const char *workspace_id, int64_t at);
/* Keeps the newest `keep` entries of a workspace. */
void change_prune_execs(struct change *change, const char *workspace_id, unsigned keep);
/* Keeps EXPORTS_MAX of a workspace. */
void change_add_export(struct change *change, const struct row_export *row);
/* One a service: the start before's goes. */
void change_put_service_log(struct change *change, const struct row_service_log *row);
void change_clear_service_logs(struct change *change, const char *workspace_id);
void change_clear_exports(struct change *change, const char *workspace_id);
void change_add_event(struct change *change, const struct row_event *row);
/* The tenant's events up to number `until`, and those older than `before`. */
void change_prune_events(struct change *change, const char *tenant_id, uint64_t until,
                         int64_t before);

/* Takes change. done as writer_submit; NULL allowed. */
void change_commit(struct change *change, struct writer *writer, writer_done done, void *arg);
void change_free(struct change *change);
