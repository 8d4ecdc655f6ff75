#include "supervisord/supervisor.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/path_at.h"
#include "base/text.h"
#include "supervisord/lifecycle.h"
#include "supervisord/passage.h"
#include "supervisord/secret_internal.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define WORKER_THREADS 2
#define LOCK_PATIENCE_S 2

/* uid ranges */

int supervisor_take_range(struct supervisor *supervisor, uint32_t *ret_index,
                          struct hearth_failure *failure)
{
    for (uint32_t index = 0; index < GUEST_RANGES_MAX; index++)
        if (!(supervisor->ranges[index / 8] & 1u << index % 8)) {
            supervisor_keep_range(supervisor, index);
            *ret_index = index;
            return 0;
        }
    return hearth_fail(failure, HEARTH_EUNAVAILABLE, "too_many_guests",
                       "this host runs %u guests already", GUEST_RANGES_MAX);
}

void supervisor_keep_range(struct supervisor *supervisor, uint32_t index)
{
    if (index < GUEST_RANGES_MAX)
        supervisor->ranges[index / 8] |= (unsigned char)(1u << index % 8);
}

void supervisor_give_range(struct supervisor *supervisor, uint32_t index)
{
    if (index < GUEST_RANGES_MAX)
        supervisor->ranges[index / 8] &= (unsigned char)~(1u << index % 8);
}

struct driver_slot *supervisor_driver(struct supervisor *supervisor, const char *name)
{
    for (int i = 0; i < DRIVER_COUNT; i++)
        if (strcmp(supervisor->drivers[i].name, name) == 0 && supervisor->drivers[i].driver)
            return &supervisor->drivers[i];
    return NULL;
}

int supervisor_bad_cursor(struct hearth_failure *failure)
{
    hearth_fail(failure, HEARTH_EINVALID, "bad_cursor",
                "the cursor is not one that was given, or too old");
    hearth_failure_field(failure, "/cursor");
    hearth_failure_hint(failure, "Begin again without a cursor.");
    return HEARTH_EINVALID;
}

/* What api/ asks for. */

struct loop *supervisor_loop(struct supervisor *supervisor)
{
    return supervisor->loop;
}

struct environments *supervisor_environments(struct supervisor *supervisor)
{
    return supervisor->environments;
}

struct uploads *supervisor_uploads(struct supervisor *supervisor)
{
    return supervisor->uploads;
}

const struct config *supervisor_config(struct supervisor *supervisor)
{
    return supervisor->config;
}

void supervisor_audit_row(struct change *change, const struct principal *principal,
                          const char *request_id, const char *operation, const char *subject_id,
                          const char *outcome)
{
    struct row_audit row = {
        .at = clock_wall_us(),
        .tenant_id = principal->tenant->tenant_id,
        .token_id = *principal->token_id ? principal->token_id : "hearthd",
        .request_id = request_id,
        .operation = operation,
        .subject_id = subject_id,
        .outcome = outcome,
        .intent = principal->intent,
    };
    change_add_audit(change, &row);
}

void supervisor_audit(struct supervisor *supervisor, const struct principal *principal,
                      const char *request_id, const char *operation, const char *subject_id,
                      const char *outcome)
{
    struct change *change = change_new();
    supervisor_audit_row(change, principal, request_id, operation, subject_id, outcome);
    change_commit(change, supervisor->writer, NULL, NULL);
}

static void write_audits(void *arg)
{
    struct supervisor *supervisor = arg;
    if (supervisor->audits)
        change_commit(steal_pointer(supervisor->audits), supervisor->writer, NULL, NULL);
}

void supervisor_audit_soon(struct supervisor *supervisor, const struct principal *principal,
                           const char *request_id, const char *operation, const char *subject_id,
                           const char *outcome)
{
    if (principal->intent) {
        supervisor_audit(supervisor, principal, request_id, operation, subject_id, outcome);
        return;
    }
    if (!supervisor->audits) {
        supervisor->audits = change_new();
        timer_set(&supervisor->audits_due, clock_monotonic_us() + AUDIT_SOON_MS * US_PER_MS);
    }
    supervisor_audit_row(supervisor->audits, principal, request_id, operation, subject_id, outcome);
}

