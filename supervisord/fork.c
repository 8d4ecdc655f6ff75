/* Fork: the origin's tree is held in the store once, and every copy is a create that begins with
 * it; or its running guest is copied to memory once (fork_memory.c), and every copy begins with
 * that. A daemon that is killed meanwhile leaves whole workspaces or none; those that it had
 * already made are kept, as nobody has been told that they are not. */
#include "base/log.h"
#include "base/text.h"
#include "supervisord/environment_record.h"
#include "supervisord/fork_memory.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct copy {
    char *name; /* NULL: none */
    char workspace_id[ID_SIZE];
};

struct fork {
    struct supervisor *supervisor;
    struct principal principal, creator; /* the same, but what copies audit is not the fork's end */
    char request_id[68], tenant_id[64], origin_id[ID_SIZE];
    char isolation[16], transport[24], environment[ENVIRONMENT_NAME_SIZE];
    char seed_path[ID_SIZE + 1 + SNAPSHOT_NAME_MAX + 1];
    struct workspace_spec spec;
    struct row_label *labels;
    struct fork_origin origin;
    bool holds_root;
    const struct tenant_store *store;
    unsigned count, ended;
    struct hearth_failure failure; /* the first */
    struct copy *copies;
    workspace_fork_done done;
    void *arg;
};

static void fork_free(struct fork *fork)
{
    for (unsigned i = 0; i < fork->count; i++)
        free(fork->copies[i].name);
    for (size_t i = 0; i < fork->spec.label_count; i++) {
        free((char *)(uintptr_t)fork->labels[i].key);
        free((char *)(uintptr_t)fork->labels[i].value);
    }
    free(fork->labels);
    free(fork->copies);
    free(fork);
}

static void release_root(struct fork *fork)
{
    if (fork->holds_root && !manifest_is_empty(&fork->origin.root))
        stores_release(fork->supervisor->stores, fork->tenant_id, &fork->origin.root, 1, NULL);
    fork->holds_root = false;
}

/* The end. */

static void report(struct fork *fork)
{
    struct workspace *made[WORKSPACE_FORKS_MAX];
    unsigned count = 0;
    for (unsigned i = 0; i < fork->count && !fork->failure.error; i++) {
        struct workspace *copy =
            supervisor_workspace(fork->supervisor, fork->copies[i].workspace_id);
        if (copy) /* else somebody has deleted it already */
            made[count++] = copy;
    }
    fork->done(fork->arg, (int)fork->failure.error, &fork->failure, made, count);
    fork->supervisor->works--;
    supervisor_maybe_quiet(fork->supervisor);
    fork_free(fork);
}

static void audited(void *arg, int error, const struct hearth_failure *failure)
{
    struct fork *fork = arg;
    (void)failure;
    if (error)
        log_warning("fork_not_audited", "workspace=%s", fork->origin_id);
    report(fork);
}

static void discard_all(struct fork *fork)
{
    for (unsigned i = 0; i < fork->count; i++) {
        struct workspace *copy =
            supervisor_workspace(fork->supervisor, fork->copies[i].workspace_id);
        if (copy)
            workspace_discard(copy);
    }
}

static void conclude(struct fork *fork)
{
    struct change *change = change_new();
    release_root(fork);
    if (fork->origin.copy)
        fork_memory_free(fork->supervisor, steal_pointer(fork->origin.copy));
    services_noted_free(steal_pointer(fork->origin.services));
    if (fork->failure.error)
        discard_all(fork);
    supervisor_audit_row(change, &fork->principal, fork->request_id, "workspace_fork",
                         fork->origin_id, fork->failure.error ? fork->failure.code : "ok");
    change_commit(change, fork->supervisor->writer, audited, fork);
}

/* The copies. */

struct copying {
    struct fork *fork;
    struct copy *copy;
};

