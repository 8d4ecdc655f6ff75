/* A change is a list of rows to write, each with its strings copied into the change's own memory.
 */
#include "storage/change.h"

#include "storage/db_internal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE ((size_t)2048 - 32)

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(max_align_t) char data[];
};

struct item {
    struct item *next;
    int (*apply)(struct db *db, const void *row, struct hearth_failure *failure);
    void *row;
};

struct change {
    struct item *first, **last;
    struct chunk *chunks;
    bool out_of_memory;
    writer_done done;
    void *arg;
};

/* Stands for the change that could not even be made. */
static struct change no_memory = {.out_of_memory = true};

struct change *change_new(void)
{
    struct change *change = calloc(1, sizeof *change);
    if (!change)
        return &no_memory;
    change->last = &change->first;
    return change;
}

static void free_rows(struct change *change)
{
    for (struct chunk *chunk = change->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    change->chunks = NULL;
}

void change_free(struct change *change)
{
    if (!change || change == &no_memory)
        return;
    free_rows(change);
    free(change);
}

static void *take(struct change *change, size_t size)
{
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct chunk *chunk = change->chunks;
    if (change->out_of_memory)
        return NULL;
    if (!chunk || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        chunk = malloc(sizeof *chunk + room);
        if (!chunk) {
            change->out_of_memory = true;
            return NULL;
        }
        *chunk = (struct chunk){.next = change->chunks, .size = room};
        change->chunks = chunk;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += size;
    return memory;
}

static void *copy(struct change *change, const void *data, size_t length)
{
    void *memory = data && length ? take(change, length) : NULL;
    return memory ? memcpy(memory, data, length) : NULL;
}

static void keep_text(struct change *change, const char **text)
{
    *text = copy(change, *text, *text ? strlen(*text) + 1 : 0);
}

/* Adds an item whose row is a copy of row's own bytes; its strings are kept by the caller. NULL:
 * out of memory. */
static void *add(struct change *change,
                 int (*apply)(struct db *db, const void *row, struct hearth_failure *failure),
                 const void *row, size_t size)
{
    struct item *item = take(change, sizeof *item);
    void *kept = copy(change, row, size);
    if (!item || !kept)
        return NULL;
    *item = (struct item){.apply = apply, .row = kept};
    *change->last = item;
    change->last = &item->next;
    return kept;
}

/* Rows whose members are numbers and strings. */

static int apply_put_tenant(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_tenant(db, row, failure);
}

void change_put_tenant(struct change *change, const struct row_tenant *row)
{
    struct row_tenant *kept = add(change, apply_put_tenant, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->name);
    keep_text(change, &kept->host_roots);
    keep_text(change, &kept->network);
}

static int apply_set_tenant(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_set_tenant(db, row, failure);
}

void change_set_tenant(struct change *change, const struct row_tenant *row)
{
    struct row_tenant *kept = add(change, apply_set_tenant, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->host_roots);
    keep_text(change, &kept->network);
}

static int apply_put_token(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_token(db, row, failure);
}

void change_put_token(struct change *change, const struct row_token *row)
{
    struct row_token *kept = add(change, apply_put_token, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->token_id);
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->note);
}

static int apply_put_guest(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_guest(db, row, failure);
}

void change_put_guest(struct change *change, const struct row_guest *row)
{
    struct row_guest *kept = add(change, apply_put_guest, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->guest_id);
    keep_text(change, &kept->workspace_id);
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->driver);
    keep_text(change, &kept->environment_version);
    keep_text(change, &kept->driver_state);
    kept->state_key = copy(change, row->state_key, row->state_key_length);
}

static int apply_put_operation(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_operation(db, row, failure);
}

void change_put_operation(struct change *change, const struct row_operation *row)
{
    struct row_operation *kept = add(change, apply_put_operation, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->operation_id);
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->subject_id);
    keep_text(change, &kept->kind);
    keep_text(change, &kept->request);
}

static int apply_put_upload(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_upload(db, row, failure);
}

void change_put_upload(struct change *change, const struct row_upload *row)
{
    struct row_upload *kept = add(change, apply_put_upload, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->upload_id);
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->sha256);
    keep_text(change, &kept->compression);
}

