/* Workspaces: the public face that api/ uses. A workspace is found by tenant and ID together, so
 * that another tenant's looks exactly like none. Long work calls its completion exactly once, on
 * the loop, after it is durable; never before the call returns. Strings in a spec are borrowed for
 * the call. Loop thread. */
#pragma once

#include "supervisord/drivers/driver.h"
#include "supervisord/tenant.h"

struct workspace;

struct fork_origin;

#define WORKSPACE_LABELS_MAX 32
#define WORKSPACE_LABEL_KEY_MAX 64
#define WORKSPACE_LABEL_VALUE_MAX 256
#define WORKSPACE_NAME_MAX 120

enum workspace_state {
    WORKSPACE_CREATING,
    WORKSPACE_STARTED,
    WORKSPACE_STOPPED,
    WORKSPACE_FAILED,
    WORKSPACE_DELETING,
    WORKSPACE_SUSPENDED, /* its guest is saved: memory, devices and disk */
    WORKSPACE_STATE_MAX,
};
const char *workspace_state_name(enum workspace_state state);

struct secret_spec {
    const char *name, *value;
    bool from_file; /* the client read it from a file */
};

/* Which secret of the workspace becomes which variable of a process. */
struct secret_variable {
    const char *secret, *variable;
};

struct workspace_spec {
    const char *environment;
    uint32_t vcpu_count, mem_mib, disk_mib;
    int64_t ttl_us;
    enum network_policy network;
    const char *name; /* NULL: none */
    const struct row_label *labels;
    size_t label_count;
    const char *isolation; /* NULL, "vm" or "container": given or the create fails */
    const char *transport; /* NULL, or what a vm is to be reached by: given or the create fails */
    bool allow_host_compat;
    const char *seed_upload; /* upload ID or NULL */
    const char *seed_path;   /* what the client packed it from, for STATUS; of a fork, its origin */
    const struct fork_origin *fork; /* of a fork alone: see fork.c */
    bool one_shot;  /* not listed among workspaces, ID with vm_; a vm_run's unless it has
                       WORKSPACE_MACHINE_LABEL */
    bool unstarted; /* its disk alone is made: it is stopped, and its first start boots it */
    const struct secret_spec *secrets;
    size_t secret_count;
    const char *request_id; /* for the audit */
};

/* The label of a machine that vm_create made: such a one outlives the daemon, a vm_run's does not.
 */
#define WORKSPACE_MACHINE_LABEL "hearth.machine"
/* A label's value; NULL where it has none of that key. */
const char *workspace_label(const struct workspace *workspace, const char *key);
/* Visits the tenant's machines that have the label, in no order; visit may not delete them. */
void workspace_each_machine(const struct principal *principal,
                            void (*visit)(void *arg, struct workspace *workspace), void *arg);

/* A name or label that may be used; on error field is "/name" or "/labels/…". */
int workspace_name_check(const char *name, struct hearth_failure *failure);
int workspace_labels_check(const struct row_label *labels, size_t count,
                           struct hearth_failure *failure);

/* workspace is NULL on error, else borrowed for the call. */
typedef void (*workspace_done)(void *arg, int error, const struct hearth_failure *failure,
                               struct workspace *workspace);

void workspace_create(struct supervisor *supervisor, const struct principal *principal,
                      const struct workspace_spec *spec, workspace_done done, void *arg);

struct workspace_update_spec {
    const char *name; /* NULL: leave */
    bool clear_name;
    const struct row_label *labels; /* merged */
    size_t label_count;
    const char *const *clear_labels;
    size_t clear_label_count;
    const char *request_id;
};
/* An empty change is HEARTH_EINVALID `empty_update`. */
void workspace_update(struct workspace *workspace, const struct principal *principal,
                      const struct workspace_update_spec *spec, workspace_done done, void *arg);
/* Done as soon as the intent is durable: the workspace is gone for every caller; the guest is torn
 * down after. */
void workspace_delete(struct workspace *workspace, const struct principal *principal,
                      const char *request_id, workspace_done done, void *arg);
void workspace_stop(struct workspace *workspace, const struct principal *principal,
                    const char *request_id, workspace_done done, void *arg);
void workspace_start(struct workspace *workspace, const struct principal *principal,
                     const char *request_id, workspace_done done, void *arg);
/* Saves its guest to the disk, with all that runs in it, and ends it. HEARTH_EUNSUPPORTED
 * `suspend_unsupported`; `workspace_in_use` where something would be cut short. No activity. */
void workspace_suspend(struct workspace *workspace, const struct principal *principal,
                       const char *request_id, workspace_done done, void *arg);
/* False: there is nothing to wait for. Else done comes, not before this returns, once what is under
 * way of its being suspended or resumed is over; where its guest is wanted it is resumed if need
 * be. Its state says whether it came up. */
bool workspace_wake(struct workspace *workspace, bool wanted, void (*done)(void *arg), void *arg);

struct workspace_reset_result {
    const char *snapshot_name;
    bool baseline;
    uint64_t entry_count, bytes;
};
/* workspace and result are NULL on error. */
typedef void (*workspace_reset_done)(void *arg, int error, const struct hearth_failure *failure,
                                     struct workspace *workspace,
                                     const struct workspace_reset_result *result);
