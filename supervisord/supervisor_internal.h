/* What the supervisor's own files share; nobody above this room includes it. Loop thread
 * throughout. */
#pragma once

#include "base/buf.h"
#include "base/id.h"
#include "base/map.h"
#include "storage/change.h"
#include "supervisord/agentlink.h"
#include "supervisord/events.h"
#include "supervisord/spawn.h"
#include "supervisord/state_key.h"
#include "supervisord/steps.h"
#include "supervisord/supervisor.h"
#include "supervisord/workspace_state.h"

#define GUEST_RANGES_MAX 32768u /* uid ranges of 65536 above uid_base */

/* A guest and the link to its agent: a workspace's, or one waiting in the pool. */
struct sandbox {
    struct supervisor *supervisor;
    struct guest guest;
    struct agentlink link;
    struct workspace *workspace; /* NULL: in the pool, or being torn down */
    char identity[ID_SIZE];      /* the workspace that it is or is going to be of; "" */
    char tenant_id[64];
    char environment_version[72];
    enum network_policy network;
    uint32_t vcpu_count, mem_mib, disk_mib;
    char transport[24];            /* demanded; "" */
    const struct guest_copy *copy; /* what it is booted as (borrowed); NULL */
    int64_t created_at;
    unsigned char state_key[STATE_KEY_SEALED]; /* state_key.h */
    bool has_state_key;
    bool resumes; /* it is being resumed: only its clock and entropy are news to it */
    bool running;
    bool background;       /* nobody wants it yet */
    bool paused;           /* it runs, but is held */
    struct list dials;     // port_dial::link: connections to its ports
    struct list all_link;  // supervisor::sandboxes
    struct list pool_link; // supervisor::pool
};

struct secret;
struct secret_keys;

struct driver_slot {
    struct supervisor *supervisor;
    const char *name;
    struct driver *driver;
    struct driver_probe probe;
    bool probed;
};
enum { DRIVER_OCI, DRIVER_QEMU, DRIVER_COUNT };

struct supervisor {
    const struct config *config;
    struct loop *loop;
    struct worker_pool *workers;
    struct passages *passages;
    struct writer *writer, *history;
    struct db *state_reader, *history_reader;
    struct secret_keys *secret_keys;
    bool rotating; /* secret_rotation.c */
    struct environments *environments;
    struct uploads *uploads;
    struct driver_slot drivers[DRIVER_COUNT];
    struct driver_slot *chosen; /* NULL: no driver works here */
    int lock_fd;
    char *agent_path;
    const char **versions; /* what supervisor_versions_in_use gave */
    struct list tenants;
    struct stores *stores;  /* trees of workspaces */
    struct list seed_trees; // seed_tree::link
    struct list known;      // workspace::known_link, the least lately used first
    size_t known_entries;   /* of them all */
    struct map tokens;      // struct token, by public ID
    struct map workspaces;  // struct workspace, by ID
    struct list sandboxes;
    struct list pool;
    unsigned pool_making;
    int64_t pool_retry_at, pool_asked_at;
    struct list pool_kinds; // of pool.c
    struct timer pool_tick;
    unsigned char ranges[GUEST_RANGES_MAX / 8];
    struct list snapshots; // list_snapshot::link, the one used longest ago first
    unsigned snapshot_count;
    size_t snapshot_ids; /* in all of them */
    struct list dirty;   // workspace::dirty_link: activity not yet written
    struct timer flush, event_prune;
    struct timer idle_look; /* of suspend.c */
    /* expiry.c */
    struct workspace **expiries; /* a heap by expiry_at */
    size_t expiry_count, expiry_size;
    int expiry_fd;
    struct watch expiry_watch;
    int64_t expiry_armed; /* what the timer is set to */
    bool expiry_started;
    unsigned expiring; /* expiries under way */
    char boot_id[64];
    int64_t clock_offset;  /* of the wall clock, ahead of the time since boot */
    struct change *audits; /* rows that are to be written soon, NULL for none */
    struct timer audits_due;
    bool recovered, draining, storage_failed;
    unsigned recovering;      /* adoptions under way */
    unsigned disk_jobs;       /* running, of all workspaces */
    unsigned works;           /* pieces of work on sandboxes under way */
    void (*quiet)(void *arg); /* set while draining: no work is left */
    void *quiet_arg;
    struct timer drain;
    void (*ready)(void *arg);
    void *ready_arg;
    uint64_t generation;
    struct supervisor_health totals; /* the *_total members */
    uint64_t network_denied;         /* of guests that are gone */
};