static int apply_put_secret(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_secret(db, row, failure);
}

void change_put_secret(struct change *change, const struct row_secret *row)
{
    struct row_secret *kept = add(change, apply_put_secret, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->workspace_id);
    keep_text(change, &kept->name);
    keep_text(change, &kept->source_kind);
    kept->sealed = copy(change, row->sealed, row->sealed_length);
}

static int apply_put_snapshot(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_snapshot(db, row, failure);
}

static int apply_delete_snapshot(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct row_snapshot *row = arg;
    return rows_delete_snapshot(db, row->workspace_id, row->name, failure);
}

static void add_snapshot(struct change *change,
                         int (*apply)(struct db *db, const void *row,
                                      struct hearth_failure *failure),
                         const struct row_snapshot *row)
{
    struct row_snapshot *kept = add(change, apply, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->workspace_id);
    keep_text(change, &kept->name);
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->kind);
}

void change_put_snapshot(struct change *change, const struct row_snapshot *row)
{
    add_snapshot(change, apply_put_snapshot, row);
}

void change_delete_snapshot(struct change *change, const char *workspace_id, const char *name)
{
    add_snapshot(change, apply_delete_snapshot,
                 &(struct row_snapshot){.workspace_id = workspace_id, .name = name});
}

static int apply_put_service(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_service(db, row, failure);
}

static int apply_delete_service(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct row_service *row = arg;
    return rows_delete_service(db, row->workspace_id, row->name, failure);
}

void change_put_service(struct change *change, const struct row_service *row)
{
    struct row_service *kept = add(change, apply_put_service, row, sizeof *row);
    if (!kept)
        return;
    const char **texts[] = {&kept->workspace_id, &kept->name,        &kept->instance,
                            &kept->command,      &kept->cwd,         &kept->execution_mode,
                            &kept->readiness,    &kept->target,      &kept->restart,
                            &kept->state,        &kept->stop_reason, &kept->ports};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        keep_text(change, texts[i]);
}

void change_delete_service(struct change *change, const char *workspace_id, const char *name)
{
    const struct row_service row = {.workspace_id = workspace_id, .name = name};
    struct row_service *kept = add(change, apply_delete_service, &row, sizeof row);
    if (!kept)
        return;
    keep_text(change, &kept->workspace_id);
    keep_text(change, &kept->name);
}

static int apply_add_audit(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_add_audit(db, row, failure);
}

void change_add_audit(struct change *change, const struct row_audit *row)
{
    struct row_audit *kept = add(change, apply_add_audit, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->token_id);
    keep_text(change, &kept->request_id);
    keep_text(change, &kept->operation);
    keep_text(change, &kept->subject_id);
    keep_text(change, &kept->outcome);
}

static int apply_put_clock(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_clock(db, row, failure);
}

void change_put_clock(struct change *change, const struct row_clock *row)
{
    struct row_clock *kept = add(change, apply_put_clock, row, sizeof *row);
    if (kept)
        keep_text(change, &kept->boot_id);
}

static int apply_add_event(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_add_event(db, row, failure);
}

void change_add_event(struct change *change, const struct row_event *row)
{
    struct row_event *kept = add(change, apply_add_event, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->kind);
    keep_text(change, &kept->workspace_id);
    keep_text(change, &kept->facts);
}

static int apply_add_export(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_add_export(db, row, failure);
}

void change_add_export(struct change *change, const struct row_export *row)
{
    struct row_export *kept = add(change, apply_add_export, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->workspace_id);
    keep_text(change, &kept->kind);
    keep_text(change, &kept->path);
}

/* Rows with lists and bytes in them. */

static int apply_put_workspace(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_workspace(db, row, failure);
}

