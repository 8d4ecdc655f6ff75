#include "supervisord/secret_rotation.h"

#include "base/crash_point.h"
#include "base/log.h"
#include "supervisord/secret_internal.h"
#include "supervisord/worker.h"

#include <stdio.h>
#include <stdlib.h>

#define PIECE_BYTES                                                                                \
    ((size_t)4 << 20) /* sealed again at once, in one commit: a few milliseconds                   \
                       */

struct rotation {
    struct supervisor *supervisor;
    struct secret_keys *keys; /* the supervisor's: changed by us alone while we are under way */
    enum secret_key_file file;
    struct hearth_failure failure;
    struct secret_rotation_result result;
    size_t left; /* rows that the old key has sealed */
    bool again;  /* they have been looked for once more */
    secret_rotated done;
    void *arg;
};

static void end(struct rotation *rotation)
{
    struct supervisor *supervisor = rotation->supervisor;
    int error = (int)rotation->failure.error;
    if (error)
        log_error("secret_key_kept", "id=%s detail=\"%s\"", rotation->result.old_key_id,
                  rotation->failure.detail);
    else
        log_info("secret_key_changed", "id=%s old=%s count=%zu", rotation->result.key_id,
                 rotation->result.old_key_id, rotation->result.secrets);
    supervisor->rotating = false;
    if (rotation->done)
        rotation->done(rotation->arg, error, &rotation->failure, error ? NULL : &rotation->result);
    free(rotation);
    supervisor->works--;
    supervisor_maybe_quiet(supervisor);
}

/* The file. */

static void write_file(void *arg)
{
    struct rotation *rotation = arg;
    secret_keys_write(rotation->keys, rotation->file, &rotation->failure);
}

static void forgotten(void *arg)
{
    struct rotation *rotation = arg;
    crash_point("rotate:forgotten");
    if (!rotation->failure.error)
        secret_keys_forget_old(rotation->keys);
    end(rotation);
}

static void forget(struct rotation *rotation)
{
    if (secret_keys_credential(rotation->keys)) {
        secret_keys_forget_old(rotation->keys);
        end(rotation);
        return;
    }
    rotation->file = SECRET_KEY_FILE_NOW;
    worker_submit(rotation->supervisor->workers, write_file, forgotten, rotation);
}

/* What the old key has sealed. */

static bool sealed_before(const struct workspace *workspace)
{
    for (size_t i = 0; i < workspace->secret_count; i++)
        if (secret_sealed_before(workspace->supervisor->secret_keys, workspace->secrets[i].sealed,
                                 workspace->secrets[i].length))
            return true;
    return false;
}

/* Gives the bytes; 0 where some cannot be opened: then all stay as they are. */
static size_t seal_again(struct workspace *workspace)
{
    struct secrets_open open;
    struct hearth_failure failure;
    if (secrets_open(workspace, &open, &failure)) {
        log_error("secrets_not_opened", "workspace=%s detail=\"%s\"", workspace->workspace_id,
                  failure.detail);
        return 0;
    }
    size_t bytes = open.size;
    for (size_t i = 0; i < open.count; i++) {
        struct secret_owner owner = secret_owner_of(workspace, workspace->secrets[i].name);
        secret_seal(workspace->supervisor->secret_keys, &owner, open.messages[i].value.data,
                    open.messages[i].value.len, workspace->secrets[i].sealed);
    }
    secrets_close(&open);
    return bytes;
}

/* The key of what the workspace's guest was or is being saved to; gives its bytes. */
static size_t seal_state_key(struct workspace *workspace, struct change *change)
{
    struct row_guest row;
    if (!workspace->sandbox || !state_key_seal_again(workspace->sandbox))
        return 0;
    sandbox_row(workspace->sandbox, &row);
    change_put_guest(change, &row);
    return row.state_key_length;
}

/* One that takes a guest that waited has its first rows at the end of its making. */
static bool has_rows(const struct workspace *workspace)
{
    return workspace->state != WORKSPACE_CREATING || workspace->steps;
}

/* Some of it, into change; gives its bytes, and adds how many secrets to count. */
static size_t seal_piece(struct supervisor *supervisor, struct change *change, size_t *count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i]; entry;
             entry = entry->next) {
            struct workspace *workspace = container_of(entry, struct workspace, entry);
            size_t sealed = sealed_before(workspace) ? seal_again(workspace) : 0;
            if (sealed && has_rows(workspace)) {
                secrets_put(workspace, change);
                *count += workspace->secret_count;
            }
            bytes += sealed + seal_state_key(workspace, change);
            if (bytes >= PIECE_BYTES)
                return bytes;
        }
    return bytes;
}