/* workspace.c's own struct, for the files about workspaces and execs. */
struct workspace {
    struct supervisor *supervisor;
    struct tenant *tenant;
    char workspace_id[ID_SIZE];
    bool one_shot;
    char *name;
    struct row_label *labels; /* sorted by key; keys and values owned */
    uint64_t details;         /* workspace_status::details */
    struct workspace_view view;
    size_t label_count;
    char *environment, *environment_version;
    uint32_t vcpu_count, mem_mib, disk_mib;
    int64_t ttl_us, created_at, last_activity_at;
    int64_t idle_since_us; /* by clock_boot_us */
    int64_t expiry_at;     /* by clock_boot_us: when to look at it */
    size_t expiry_place;   /* in supervisor::expiries, from 1; 0: not there */
    enum workspace_state state;
    enum network_policy network;
    char *isolation, *transport; /* demanded; NULL */
    bool allow_host_compat;
    char *seed_mode, *seed_path, *seed_destination;
    uint64_t seed_entry_count, seed_bytes;
    uint64_t command_count, exec_sequence;
    uint32_t reset_count;
    int64_t last_reset_at;
    char *failure_code, *failure_detail;
    struct sandbox *sandbox;
    struct steps *steps; /* the long operation under way, NULL if none */
    bool counted;        /* in the tenant's quota */
    bool history_loaded; /* last_command and exec_sequence are right */
    struct {
        uint64_t sequence;
        char *command, *cwd;
        int exit_code;
        int64_t duration_us, recorded_at;
    } last_command;
    struct map execs; // struct exec, by ID: those that run or are not yet recorded
    struct {
        struct buf ids; /* each with its NUL: recorded, and still kept by the agent */
        size_t count;
        struct timer timer;
    } forgets;
    struct list transfers;  // file_transfer::link
    struct list disk_jobs;  // disk_job::link
    struct list shells;     // known_shell::link
    struct list snapshots;  // snapshot::link: the baseline, then the newest first
    struct list tree_works; // tree_work::link: the first is under way
    struct list wakers;     // waker::link, of suspend.c
    int64_t used_us;        /* by clock_boot_us: when its guest was last wanted */
    struct known *known;    /* what the last scan of its tree saw; NULL: not at hand */
    struct list known_link; // supervisor::known
    struct map_entry entry; // supervisor::workspaces
    struct list link;       // tenant::workspaces
    struct list dirty_link; // supervisor::dirty

    struct services *services; /* NULL before the first */
    struct secret *secrets;    /* sealed */
    size_t secret_count;
    unsigned port_connections; /* to its guest's ports, by port.c */
    unsigned activities;       /* calls under way that count as activity */
};

/* supervisor.c */
int supervisor_take_range(struct supervisor *supervisor, uint32_t *ret_index,
                          struct hearth_failure *failure);
void supervisor_keep_range(struct supervisor *supervisor, uint32_t index);
void supervisor_give_range(struct supervisor *supervisor, uint32_t index);

/* By its ID, whosever it is and whatever it is doing; NULL where there is none (any more), or the
 * ID is NULL. What a completion asks that has waited. */
struct workspace *supervisor_workspace(const struct supervisor *supervisor,
                                       const char *workspace_id);