static void copied(void *arg, int error, const struct hearth_failure *failure,
                   struct workspace *workspace)
{
    struct copying *copying = arg;
    struct fork *fork = copying->fork;
    if (!error)
        snprintf(copying->copy->workspace_id, sizeof copying->copy->workspace_id, "%s",
                 workspace->workspace_id);
    else if (!fork->failure.error)
        fork->failure = *failure;
    free(copying);
    if (++fork->ended == fork->count)
        conclude(fork);
}

static void make_copies(struct fork *fork)
{
    fork->spec.fork = &fork->origin;
    for (unsigned i = 0; i < fork->count; i++) {
        struct copying *copying = malloc(sizeof *copying);
        if (!copying)
            abort();
        *copying = (struct copying){fork, &fork->copies[i]};
        fork->spec.name = fork->copies[i].name;
        workspace_create(fork->supervisor, &fork->creator, &fork->spec, copied, copying);
    }
}

/* The origin's tree. */

static void fail(struct fork *fork, const struct hearth_failure *failure)
{
    fork->failure = *failure;
    conclude(fork);
}

static void captured(void *arg, int error, const struct hearth_failure *failure,
                     const struct captured *result)
{
    struct fork *fork = arg;
    if (error) {
        fail(fork, failure);
        return;
    }
    fork->origin.root = result->root;
    fork->holds_root = true;
    make_copies(fork);
}

static void copied_memory(void *arg, int error, const struct hearth_failure *failure,
                          struct guest_copy *copy, struct services_noted *services)
{
    struct fork *fork = arg;
    fork->origin.copy = copy;
    fork->origin.services = services;
    if (error)
        fail(fork, failure);
    else
        make_copies(fork);
}

static void run_hold(void *arg)
{
    struct fork *fork = arg;
    struct store_session *session = store_begin(fork->store->store);
    if (session && store_hold(session, &fork->origin.root))
        fork->holds_root = store_commit(session, &fork->origin.root, &fork->failure) == 0;
    else {
        store_abort(session);
        hearth_fail(&fork->failure, HEARTH_ENOTFOUND, "snapshot_not_found",
                    "the snapshot has been deleted meanwhile");
    }
}

static void held(void *arg)
{
    struct fork *fork = arg;
    struct hearth_failure failure = fork->failure;
    if (failure.error)
        fail(fork, &failure);
    else
        make_copies(fork);
}

static void store_opened(void *arg, int error, const struct hearth_failure *failure,
                         const struct tenant_store *store)
{
    struct fork *fork = arg;
    if (error) {
        fail(fork, failure);
        return;
    }
    fork->store = store;
    stores_submit(fork->supervisor->stores, run_hold, held, fork);
}

/* Beginnings. */

static struct fork *fork_new(struct workspace *workspace, const struct principal *principal,
                             const struct workspace_fork_spec *spec)
{
    struct fork *fork = calloc(1, sizeof *fork);
    struct copy *copies = calloc(spec->count, sizeof *copies);
    struct row_label *labels = calloc(spec->label_count + 1, sizeof *labels);
    if (!fork || !copies || !labels)
        abort();
    *fork = (struct fork){.supervisor = workspace->supervisor,
                          .principal = *principal,
                          .creator = *principal,
                          .copies = copies,
                          .labels = labels,
                          .count = spec->count};
    fork->creator.intent = 0;
    for (unsigned i = 0; i < spec->count && i < spec->name_count; i++)
        copies[i].name = text_copy(spec->names[i]);
    for (size_t i = 0; i < spec->label_count; i++)
        labels[i] =
            (struct row_label){text_copy(spec->labels[i].key), text_copy(spec->labels[i].value)};
    snprintf(fork->request_id, sizeof fork->request_id, "%s",
             spec->request_id ? spec->request_id : "");
    snprintf(fork->tenant_id, sizeof fork->tenant_id, "%s", workspace->tenant->tenant_id);
    snprintf(fork->origin_id, sizeof fork->origin_id, "%s", workspace->workspace_id);
    snprintf(fork->seed_path, sizeof fork->seed_path, "%s%s%s", workspace->workspace_id,
             spec->snapshot ? "@" : "", spec->snapshot ? spec->snapshot : "");
    snprintf(fork->origin.workspace_id, sizeof fork->origin.workspace_id, "%s",
             workspace->workspace_id);
    snprintf(fork->environment, sizeof fork->environment, "%s", workspace->environment);
    snprintf(fork->origin.environment_version, sizeof fork->origin.environment_version, "%s",
             workspace->environment_version);
    return fork;
}