void supervisor_get_health(struct supervisor *supervisor, struct supervisor_health *ret_health)
{
    *ret_health = supervisor->totals;
    bool writes_stopped = false;
    struct writer *writers[STORAGE_COUNT] = {supervisor->writer, supervisor->history};
    for (int i = 0; i < STORAGE_COUNT; i++) {
        struct writer_stats stats;
        writer_get_stats(writers[i], &stats);
        writes_stopped |= stats.broken;
        ret_health->storage[i] = (struct storage_health){.name = i ? "history" : "state",
                                                         .commits = stats.commits,
                                                         .changes = stats.changes,
                                                         .failures = stats.failures,
                                                         .queued = stats.queued};
    }
    ret_health->pool_making = supervisor->pool_making;
    ret_health->recovered = supervisor->recovered;
    ret_health->draining = supervisor->draining;
    ret_health->driver = supervisor->chosen ? supervisor->chosen->name : "none";
    struct hearth_failure failure;
    ret_health->storage_ok = !writes_stopped && db_ping(supervisor->state_reader, &failure) == 0;
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i]; entry;
             entry = entry->next)
            ret_health->workspaces[container_of(entry, struct workspace, entry)->state]++;
    list_for_each(cursor, next, &supervisor->sandboxes)
    {
        const struct sandbox *sandbox = container_of(cursor, struct sandbox, all_link);
        ret_health->guests += sandbox->running;
        ret_health->pooled_guests += !sandbox->workspace;
        ret_health->paused_guests += sandbox->paused;
        ret_health->links_up += sandbox->link.state == AGENTLINK_UP;
    }
    list_for_each(cursor, next, &supervisor->tenants) ret_health->running_execs +=
        container_of(cursor, struct tenant, link)->running_execs;
}

void supervisor_each_driver(struct supervisor *supervisor,
                            void (*visit)(void *arg, const char *name, bool chosen,
                                          const struct driver_probe *probe),
                            void *arg)
{
    for (int i = 0; i < DRIVER_COUNT; i++)
        visit(arg, supervisor->drivers[i].name, supervisor->chosen == &supervisor->drivers[i],
              &supervisor->drivers[i].probe);
}

const char *const *supervisor_versions_in_use(struct supervisor *supervisor, size_t *ret_count)
{
    size_t count = 0;
    const char **versions =
        realloc(supervisor->versions,
                (supervisor->workspaces.count + POOL_KINDS_MAX + 1) * sizeof *versions);
    if (!versions)
        abort();
    supervisor->versions = versions;
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        for (struct map_entry *entry = supervisor->workspaces.buckets[i]; entry;
             entry = entry->next)
            versions[count++] = container_of(entry, struct workspace, entry)->environment_version;
    count += pool_versions(supervisor, versions + count);
    *ret_count = count;
    return versions;
}

/* Making it. */

/* Makes path where it is missing, for us alone. One that is there may let others look (a Unix
 * socket is found in it), but not write; the state directory is made private whatever it was. */
static int make_directory(const char *path, bool private, int *ret_fd,
                          struct hearth_failure *failure)
{
    char parent[4096];
    const char *slash = strrchr(path, '/');
    struct stat status;
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) : 0, path);
    int error = path_make_own_directories(parent, 0755);
    if (error || (mkdir(path, 0700) < 0 && errno != EEXIST))
        return hearth_fail_errno(failure, error ? -error : errno, "directory_unusable",
                                 "cannot make %.200s", path);
    auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        return hearth_fail_errno(failure, errno, "directory_unusable", "cannot open %.200s", path);
    if (status.st_uid != geteuid())
        return hearth_fail(failure, HEARTH_EFORBIDDEN, "directory_unusable",
                           "%.200s belongs to another user", path);
    mode_t wrong = private ? 077 : 022;
    if ((status.st_mode & wrong) && fchmod(fd, (status.st_mode & 07777) & ~wrong) < 0)
        return hearth_fail_errno(failure, errno, "directory_unusable", "cannot make %.200s private",
                                 path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static void on_alarm(int signal)
{
    (void)signal;
}

/* A child that a killed daemon was just starting holds its descriptors until it execs: the lock is
 * waited for, but not for long. Nothing runs yet, so it may block; the alarm interrupts it. */
static int wait_for_lock(int fd)
{
    struct sigaction before, action = {.sa_handler = on_alarm};
    struct itimerval none = {0}, patience = {.it_value = {.tv_sec = LOCK_PATIENCE_S}};
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &patience, NULL);
    int result = flock(fd, LOCK_EX);
    setitimer(ITIMER_REAL, &none, NULL);
    sigaction(SIGALRM, &before, NULL);
    return result;
}