/* Tells every completion that is owed, of workers and of commits; see settle.c. */
void supervisor_settle(struct supervisor *supervisor);
/* fn(arg) once all that the history was given until now is written, or given up. Never before this
 * returns; see settle.c. */
void supervisor_when_written(struct supervisor *supervisor, void (*fn)(void *arg), void *arg);
/* Tells a drain that nothing is under way any more. */
void supervisor_maybe_quiet(struct supervisor *supervisor);
/* recover.c: a driver has found out more of itself; the choice may be another for new guests. */
void supervisor_driver_changed(void *supervisor, struct driver *driver,
                               const struct driver_probe *probe);
struct driver_slot *supervisor_driver(struct supervisor *supervisor, const char *name);
/* An audit row in the change that has its effect. */
void supervisor_audit_row(struct change *change, const struct principal *principal,
                          const char *request_id, const char *operation, const char *subject_id,
                          const char *outcome);
/* The same for what has no change of its own: within AUDIT_SOON_MS, many in one commit; at once
 * where an idempotent request asks. */
#define AUDIT_SOON_MS 50
void supervisor_audit_soon(struct supervisor *supervisor, const struct principal *principal,
                           const char *request_id, const char *operation, const char *subject_id,
                           const char *outcome);

/* sandbox.c */
struct sandbox *sandbox_new(struct supervisor *supervisor, struct driver *driver,
                            struct hearth_failure *failure);
void sandbox_free(struct sandbox *sandbox); /* forgets it; what runs goes on */
void sandbox_row(const struct sandbox *sandbox, struct row_guest *ret_row);
/* Commits that row; done may be NULL. */
void sandbox_record(const struct sandbox *sandbox, writer_done done, void *arg);
/* prepare, start, link up, configured: the whole way; done once. */
void sandbox_boot(struct sandbox *sandbox, bool prepare, guest_done done, void *arg);
/* Prepares it and has it wait for a sandbox_boot without prepare: driver_operations::standby. */
void sandbox_standby(struct sandbox *sandbox, guest_done done, void *arg);
/* Makes its disk and no more; sandbox_boot without prepare follows some time. */
void sandbox_prepare(struct sandbox *sandbox, guest_done done, void *arg);
/* configure.c: tells the agent who it is, where anew, else (it was paused, or saved) what has
 * changed meanwhile: clock, entropy, secrets. done once, or NULL. HEARTH_EUNAVAILABLE
 * `not_reseeded`: a clone that is not to be used. */
void sandbox_configure(struct sandbox *sandbox, bool anew, guest_done done, void *arg);
/* Has one that is in standby come up in the background, runs in it what a claim and a first command
 * will, so that they take less then, and pauses it. rehearse.c */
void sandbox_restore(struct sandbox *sandbox, guest_done done, void *arg);
/* Makes one of the pool, of whichever kind, what it is from now on: what its identity and sizes
 * say. */
void sandbox_claim(struct sandbox *sandbox, guest_done done, void *arg);
/* Kills and removes every trace, then frees the sandbox and calls done (may be NULL). */
void sandbox_destroy(struct sandbox *sandbox,
                     void (*done)(void *arg, int error, const struct hearth_failure *failure),
                     void *arg);
/* The same with its row: that of one that has waited names no workspace, and goes with none. */
void sandbox_discard(struct sandbox *sandbox, guest_done done, void *arg);
void sandbox_stop(struct sandbox *sandbox, guest_done done, void *arg);
/* The rest of a resume that an earlier daemon has begun, and come to the note of its process: it
 * runs, is linked and configured. */
void sandbox_finish_resume(struct sandbox *sandbox, guest_done done, void *arg);
/* Saves it to its disk's directory and ends it; a boot without prepare goes on from there. Where it
 * fails it runs on. */
void sandbox_suspend(struct sandbox *sandbox, guest_done done, void *arg);
/* Copies it, for so many others to begin with: driver_operations::copy. It does nothing until
 * sandbox_carry_on. */
