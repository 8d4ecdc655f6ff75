/* What is stored, a struct for each kind of row (rows_KIND.c reads and writes it). Strings in a row
 * that is written are borrowed; strings in a row that a visitor gets live only for the call. NULL
 * is SQL NULL. Times are wall-clock microseconds, 0 for never. Every row of a tenant names it, and
 * every query but start-up's asks for it. */
#pragma once

#include "storage/db.h"

#include <stddef.h>

struct row_label {
    const char *key;
    const char *value;
};

struct row_tenant {
    const char *tenant_id; /* "admin" is made at the first start */
    const char *name;
    int64_t created_at;
    uint32_t max_workspaces, max_running_execs;
    uint64_t max_mem_mib, max_kept_upload_bytes;
    int64_t retention_us;
    const char *host_roots; /* newline-separated absolute paths, "" for none */
    const char *network;    /* what guests may reach: "open" or "listed", entries, a line each */
};

enum token_rights { RIGHT_READ = 1, RIGHT_OPERATE = 2, RIGHT_ADMIN = 4 };

struct row_token {
    const char *token_id; /* the public part */
    const char *tenant_id;
    unsigned char hash[32]; /* SHA-256 of the secret part */
    unsigned rights;        /* enum token_rights, or-ed */
    const char *note;
    int64_t created_at, expires_at, revoked_at;
};

struct row_workspace {
    const char *workspace_id, *tenant_id;
    const char *kind; /* "workspace" or "vm" (one-shot) */
    const char *name; /* NULL: none */
    const struct row_label *labels;
    size_t label_count;
    const char *environment, *environment_version;
    uint32_t vcpu_count, mem_mib, disk_mib;
    int64_t ttl_us;
    const char *network_policy;
    const char *isolation; /* demanded: NULL, "vm", "container" */
    const char *transport; /* demanded: NULL or a transport's name */
    bool allow_host_compat;
    int64_t created_at, last_activity_at;
    const char *state; /* creating, started, suspended, stopped, failed, deleting */
    const char *failure_code, *failure_detail;
    const char *guest_id; /* NULL: none yet */
    const char *seed_mode, *seed_path, *seed_destination;
    uint64_t seed_entry_count, seed_bytes;
    uint64_t command_count, exec_sequence;
    uint32_t reset_count;
    int64_t last_reset_at;
    bool suspended; /* with state "stopped" */
};

/* A sandbox: of a workspace, or waiting in the pool (workspace_id NULL). */
struct row_guest {
    const char *guest_id; /* "gu_…" */
    uint32_t guest_index; /* small and unique: picks its uid range */
    const char *workspace_id, *tenant_id;
    const char *driver;
    const char *environment_version;
    const char *driver_state; /* the driver's own words, by which it finds the guest again */
    int64_t created_at;
    const void *state_key; /* sealed; NULL: nothing was saved */
    size_t state_key_length;
};

/* A journalled operation (create, delete, …): what a crash leaves to finish or undo. */
struct row_operation {
    const char *operation_id;
    const char *tenant_id, *subject_id, *kind;
    const char *request; /* the kind's own words */
    uint32_t step;       /* steps begun so far */
    bool undoing;
    int64_t created_at;
};

struct row_upload {
    const char *upload_id, *tenant_id;
    uint64_t size_bytes, entry_count, content_bytes;
    const char *sha256; /* hex */
    const char *compression;
    int64_t created_at, last_used_at;
};

struct row_service {
    const char *workspace_id, *name, *instance, *command, *cwd, *execution_mode;
    const char *readiness, *target; /* "none", "file", "tcp", "http", "command"; "" for none */
    const char *restart, *state, *stop_reason;
    const char *ports;                      /* "GUEST:HOST GUEST:HOST" */
    int64_t started_at, ready_at, ended_at; /* 0: not */
    bool has_exit;
    int exit_code;
    uint32_t pid, restarts;
};

struct row_secret {
    const char *workspace_id, *name;
    const char *source_kind; /* "literal", "file" */
    const void *sealed;
    size_t sealed_length;
};