void change_put_workspace(struct change *change, const struct row_workspace *row)
{
    struct row_workspace *kept = add(change, apply_put_workspace, row, sizeof *row);
    if (!kept)
        return;
    const char **texts[] = {
        &kept->workspace_id,   &kept->tenant_id,      &kept->kind,
        &kept->name,           &kept->environment,    &kept->environment_version,
        &kept->network_policy, &kept->isolation,      &kept->state,
        &kept->failure_code,   &kept->failure_detail, &kept->guest_id,
        &kept->seed_mode,      &kept->seed_path,      &kept->seed_destination,
        &kept->transport,
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        keep_text(change, texts[i]);
    struct row_label *labels = copy(change, row->labels, row->label_count * sizeof *row->labels);
    kept->labels = labels;
    for (size_t i = 0; labels && i < row->label_count; i++) {
        keep_text(change, &labels[i].key);
        keep_text(change, &labels[i].value);
    }
}

static int apply_put_idempotency(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_idempotency(db, row, failure);
}

static int apply_delete_idempotency(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_delete_idempotency(db, row, failure);
}

static void add_idempotency(struct change *change,
                            int (*apply)(struct db *db, const void *row,
                                         struct hearth_failure *failure),
                            const struct row_idempotency *row)
{
    struct row_idempotency *kept = add(change, apply, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->tenant_id);
    keep_text(change, &kept->key);
    keep_text(change, &kept->content_type);
    kept->body = copy(change, row->body, row->body_length);
}

void change_put_idempotency(struct change *change, const struct row_idempotency *row)
{
    add_idempotency(change, apply_put_idempotency, row);
}

void change_delete_idempotency(struct change *change, const struct row_idempotency *row)
{
    add_idempotency(change, apply_delete_idempotency, row);
}

static int apply_put_exec(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_exec(db, row, failure);
}

void change_put_exec(struct change *change, const struct row_exec *row)
{
    struct row_exec *kept = add(change, apply_put_exec, row, sizeof *row);
    if (!kept)
        return;
    const char **texts[] = {
        &kept->exec_id, &kept->workspace_id, &kept->tenant_id,      &kept->command,
        &kept->cwd,     &kept->state,        &kept->execution_mode, &kept->problem,
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        keep_text(change, texts[i]);
    kept->stdout_data = copy(change, row->stdout_data, row->stdout_length);
    kept->stderr_data = copy(change, row->stderr_data, row->stderr_length);
}

/* What is known by an ID and at most two numbers. */

struct by_id {
    const char *id;
    int64_t number;
    uint64_t count;
};

static void add_by_id(struct change *change,
                      int (*apply)(struct db *db, const void *row, struct hearth_failure *failure),
                      const char *id, int64_t number, uint64_t count)
{
    struct by_id row = {id, number, count};
    struct by_id *kept = add(change, apply, &row, sizeof row);
    if (kept)
        keep_text(change, &kept->id);
}

static int apply_revoke_token(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_revoke_token(db, row->id, row->number, failure);
}

void change_revoke_token(struct change *change, const char *token_id, int64_t revoked_at)
{
    add_by_id(change, apply_revoke_token, token_id, revoked_at, 0);
}

static int apply_delete_workspace(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_delete_workspace(db, row->id, failure);
}

void change_delete_workspace(struct change *change, const char *workspace_id)
{
    add_by_id(change, apply_delete_workspace, workspace_id, 0, 0);
}

static int apply_touch_workspace(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_touch_workspace(db, row->id, row->number, row->count, failure);
}

void change_touch_workspace(struct change *change, const char *workspace_id,
                            int64_t last_activity_at, uint64_t command_count)
{
    add_by_id(change, apply_touch_workspace, workspace_id, last_activity_at, command_count);
}

static int apply_shift_activity(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_shift_activity(db, row->number, failure);
}

void change_shift_activity(struct change *change, int64_t step_us)
{
    add_by_id(change, apply_shift_activity, "", step_us, 0);
}

static int apply_delete_guest(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_delete_guest(db, row->id, failure);
}

void change_delete_guest(struct change *change, const char *guest_id)
{
    add_by_id(change, apply_delete_guest, guest_id, 0, 0);
}

static int apply_delete_guests_of(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_delete_guests_of(db, row->id, failure);
}

void change_delete_guests_of(struct change *change, const char *workspace_id)
{
    add_by_id(change, apply_delete_guests_of, workspace_id, 0, 0);
}

static int apply_delete_operation(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_delete_operation(db, row->id, failure);
}

void change_delete_operation(struct change *change, const char *operation_id)
{
    add_by_id(change, apply_delete_operation, operation_id, 0, 0);
}

static int apply_delete_upload(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_delete_upload(db, row->id, failure);
}

void change_delete_upload(struct change *change, const char *upload_id)
{
    add_by_id(change, apply_delete_upload, upload_id, 0, 0);
}

static int apply_prune_idempotency(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_prune_idempotency(db, row->number, failure);
}

void change_prune_idempotency(struct change *change, int64_t before)
{
    add_by_id(change, apply_prune_idempotency, "", before, 0);
}

static int apply_clear_execs(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_clear_execs(db, row->id, failure);
}

void change_clear_execs(struct change *change, const char *workspace_id)
{
    add_by_id(change, apply_clear_execs, workspace_id, 0, 0);
}

static int apply_put_service_log(struct db *db, const void *row, struct hearth_failure *failure)
{
    return rows_put_service_log(db, row, failure);
}

void change_put_service_log(struct change *change, const struct row_service_log *row)
{
    struct row_service_log *kept = add(change, apply_put_service_log, row, sizeof *row);
    if (!kept)
        return;
    keep_text(change, &kept->workspace_id);
    keep_text(change, &kept->name);
    keep_text(change, &kept->instance);
    kept->output.data = copy(change, row->output.data, row->output.length);
    kept->errors.data = copy(change, row->errors.data, row->errors.length);
}

static int apply_clear_service_logs(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_clear_service_logs(db, row->id, failure);
}

void change_clear_service_logs(struct change *change, const char *workspace_id)
{
    add_by_id(change, apply_clear_service_logs, workspace_id, 0, 0);
}

static int apply_clear_exports(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_clear_exports(db, row->id, failure);
}

void change_clear_exports(struct change *change, const char *workspace_id)
{
    add_by_id(change, apply_clear_exports, workspace_id, 0, 0);
}

static int apply_clear_execs_before(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_clear_execs_before(db, row->id, row->number, failure);
}

void change_clear_execs_before(struct change *change, const char *workspace_id, int64_t at)
{
    add_by_id(change, apply_clear_execs_before, workspace_id, at, 0);
}

static int apply_prune_execs(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_prune_execs(db, row->id, (unsigned)row->count, failure);
}

void change_prune_execs(struct change *change, const char *workspace_id, unsigned keep)
{
    add_by_id(change, apply_prune_execs, workspace_id, 0, keep);
}

static int apply_prune_events(struct db *db, const void *arg, struct hearth_failure *failure)
{
    const struct by_id *row = arg;
    return rows_prune_events(db, row->id, row->count, row->number, failure);
}

void change_prune_events(struct change *change, const char *tenant_id, uint64_t until,
                         int64_t before)
{
    add_by_id(change, apply_prune_events, tenant_id, before, until);
}

/* Committing. */

static int apply_all(struct db *db, void *arg, struct hearth_failure *failure)
{
    const struct change *change = arg;
    if (change->out_of_memory)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a change");
    int error = 0;
    for (const struct item *item = change->first; item && !error; item = item->next)
        error = item->apply(db, item->row, failure);
    return error;
}

static void committed(void *arg, int error, const struct hearth_failure *failure)
{
    struct change *change = arg;
    if (change->done)
        change->done(change->arg, error, failure);
    change_free(change);
}

/* The change that was never made has nowhere to keep who is to be told: this has. */
struct stillborn {
    writer_done done;
    void *arg;
};

static int apply_nothing(struct db *db, void *arg, struct hearth_failure *failure)
{
    (void)db;
    (void)arg;
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a change");
}

static void stillborn_told(void *arg, int error, const struct hearth_failure *failure)
{
    struct stillborn *stillborn = arg;
    if (stillborn->done)
        stillborn->done(stillborn->arg, error, failure);
    free(stillborn);
}

void change_commit(struct change *change, struct writer *writer, writer_done done, void *arg)
{
    if (change == &no_memory) {
        struct stillborn *stillborn = malloc(sizeof *stillborn);
        if (!stillborn)
            abort();
        *stillborn = (struct stillborn){done, arg};
        writer_submit(writer, apply_nothing, stillborn, stillborn_told);
        return;
    }
    change->done = done;
    change->arg = arg;
    if (!writer_submit(writer, apply_all, change, committed))
        free_rows(change); /* it only waits to be told so: many may, while a disk hangs */
}