void sandbox_copy(struct sandbox *sandbox, unsigned count, struct guest_copy **ret_copy,
                  guest_done done, void *arg);
/* After a copy, or a crash within a suspend: it runs on, or is gone. */
void sandbox_carry_on(struct sandbox *sandbox, guest_done done, void *arg);
void sandbox_spec(const struct sandbox *sandbox, struct guest_spec *ret_spec, char hostname[64]);
/* How the agent of its guest is reached; NULL before there is one. */
const char *workspace_execution_mode(const struct workspace *workspace);
/* The literal for what that gave or a row says; "" for none. */
const char *execution_mode_named(const char *text);

/* port_dial.c: ends all connections to the guest's ports. */
void port_dials_cut(struct sandbox *sandbox);

/* suspend.c */
/* What ran in a guest that was saved and cannot be resumed has ended. */
void workspace_guest_lost(struct workspace *workspace);
extern const struct steps_kind suspend_kind;
/* From now on idle guests are suspended, where the config says so. */
void suspend_start(struct supervisor *supervisor);
struct steps *workspace_resume_suspend(struct workspace *workspace,
                                       const struct row_operation *row);
/* workspace_life.c: a start that counts as nobody's activity. */
extern const struct steps_kind resume_kind;
void workspace_resume(struct workspace *workspace, workspace_done done, void *arg);

/* pool.c */
/* One for this workspace, which is to be driver's; NULL: there is none, but will be for the next.
 * What is given waits in standby or runs, as the driver does it: sandbox_claim makes it the
 * workspace's. */
struct sandbox *pool_claim(struct supervisor *supervisor, struct driver *driver,
                           const struct workspace *workspace);
/* One that was claimed has come to harm: it is ended, and a new one given in its place, to be made
 * as if there were no pool. NULL where there can be none; then it is the caller's still. */
struct sandbox *pool_replace(struct sandbox *failed, const struct hearth_failure *failure);
/* Refills in the background towards what config has of each kind that was asked for last. */
void pool_refill(struct supervisor *supervisor);
/* Environments that it holds. */
#define POOL_KINDS_MAX 8
size_t pool_versions(const struct supervisor *supervisor, const char **ret_versions);
void pool_free(struct supervisor *supervisor);
/* Ends what waits: at a drain. */
void pool_empty(struct supervisor *supervisor);

/* seed.c: puts an upload's tree below a directory of the workspace ("" is /workspace). done once;
 * where it fails some of the tree may be there. ingest (taken; NULL: none) gets the same. */
struct ingest;
typedef void (*seed_done)(void *arg, int error, const struct hearth_failure *failure,
                          uint64_t entry_count, uint64_t bytes_written);
void seed_apply(struct sandbox *sandbox, const char *tenant_id, const char *upload_id,
                const char *destination, struct ingest *ingest, seed_done done, void *arg);
/* The same for an archive that is still coming: written to *ret_archive_fd (given to the caller,
 * non-blocking; -1 where it failed at once), whose closing is its end. It is read in the sandboxed
 * child and put in place by the agent once all of it has been read and found good. The seeding is
 * borrowed until done. */
struct seeding;
struct seeding *seed_stream(struct sandbox *sandbox, const char *destination, int *ret_archive_fd,
                            seed_done done, void *arg);
/* What a seed or sync is told to be made of: "directory" where source_path is one's, else
 * "tar_archive". A client that packs a directory tells its path, as one does whose file it is: its
 * name says which. */
const char *seed_mode(const char *source_path);
/* Nothing is put in place unless it is there already; done still comes, with this failure. */
void seed_cancel(struct seeding *seeding, const struct hearth_failure *failure);

/* tenant.c */
int tenants_load(struct supervisor *supervisor, struct db *db, bool *ret_first_start,
                 struct hearth_failure *failure);
int tenants_first_start(struct supervisor *supervisor, int state_dir_fd,
                        struct hearth_failure *failure);