/* A fresh guest with the snapshot's tree takes the place of the workspace's, whatever state that is
 * in; it is started after. Running commands end with `workspace_reset`, the history is cleared.
 * Where it fails the workspace is as it was. HEARTH_ENOTFOUND `snapshot_not_found`. */
void workspace_reset(struct workspace *workspace, const struct principal *principal,
                     const char *snapshot, const char *request_id, workspace_reset_done done,
                     void *arg);

/* Copies of a workspace's files, or of its running guest, as new workspaces, each with a guest, an
 * identity and a baseline of its own: what differs from the fork is what it did itself. */
#define WORKSPACE_FORKS_MAX 64
struct workspace_fork_spec {
    const char *snapshot;     /* NULL: the files as they are now, of a started workspace */
    bool memory;              /* the whole of its running guest instead; no snapshot then */
    unsigned count;           /* 1 … WORKSPACE_FORKS_MAX */
    const char *const *names; /* as many as count, or none */
    size_t name_count;
    const struct row_label *labels;
    size_t label_count;
    const char *request_id;
};
/* workspaces (borrowed for the call) are in the order of the names. */
typedef void (*workspace_fork_done)(void *arg, int error, const struct hearth_failure *failure,
                                    struct workspace *const *workspaces, unsigned count);
/* All or none: where one cannot be made the others are deleted. HEARTH_EINVALID `bad_names`,
 * HEARTH_ENOTFOUND `snapshot_not_found`, and what fork_memory_check, a create and a snapshot say.
 */
void workspace_fork(struct workspace *workspace, const struct principal *principal,
                    const struct workspace_fork_spec *spec, workspace_fork_done done, void *arg);

/* NULL and HEARTH_ENOTFOUND `workspace_not_found` for an absent, foreign or malformed ID alike. */
struct workspace *workspace_find(const struct principal *principal, const char *workspace_id,
                                 struct hearth_failure *failure);
/* What has cut off a call that nobody has given up: as workspace_find where the workspace was
 * deleted, and why its guest cannot be asked where that has ended; 0: neither. */
int workspace_cut_off(const struct principal *principal, const char *workspace_id,
                      struct hearth_failure *failure);
/* A call that counts as activity is under way in it: until its end the workspace is not idle. One
 * that was deleted meanwhile ends nothing. */
void workspace_activity_begin(struct workspace *workspace);
void workspace_activity_end(struct supervisor *supervisor, const char *workspace_id);

struct workspace_filter {
    const char *name; /* exact */
    const char *state;
    const char *const *labels; /* "k" or "k=v", all must match */
    size_t label_count;
    unsigned limit;
    const char *cursor; /* from the last page; NULL for the first */
};
/* Visits a page in order; fills ret_cursor ("" at the end). HEARTH_EINVALID `bad_cursor`. */
#define WORKSPACE_CURSOR_SIZE 96
int workspace_list(struct supervisor *supervisor, const struct principal *principal,
                   const struct workspace_filter *filter,
                   void (*visit)(void *arg, struct workspace *workspace), void *arg,
                   char ret_cursor[WORKSPACE_CURSOR_SIZE], struct hearth_failure *failure);

/* Everything that STATUS and ROW tell; strings are borrowed until the loop's next turn. */
struct workspace_status {
    const char *workspace_id, *name;
    const struct row_label *labels;
    size_t label_count;
    const char *environment, *environment_version;
    uint32_t vcpu_count, mem_mib, disk_mib;
    int64_t ttl_us, created_at, last_activity_at, expires_at;
    enum workspace_state state;
    enum network_policy network;
    bool allow_host_compat;
    const char *guest_ip, *tap_name; /* NULL: it has no network device, or does not run */
    struct guest_facts facts;
    const char *seed_mode, *seed_path,
        *seed_destination; /* mode "empty", "directory", "tar_archive", "fork", "memory_fork" */
    uint64_t seed_entry_count, seed_bytes;
    size_t secret_count; /* workspace_secret gives each */
    uint64_t command_count;
    uint64_t details; /* another one whenever name or labels have changed */
    uint32_t service_count, running_service_count;
    uint32_t reset_count;
    int64_t last_reset_at;
    const char *failure_code, *failure_detail; /* state failed */
    const char *link_state;                    /* "up", "connecting", "down" */
    /* The last command that ended, sequence 0 if none: filled by workspace_describe_last_command
     * alone. */
    struct {
        uint64_t sequence;
        const char *command, *cwd;
        int exit_code;
        int64_t duration_us, recorded_at;
    } last_command;
};
void workspace_describe(struct workspace *workspace, struct workspace_status *ret_status);
/* One of its secrets: the name, and whether it came from a file. */
const char *workspace_secret(const struct workspace *workspace, size_t at, bool *ret_from_file);

/* How the edge last wrote a workspace's row, and what of the status it was made of: a list is most
 * often of rows that have not changed. text is NULL at first; freed with the workspace. */
#define WORKSPACE_VIEW_KEYS 8
struct workspace_view {
    int64_t key[WORKSPACE_VIEW_KEYS];
    char *text;
};
struct workspace_view *workspace_view(struct workspace *workspace);
/* Adds last_command. The first time after a start it is looked up in the history database. */
void workspace_describe_last_command(struct workspace *workspace, struct workspace_status *status);
const char *network_policy_name(enum network_policy policy);
/* Negative where text names none. */
int network_policy_parse(const char *text);