struct row_snapshot {
    const char *workspace_id, *name, *tenant_id;
    const char *kind; /* "baseline", "named" */
    bool has_root;    /* false: the tree is empty */
    unsigned char root[32];
    uint64_t entry_count, bytes;
    int64_t created_at;
};

/* An idempotent request: its intent before it acts, its answer after. */
struct row_idempotency {
    const char *tenant_id, *key;
    uint64_t intent;                /* what the audit rows of its effects carry */
    unsigned char fingerprint[32];  /* of operation and canonical input */
    bool has_content;               /* a raw body was read to its end … */
    unsigned char content_hash[32]; /* … and had this SHA-256 */
    int status;                     /* 0: not answered yet */
    const char *content_type;
    const void *body;
    size_t body_length;
    int64_t created_at;
};

struct row_audit {
    int64_t at;
    const char *tenant_id, *token_id, *request_id;
    const char *operation, *subject_id;
    const char *outcome; /* "ok", "begun" or a problem's code */
    uint64_t intent;     /* the idempotent request that asked for it; 0: none */
};

struct row_exec {
    const char *exec_id, *workspace_id, *tenant_id;
    uint64_t sequence;
    const char *command, *cwd;
    const char *state; /* running, exited, failed, lost */
    const char *execution_mode;
    const char *problem; /* why it failed or was lost */
    bool started, timed_out, cancelled, drained, truncated, signalled;
    int exit_code, signal;
    int64_t started_at, ended_at;
    int64_t duration_us;
    const void *stdout_data, *stderr_data; /* head and tail, redacted */
    size_t stdout_length, stderr_length;
    uint64_t stdout_bytes, stderr_bytes; /* how much there was */
};

struct row_event {
    uint64_t sequence; /* among the tenant's */
    int64_t at;
    const char *tenant_id, *kind, *workspace_id;
    const char *facts; /* supervisord/events.c's own words */
};

/* Something that left a workspace whole. */
struct row_export {
    const char *workspace_id;
    int64_t at;
    const char *kind, *path; /* "files" or "disk"; path is "" of a disk */
    uint64_t entry_count, bytes;
};
#define EXPORTS_MAX 1000 /* kept of a workspace */

/* What a service had printed when its guest was stopped. */
struct row_service_log {
    const char *workspace_id, *name;
    const char *instance; /* of the start that printed it */
    struct row_log_part {
        uint64_t from; /* what stood before data is gone */
        const void *data;
        size_t length;
    } output, errors;
};

/* How a workspace's commands have ended, of those in its history. */
struct row_exec_totals {
    uint64_t ended, succeeded, failed, timed_out, cancelled, lost;
    int64_t duration_us; /* together */
};

/* The host's wall clock, as it was last seen. */
struct row_clock {
    const char *boot_id;
    int64_t offset_us; /* ahead of the time since that boot */
};

/* Visitors return 0 to go on, a negative error to stop with it. */
typedef int (*row_tenant_visit)(void *arg, const struct row_tenant *row);
typedef int (*row_token_visit)(void *arg, const struct row_token *row);
typedef int (*row_workspace_visit)(void *arg, const struct row_workspace *row);
typedef int (*row_guest_visit)(void *arg, const struct row_guest *row);
typedef int (*row_operation_visit)(void *arg, const struct row_operation *row);
typedef int (*row_upload_visit)(void *arg, const struct row_upload *row);
typedef int (*row_secret_visit)(void *arg, const struct row_secret *row);
typedef int (*row_snapshot_visit)(void *arg, const struct row_snapshot *row);
typedef int (*row_service_visit)(void *arg, const struct row_service *row);
typedef int (*row_idempotency_visit)(void *arg, const struct row_idempotency *row);
typedef int (*row_audit_visit)(void *arg, const struct row_audit *row);
typedef int (*row_exec_visit)(void *arg, const struct row_exec *row);
typedef int (*row_clock_visit)(void *arg, const struct row_clock *row);
typedef int (*row_service_log_visit)(void *arg, const struct row_service_log *row);
typedef int (*row_export_visit)(void *arg, const struct row_export *row);
typedef int (*row_event_visit)(void *arg, const struct row_event *row);