void tenants_free(struct supervisor *supervisor);
struct tenant *tenant_by_id(struct supervisor *supervisor, const char *tenant_id);
int tenant_take_workspace(struct tenant *tenant, uint32_t mem_mib, struct hearth_failure *failure);
/* Whether count of them could be taken: the same failures. */
int tenant_has_room(const struct tenant *tenant, unsigned count, uint32_t mem_mib,
                    struct hearth_failure *failure);
void tenant_give_workspace(struct tenant *tenant, uint32_t mem_mib);

/* workspace.c */
struct workspace *workspace_new(struct supervisor *supervisor, struct tenant *tenant,
                                const char *workspace_id);
void workspace_free(
    struct workspace *workspace); /* out of every list and map; execs must be gone */
/* It is in its tenant's quota no more; once is enough. */
void workspace_uncount(struct workspace *workspace);
void workspace_row(const struct workspace *workspace, struct row_workspace *ret_row);
int workspace_load(struct supervisor *supervisor, const struct row_workspace *row);
/* Now is the last activity: moves it to the front of its tenant's list and has it written within a
 * second. */
void workspace_touch(struct workspace *workspace);
void workspace_flush_dirty(struct supervisor *supervisor);
/* Moves by the table in workspace_state.h; false where the cell is no move. */
bool workspace_move(struct workspace *workspace, enum workspace_event event);
/* What it was moved to is taken back: it could not be made durable. */
void workspace_move_back(struct workspace *workspace, enum workspace_state state);
void workspace_fail(struct workspace *workspace, const char *code, const char *detail);
void workspace_load_history(struct workspace *workspace);
/* Its agent can be asked now, or the failure says why not (state, what is under way, link). */
int workspace_ready(struct workspace *workspace, struct hearth_failure *failure);
/* Asynchronous failures of calls that must not complete before they return. */
void workspace_complete_later(struct supervisor *supervisor, workspace_done done, void *arg,
                              int error, const struct hearth_failure *failure,
                              struct workspace *workspace);
void workspace_audit(struct workspace *workspace, struct change *change,
                     const struct principal *principal, const char *request_id,
                     const char *operation, const char *outcome);
/* "workspace.happened", or "vm.happened" of a one-shot machine; reason as a fact where not NULL. */
void workspace_event(struct workspace *workspace, const char *happened, const char *reason);
/* Notes for the summary that something has left it whole; at is filled in. */
void workspace_exported(struct supervisor *supervisor, const struct row_export *row,
                        writer_done done, void *arg);
int workspace_labels_set(struct workspace *workspace, const struct row_label *labels, size_t count);
struct steps *workspace_resume_create(struct workspace *workspace, const struct row_operation *row);
/* Forgets rows and struct of a workspace whose guest is gone; with operation's row. */
void workspace_forget(struct workspace *workspace, struct steps *steps,
                      const struct principal *principal, const char *request_id,
                      const char *operation, const char *outcome, writer_done done, void *arg);
/* A guest ended by itself. */
void workspace_guest_died(struct guest *guest, const char *detail);
void workspace_guest_hide(struct guest *guest, char *text, size_t length);
/* Takes the unfinished operation up again after a restart; the guest has been adopted if it runs.
 */
void workspace_resume_operation(struct workspace *workspace, const struct row_operation *row);

/* Whether another long operation is under way: HEARTH_ECONFLICT `workspace_busy`. */
int workspace_busy(struct workspace *workspace, struct hearth_failure *failure);
/* Gives a sandbox all that the workspace says of its guest, but not the workspace itself. */
void workspace_lend(const struct workspace *workspace, struct sandbox *sandbox);

/* workspace_reset.c: for resuming. */
extern const struct steps_kind reset_kind;
struct steps *workspace_resume_reset(struct workspace *workspace, const struct row_operation *row);

/* workspace_check.c: finds the environment and the driver for it (both the supervisor's), or fails
 * with a problem that names the field. */