/* One daemon a state directory: the lock is held until the process ends. */
static int take_lock(struct supervisor *supervisor, int state_fd, struct hearth_failure *failure)
{
    supervisor->lock_fd = openat(state_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (supervisor->lock_fd < 0)
        return hearth_fail_errno(failure, errno, "directory_unusable",
                                 "cannot open the lock in %.200s", supervisor->config->state_dir);
    if (wait_for_lock(supervisor->lock_fd) == 0)
        return 0;
    int error = hearth_fail(failure, HEARTH_ECONFLICT, "state_dir_in_use",
                            "another hearthd uses %.200s", supervisor->config->state_dir);
    hearth_failure_hint(failure, "Stop it, or give this one another --state-dir.");
    return error;
}

/* Rises with each start, so that an agent can tell a new daemon from an old one. */
static void next_generation(struct supervisor *supervisor, int state_fd)
{
    char text[32];
    if (path_read_small(state_fd, "generation", text, sizeof text) > 0)
        supervisor->generation = strtoull(text, NULL, 10);
    supervisor->generation++;
    int length = snprintf(text, sizeof text, "%llu\n", (unsigned long long)supervisor->generation);
    if (path_write_durable(state_fd, "generation", text, (size_t)length, 0600))
        log_warning("generation_not_written", "%s", "the next start uses the same generation");
}

static int open_storage(struct supervisor *supervisor, struct hearth_failure *failure)
{
    char state[4200], history[4200];
    snprintf(state, sizeof state, "%s/state.db", supervisor->config->state_dir);
    snprintf(history, sizeof history, "%s/history.db", supervisor->config->state_dir);
    int error =
        writer_start(&supervisor->writer, state, DB_STATE, loop_post, supervisor->loop, failure);
    if (!error)
        error = writer_start(&supervisor->history, history, DB_HISTORY, loop_post, supervisor->loop,
                             failure);
    if (!error)
        error = db_open(&supervisor->state_reader, state, DB_STATE, DB_READER, failure);
    if (!error)
        error = db_open(&supervisor->history_reader, history, DB_HISTORY, DB_READER, failure);
    return error;
}

static int make_drivers(struct supervisor *supervisor, struct hearth_failure *failure)
{
    const struct config *config = supervisor->config;
    supervisor->agent_path = spawn_sibling("hearth-agent");
    struct driver_config driver = {
        .loop = supervisor->loop,
        .workers = supervisor->workers,
        .state_dir = config->state_dir,
        .runtime_dir = config->runtime_dir,
        .image_dir = config->image_dir,
        .agent_path = supervisor->agent_path,
        .transport = config->transport,
        .boot_timeout_us = config->boot_timeout_seconds * US_PER_S,
        .runtime = config->runtime,
        .uid_base = config->uid_base,
        .qemu = config->qemu,
        .kernel = config->kernel,
        .kernel_modules = config->kernel_modules,
        .template_on = config->template_on,
        .reserve_mib = config->pool_reserve_mib,
        .node_tag = config->node_tag,
        .try_early = strcmp(config->driver, "oci") != 0,
        .on_probed = supervisor_driver_changed,
        .on_probed_arg = supervisor,
        .counters = &supervisor->totals.drivers,
    };
    supervisor->drivers[DRIVER_OCI].name = "oci";
    supervisor->drivers[DRIVER_QEMU].name = "qemu";
    if (!supervisor->agent_path)
        return hearth_fail(failure, HEARTH_ENOTFOUND, "agent_missing",
                           "hearth-agent is not installed beside hearthd");
    int error = oci_driver_new(&supervisor->drivers[DRIVER_OCI].driver, &driver, failure);
    return error ? error
                 : qemu_driver_new(&supervisor->drivers[DRIVER_QEMU].driver, &driver, failure);
}

static void flush(void *arg)
{
    workspace_flush_dirty(arg);
}

static void upload_forgotten(void *arg, const struct upload *upload)
{
    struct supervisor *supervisor = arg;
    stores_release(supervisor->stores, upload->tenant_id, &upload->tree, 1, NULL);
}

static int make_parts(struct supervisor *supervisor, int state_fd, struct hearth_failure *failure)
{
    const struct config *config = supervisor->config;
    struct upload_limits limits = {.max_bytes = config->max_upload_bytes,
                                   .max_content_bytes = config->max_upload_content_bytes,
                                   .max_entries = config->max_upload_entries};
    int error = take_lock(supervisor, state_fd, failure);
    if (error)
        return error;
    next_generation(supervisor, state_fd);
    error = secret_keys_load(&supervisor->secret_keys, state_fd, failure);
    if (!error)
        error = worker_pool_new(&supervisor->workers, supervisor->loop, WORKER_THREADS, failure);
    if (!error)
        error = open_storage(supervisor, failure);
    if (!error)
        error = environments_new(&supervisor->environments, supervisor->loop, supervisor->workers,
                                 config->image_dir, failure);
    if (!error)
        environments_lease_open(supervisor->environments, config->state_dir, state_fd);
    if (!error)
        error = uploads_new(&supervisor->uploads, supervisor->loop, supervisor->writer,
                            config->state_dir, config->node_tag, &limits, failure);
    if (!error) {
        uploads_on_forget(supervisor->uploads, upload_forgotten, supervisor);
        error = stores_new(&supervisor->stores, supervisor->loop, config->state_dir,
                           snapshots_each_root, supervisor, failure);
    }
    if (!error)
        error = make_drivers(supervisor, failure);
    bool first_start = false;
    if (!error)
        error = tenants_load(supervisor, supervisor->state_reader, &first_start, failure);
    if (!error && first_start)
        error = tenants_first_start(supervisor, state_fd, failure);
    return error;
}

int supervisor_new(struct supervisor **ret_supervisor, struct loop *loop,
                   const struct config *config, struct hearth_failure *failure)
{
    auto_close int state_fd = -1, runtime_fd = -1;
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (!supervisor)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    supervisor->config = config;
    supervisor->loop = loop;
    supervisor->passages = passages_new(loop);
    supervisor->lock_fd = supervisor->expiry_fd = -1;
    list_init(&supervisor->tenants);
    list_init(&supervisor->sandboxes);
    list_init(&supervisor->pool);
    list_init(&supervisor->pool_kinds);
    list_init(&supervisor->dirty);
    list_init(&supervisor->snapshots);
    list_init(&supervisor->seed_trees);
    list_init(&supervisor->known);
    timer_init(&supervisor->flush, loop, flush, supervisor);
    timer_init(&supervisor->audits_due, loop, write_audits, supervisor);
    int error = sodium_init() < 0
                    ? hearth_fail(failure, HEARTH_EINTERNAL, NULL, "libsodium cannot be used")
                    : 0;
    if (!error)
        error = make_directory(config->state_dir, true, &state_fd, failure);
    if (!error)
        error = make_directory(config->runtime_dir, false, &runtime_fd, failure);
    if (!error)
        error = make_parts(supervisor, state_fd, failure);
    if (error) {
        supervisor_free(supervisor);
        return error;
    }
    *ret_supervisor = supervisor;
    return 0;
}

static void free_workspaces(struct supervisor *supervisor)
{
    list_for_each(cursor, next, &supervisor->sandboxes)
        sandbox_free(container_of(cursor, struct sandbox, all_link));
    for (size_t i = 0; i < supervisor->workspaces.bucket_count; i++)
        while (supervisor->workspaces.buckets[i])
            workspace_free(
                container_of(supervisor->workspaces.buckets[i], struct workspace, entry));
    map_free(&supervisor->workspaces);
}

void supervisor_free(struct supervisor *supervisor)
{
    if (!supervisor)
        return;
    supervisor->draining = true;
    supervisor_settle(supervisor);
    if (supervisor->writer) {
        workspace_flush_dirty(supervisor);
        write_audits(supervisor);
        supervisor_settle(supervisor);
    }
    timer_free(&supervisor->flush);
    timer_free(&supervisor->audits_due);
    timer_free(&supervisor->event_prune);
    timer_free(&supervisor->drain);
    pool_free(supervisor);
    timer_free(&supervisor->idle_look);
    if (supervisor->uploads)
        uploads_free(supervisor->uploads);
    stores_free(supervisor->stores);
    if (supervisor->environments)
        environments_free(supervisor->environments);
    worker_pool_free(supervisor->workers);
    db_close(supervisor->state_reader);
    db_close(supervisor->history_reader);
    if (supervisor->history)
        writer_stop(supervisor->history);
    if (supervisor->writer)
        writer_stop(supervisor->writer);
    free_workspaces(supervisor);
    passages_free(supervisor->passages);
    expiry_free(supervisor);
    for (int i = 0; i < DRIVER_COUNT; i++)
        if (supervisor->drivers[i].driver)
            supervisor->drivers[i].driver->operations->free(supervisor->drivers[i].driver);
    workspace_list_free(supervisor);
    tenants_free(supervisor);
    secret_keys_free(supervisor->secret_keys);
    free(supervisor->agent_path);
    free(supervisor->versions);
    if (supervisor->lock_fd >= 0)
        close(supervisor->lock_fd);
    free(supervisor);
}