/* A copy is a guest of the same kind and size. */
static void describe(struct fork *fork, const struct workspace *workspace, size_t label_count)
{
    const char *isolation = workspace->isolation;
    if (workspace->sandbox)
        isolation = workspace->sandbox->guest.driver->operations->wants_image ? "vm" : "container";
    snprintf(fork->isolation, sizeof fork->isolation, "%s", isolation ? isolation : "");
    snprintf(fork->transport, sizeof fork->transport, "%s",
             workspace->transport ? workspace->transport : "");
    fork->spec = (struct workspace_spec){.environment = fork->environment,
                                         .vcpu_count = workspace->vcpu_count,
                                         .mem_mib = workspace->mem_mib,
                                         .disk_mib = workspace->disk_mib,
                                         .ttl_us = workspace->ttl_us,
                                         .network = workspace->network,
                                         .labels = fork->labels,
                                         .label_count = label_count,
                                         .isolation = *fork->isolation ? fork->isolation : NULL,
                                         .transport = *fork->transport ? fork->transport : NULL,
                                         .allow_host_compat = workspace->allow_host_compat,
                                         .seed_path = fork->seed_path,
                                         .request_id = fork->request_id};
}

static int check_names(const struct workspace_fork_spec *spec, struct hearth_failure *failure)
{
    int error = workspace_labels_check(spec->labels, spec->label_count, failure);
    if (!error && spec->name_count && spec->name_count != spec->count) {
        error = hearth_fail(failure, HEARTH_EINVALID, "bad_names",
                            "there are %zu names for %u copies", spec->name_count, spec->count);
        hearth_failure_field(failure, "/names");
        hearth_failure_hint(failure, "Give one name for each copy, or none.");
    }
    for (size_t i = 0; i < spec->name_count && !error; i++) {
        char field[32];
        snprintf(field, sizeof field, "/names/%zu", i);
        error = workspace_name_check(spec->names[i], failure);
        if (error)
            hearth_failure_field(failure, field);
    }
    return error;
}

static void refused(void *arg)
{
    struct fork *fork = arg;
    struct hearth_failure failure = fork->failure;
    fail(fork, &failure);
}

void workspace_fork(struct workspace *workspace, const struct principal *principal,
                    const struct workspace_fork_spec *spec, workspace_fork_done done, void *arg)
{
    struct fork *fork = fork_new(workspace, principal, spec);
    fork->done = done;
    fork->arg = arg;
    fork->supervisor->works++;
    describe(fork, workspace, spec->label_count);
    struct snapshot *snapshot = NULL;
    int error = check_names(spec, &fork->failure);
    if (!error)
        error = tenant_has_room(workspace->tenant, fork->count, fork->spec.mem_mib,
                                &fork->failure); /* all or none, known before the first is made */
    if (!error && spec->memory) {
        error = fork_memory_check(workspace, spec->snapshot, &fork->failure);
    } else if (!error && spec->snapshot) {
        snapshot = snapshot_find(workspace, spec->snapshot, &fork->failure);
        error = (int)fork->failure.error;
        if (error)
            hearth_failure_field(&fork->failure, "/snapshot");
    } else if (!error) {
        error = workspace_ready(workspace, &fork->failure);
    }
    if (error)
        loop_defer(workspace->supervisor->loop, refused, fork);
    else if (spec->memory)
        fork_memory(workspace, spec->count, copied_memory, fork);
    else if (!snapshot)
        tree_capture(workspace, NULL, captured, fork);
    else if (!snapshot->has_root)
        loop_defer(workspace->supervisor->loop, held, fork);
    else {
        fork->origin.root = snapshot->root;
        stores_use(workspace->supervisor->stores, fork->tenant_id, store_opened, fork);
    }
}