/* Start-up: everything, oldest first; workspaces by their last activity. */
int rows_each_tenant(struct db *db, row_tenant_visit visit, void *arg,
                     struct hearth_failure *failure) must_check;
int rows_each_token(struct db *db, row_token_visit visit, void *arg,
                    struct hearth_failure *failure) must_check;
int rows_each_workspace(struct db *db, row_workspace_visit visit, void *arg,
                        struct hearth_failure *failure) must_check;
int rows_each_guest(struct db *db, row_guest_visit visit, void *arg,
                    struct hearth_failure *failure) must_check;
int rows_each_operation(struct db *db, row_operation_visit visit, void *arg,
                        struct hearth_failure *failure) must_check;
int rows_each_upload(struct db *db, row_upload_visit visit, void *arg,
                     struct hearth_failure *failure) must_check;
int rows_each_secret(struct db *db, row_secret_visit visit, void *arg,
                     struct hearth_failure *failure) must_check;
/* Those, and the keys of saved states, whose sealed form begins with these bytes (in hex), of
 * workspaces that stay. */
int rows_count_secrets(struct db *db, const char *beginning, size_t *ret_count,
                       struct hearth_failure *failure) must_check;
int rows_each_snapshot(struct db *db, row_snapshot_visit visit, void *arg,
                       struct hearth_failure *failure) must_check;

int rows_find_clock(struct db *db, row_clock_visit visit, void *arg,
                    struct hearth_failure *failure) must_check;
int rows_each_service(struct db *db, row_service_visit visit, void *arg,
                      struct hearth_failure *failure) must_check;

/* Look-ups on a reading connection. Where nothing is found visit is not called and 0 is returned.
 */
int rows_find_idempotency(struct db *db, const char *tenant_id, const char *key,
                          row_idempotency_visit visit, void *arg,
                          struct hearth_failure *failure) must_check;
/* The last audit row that an intent has led to. */
int rows_find_effect(struct db *db, uint64_t intent, row_audit_visit visit, void *arg,
                     struct hearth_failure *failure) must_check;
int rows_find_exec(struct db *db, const char *workspace_id, const char *exec_id,
                   row_exec_visit visit, void *arg, struct hearth_failure *failure) must_check;
/* A workspace's history, oldest first, sequence > after, at most limit rows. */
int rows_page_execs(struct db *db, const char *workspace_id, uint64_t after, unsigned limit,
                    row_exec_visit visit, void *arg, struct hearth_failure *failure) must_check;
/* The newest row of a workspace that is not running any more. */
int rows_last_exec(struct db *db, const char *workspace_id, row_exec_visit visit, void *arg,
                   struct hearth_failure *failure) must_check;
/* The newest rows that are not running any more, newest first, without their output. */
int rows_latest_execs(struct db *db, const char *workspace_id, unsigned limit, row_exec_visit visit,
                      void *arg, struct hearth_failure *failure) must_check;
int rows_total_execs(struct db *db, const char *workspace_id, struct row_exec_totals *ret_totals,
                     struct hearth_failure *failure) must_check;
/* Newest first. */
int rows_latest_exports(struct db *db, const char *workspace_id, unsigned limit,
                        row_export_visit visit, void *arg,
                        struct hearth_failure *failure) must_check;
int rows_find_service_log(struct db *db, const char *workspace_id, const char *instance,
                          row_service_log_visit visit, void *arg,
                          struct hearth_failure *failure) must_check;
/* Rows still marked running, at start-up. */
int rows_each_running_exec(struct db *db, row_exec_visit visit, void *arg,
                           struct hearth_failure *failure) must_check;
/* The tenant's newest. */
int rows_last_event(struct db *db, const char *tenant_id, row_event_visit visit, void *arg,
                    struct hearth_failure *failure) must_check;
int rows_page_events(struct db *db, const char *tenant_id, uint64_t after, unsigned limit,
                     row_event_visit visit, void *arg, struct hearth_failure *failure) must_check;
int rows_page_audit(struct db *db, const char *tenant_id, int64_t before, unsigned limit,
                    row_audit_visit visit, void *arg, struct hearth_failure *failure) must_check;