int workspace_check_spec(struct supervisor *supervisor, const struct principal *principal,
                         const struct workspace_spec *spec,
                         const struct environment **ret_environment,
                         struct driver_slot **ret_driver, struct hearth_failure *failure);

/* workspace_create.c: for resuming. */
extern const struct steps_kind create_kind;
/* A one-shot machine that nobody waits for any more. */
void workspace_discard(struct workspace *workspace);
/* Found at start-up: it was started, but its guest does not run any more. */
void workspace_guest_gone(struct workspace *workspace, bool host_rebooted);
/* After something was under way with it: nobody minded if its guest died meanwhile. */
void workspace_guest_missed(struct workspace *workspace);

/* expiry.c */
#define EXPIRY_TOKEN "expiry" /* stands for who asks, in the audit */
int expiry_load(struct supervisor *supervisor, struct hearth_failure *failure);
/* After recovery: from now on things expire. */
void expiry_start(struct supervisor *supervisor);
void expiry_free(struct supervisor *supervisor);
/* By clock_boot_us, if nothing happens to it before; CLOCK_NEVER while it is made or deleted. */
int64_t expiry_deadline(const struct workspace *workspace);
/* Its state has changed. */
void expiry_update(struct workspace *workspace);
void expiry_remove(struct workspace *workspace);
/* One of its commands has ended: until then it was not idle. */
void expiry_exec_ended(struct workspace *workspace);
/* Where the wall clock was set, all times of activity move with it. */
void expiry_check_clock(struct supervisor *supervisor);

/* events.c: after the tenants. */
int events_load(struct supervisor *supervisor, bool rebooted, struct hearth_failure *failure);

/* workspace_list.c */
void workspace_list_free(struct supervisor *supervisor);

/* exec.c */
int exec_load(struct supervisor *supervisor, const struct row_exec *row);
bool exec_any_runs(const struct workspace *workspace);
/* The link is up (again): look after what runs. */
void exec_link_up(struct workspace *workspace);
/* exec_forget.c: with the workspace's struct. */
void exec_forgets_init(struct workspace *workspace);
void exec_forgets_free(struct workspace *workspace);
/* Ends all of a workspace's execs: its guest is gone. done waits of callers get `problem`. */
void exec_abandon_all(struct workspace *workspace, enum hearth_error error, const char *code,
                      const char *problem);

/* disk.c: ends what reads the workspace's disk; its callers are told that it is gone. */
void disk_abort_all(struct workspace *workspace);

/* shell_known.c */
void shells_forget(struct workspace *workspace);
/* The guest has ended, and every shell with it. */
void shells_guest_ended(struct workspace *workspace);

/* files.c */
/* What the agent's status means for a file; field is "/path". */
void file_failure(enum link_status status, const char *message, struct hearth_failure *failure);
/* What is being read and written ends with this. */
void files_abort_all(struct workspace *workspace, enum hearth_error error, const char *code,
                     const char *detail);

/* service.c, service_watch.c */
int services_load(struct supervisor *supervisor, const struct row_service *row);
void services_free(struct workspace *workspace);
/* None of them is known any more: after services_guest_ended; their rows go with change. */
void services_forget(struct workspace *workspace, struct change *change);
void services_count(const struct workspace *workspace, uint32_t *ret_known, uint32_t *ret_running);
/* The link is up (again): learn what has become of them. */
void services_link_up(struct workspace *workspace);
/* service_fork.c: those that run, as they are now, for copies of the guest; given. */
struct services_noted *services_note(const struct workspace *workspace);
void services_noted_free(struct services_noted *noted); /* NULL is fine */
/* They run in this workspace's guest too: listed under their names, with host ports of their own.
 * Its link is up. */
void services_take_noted(struct workspace *workspace, const struct services_noted *noted);
/* The guest has ended or is about to be gone: those that ran are now in this state for this reason
 * (state NULL: it is of no interest any more). */
void services_guest_ended(struct workspace *workspace, const char *state, const char *reason);