static void look(struct rotation *rotation);

static void seal_next(struct rotation *rotation);

static void piece_kept(void *arg, int error, const struct hearth_failure *failure)
{
    struct rotation *rotation = arg;
    crash_point("rotate:sealed");
    rotation->failure = error ? *failure : rotation->failure;
    if (error)
        end(rotation);
    else
        seal_next(rotation);
}

static void seal_next(struct rotation *rotation)
{
    struct change *change = change_new();
    if (seal_piece(rotation->supervisor, change, &rotation->result.secrets)) {
        change_commit(change, rotation->supervisor->writer, piece_kept, rotation);
    } else {
        change_free(change);
        look(rotation);
    }
}

/* Rows may have been on their way while the key turned: what is stored decides. */

static int count_rows(struct db *db, void *arg, struct hearth_failure *failure)
{
    struct rotation *rotation = arg;
    return rows_count_secrets(db, rotation->result.old_key_id, &rotation->left, failure);
}

static void looked(void *arg, int error, const struct hearth_failure *failure)
{
    struct rotation *rotation = arg;
    if (error) {
        rotation->failure = *failure;
        end(rotation);
    } else if (!rotation->left) {
        forget(rotation);
    } else if (!rotation->again) {
        rotation->again = true;
        seal_next(rotation);
    } else {
        hearth_fail(&rotation->failure, HEARTH_EINTERNAL, "secret_unreadable",
                    "%zu secrets cannot be opened with the old key, which is kept", rotation->left);
        hearth_failure_hint(&rotation->failure, "The daemon's log names their workspaces: delete "
                                                "those, then rotate again.");
        end(rotation);
    }
}

static void look(struct rotation *rotation)
{
    writer_submit(rotation->supervisor->writer, count_rows, rotation, looked);
}

/* The beginning. */

static void begin_sealing(struct rotation *rotation)
{
    secret_keys_ids(rotation->keys, rotation->result.key_id, rotation->result.old_key_id);
    seal_next(rotation);
}

static void new_key_written(void *arg)
{
    struct rotation *rotation = arg;
    crash_point("rotate:written");
    if (rotation->failure.error) {
        end(rotation);
        return;
    }
    secret_keys_turn(rotation->keys);
    crash_point("rotate:turned");
    begin_sealing(rotation);
}

static struct rotation *rotation_new(struct supervisor *supervisor, secret_rotated done, void *arg)
{
    struct rotation *rotation = calloc(1, sizeof *rotation);
    if (!rotation)
        abort();
    *rotation = (struct rotation){
        .supervisor = supervisor, .keys = supervisor->secret_keys, .done = done, .arg = arg};
    supervisor->rotating = true;
    supervisor->works++;
    return rotation;
}

struct refusal {
    struct hearth_failure failure;
    secret_rotated done;
    void *arg;
};

static void refused(void *arg)
{
    auto_free struct refusal *refusal = arg;
    refusal->done(refusal->arg, (int)refusal->failure.error, &refusal->failure, NULL);
}

/* False with the reason. */
static bool may_rotate(const struct supervisor *supervisor, struct hearth_failure *failure)
{
    if (secret_keys_credential(supervisor->secret_keys)) {
        hearth_fail(failure, HEARTH_ECONFLICT, "key_is_credential",
                    "the key of secrets is a credential, which the daemon cannot change");
        hearth_failure_hint(failure, "Give the new one as hearth-secret-key and the old one as "
                                     "hearth-secret-key-old, and restart the daemon.");
        return false;
    }
    if (!supervisor->rotating)
        return true;
    hearth_fail(failure, HEARTH_ECONFLICT, "rotation_running", "the key is being changed already");
    failure->retryable = true;
    return false;
}

void secret_rotate(struct supervisor *supervisor, secret_rotated done, void *arg)
{
    struct refusal refusal = {.done = done, .arg = arg};
    if (!may_rotate(supervisor, &refusal.failure)) {
        struct refusal *told = malloc(sizeof *told);
        if (!told)
            abort();
        *told = refusal;
        loop_defer(supervisor->loop, refused, told);
        return;
    }
    struct rotation *rotation = rotation_new(supervisor, done, arg);
    if (secret_keys_any_old(rotation->keys)) {
        begin_sealing(rotation);
        return;
    }
    secret_keys_next(rotation->keys);
    rotation->file = SECRET_KEY_FILE_BOTH;
    worker_submit(supervisor->workers, write_file, new_key_written, rotation);
}

void secret_rotation_settle(struct supervisor *supervisor)
{
    if (secret_keys_any_old(supervisor->secret_keys))
        begin_sealing(rotation_new(supervisor, NULL, NULL));
}
