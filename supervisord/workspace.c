#include "supervisord/workspace.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/net/net.h"
#include "supervisord/secret_internal.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/work.h"
#include "supervisord/workspace_state.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLUSH_US US_PER_S

const char *workspace_state_name(enum workspace_state state)
{
    static const char *const names[WORKSPACE_STATE_MAX] = {"creating", "started",  "stopped",
                                                           "failed",   "deleting", "suspended"};
    return names[state];
}

const char *network_policy_name(enum network_policy policy)
{
    static const char *const names[] = {"off", "egress", "published-ports",
                                        "egress+published-ports"};
    return names[policy];
}

int network_policy_parse(const char *text)
{
    for (int policy = NETWORK_OFF; policy <= NETWORK_EGRESS_AND_PUBLISHED_PORTS; policy++)
        if (strcmp(text, network_policy_name((enum network_policy)policy)) == 0)
            return policy;
    return -1;
}

/* Names and labels. */

static bool printable(const char *text)
{
    for (const char *cursor = text; *cursor; cursor++)
        if ((unsigned char)*cursor < 0x20 || *cursor == 0x7f)
            return false;
    return utf8_valid(text, strlen(text));
}

int workspace_name_check(const char *name, struct hearth_failure *failure)
{
    size_t length = strlen(name);
    if (length >= 1 && printable(name) && utf8_length(name, length) <= WORKSPACE_NAME_MAX &&
        name[0] != ' ' && name[length - 1] != ' ')
        return 0;
    int error = hearth_fail(
        failure, HEARTH_EINVALID, "bad_name",
        "a name is 1 to %d characters, none of them a control one, without outer blanks",
        WORKSPACE_NAME_MAX);
    hearth_failure_field(failure, "/name");
    return error;
}

static bool label_key_good(const char *key)
{
    size_t length = strlen(key);
    if (length < 1 || length > WORKSPACE_LABEL_KEY_MAX || !isalnum((unsigned char)key[0]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)key[i]) && !strchr("._/-", key[i]))
            return false;
    return true;
}

int workspace_labels_check(const struct row_label *labels, size_t count,
                           struct hearth_failure *failure)
{
    const char *wrong = "", *detail = NULL;
    if (count > WORKSPACE_LABELS_MAX) {
        detail = "a workspace has at most 32 labels";
    }
    for (size_t i = 0; !detail && i < count; i++) {
        if (!label_key_good(labels[i].key))
            detail = "a label's name is 1 to 64 of A-Z, a-z, 0-9 and ._/-, beginning with a letter "
                     "or digit";
        else if (!printable(labels[i].value) ||
                 utf8_length(labels[i].value, strlen(labels[i].value)) > WORKSPACE_LABEL_VALUE_MAX)
            detail = "a label's value is at most 256 characters, none of them a control one";
        wrong = labels[i].key;
    }
    if (!detail)
        return 0;
    char field[160] = "/labels";
    if (count <= WORKSPACE_LABELS_MAX)
        text_pointer(field, sizeof field, "/labels", wrong);
    int error = hearth_fail(failure, HEARTH_EINVALID, "bad_label", "%s", detail);
    hearth_failure_field(failure, field);
    return error;
}

static void labels_free(struct row_label *labels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free((char *)labels[i].key);
        free((char *)labels[i].value);
    }
    free(labels);
}

static int compare_labels(const void *left, const void *right)
{
    return strcmp(((const struct row_label *)left)->key, ((const struct row_label *)right)->key);
}

int workspace_labels_set(struct workspace *workspace, const struct row_label *labels, size_t count)
{
    struct row_label *copy = count ? calloc(count, sizeof *copy) : NULL;
    bool whole = copy || !count;
    for (size_t i = 0; whole && i < count; i++) {
        copy[i] = (struct row_label){text_copy(labels[i].key), text_copy(labels[i].value)};
        whole = copy[i].key && copy[i].value;
    }
    if (!whole) {
        if (copy)
            labels_free(copy, count);
        return HEARTH_ENOMEMORY;
    }
    if (count)
        qsort(copy, count, sizeof *copy, compare_labels);
    labels_free(workspace->labels, workspace->label_count);
    workspace->labels = copy;
    workspace->label_count = count;
    workspace->details++;
    return 0;
}

/* The struct. */

struct workspace *workspace_new(struct supervisor *supervisor, struct tenant *tenant,
                                const char *workspace_id)
{
    struct workspace *workspace = calloc(1, sizeof *workspace);
    if (!workspace)
        return NULL;
    workspace->supervisor = supervisor;
    workspace->tenant = tenant;
    snprintf(workspace->workspace_id, sizeof workspace->workspace_id, "%s", workspace_id);
    list_init(&workspace->link);
    list_init(&workspace->dirty_link);
    list_init(&workspace->transfers);
    list_init(&workspace->shells);
    list_init(&workspace->snapshots);
    list_init(&workspace->tree_works);
    list_init(&workspace->wakers);
    list_init(&workspace->known_link);
    list_init(&workspace->disk_jobs);
    exec_forgets_init(workspace);
    if (map_insert(&supervisor->workspaces, &workspace->entry, workspace->workspace_id)) {
        free(workspace);
        return NULL;
    }
    return workspace;
}

static void unlist(struct workspace *workspace)
{
    workspace->tenant->order += !list_empty(&workspace->link);
    list_remove(&workspace->link);
}

void workspace_uncount(struct workspace *workspace)
{
    if (workspace->counted)
        tenant_give_workspace(workspace->tenant, workspace->mem_mib);
    workspace->counted = false;
}

void workspace_free(struct workspace *workspace)
{
    map_remove(&workspace->supervisor->workspaces, &workspace->entry);
    expiry_remove(workspace);
    unlist(workspace);
    list_remove(&workspace->dirty_link);
    workspace_uncount(workspace);
    if (workspace->sandbox)
        workspace->sandbox->workspace = NULL;
    tree_work_detach_all(workspace);
    snapshots_free(workspace);
    shells_forget(workspace);
    labels_free(workspace->labels, workspace->label_count);
    map_free(&workspace->execs);
    exec_forgets_free(workspace);
    services_free(workspace);
    secrets_drop(workspace);
    char *owned[] = {
        workspace->name,
        workspace->environment,
        workspace->environment_version,
        workspace->isolation,
        workspace->transport,
        workspace->seed_mode,
        workspace->seed_path,
        workspace->seed_destination,
        workspace->failure_code,
        workspace->failure_detail,
        workspace->last_command.command,
        workspace->last_command.cwd,
        workspace->view.text,
    };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    free(workspace);
}

void workspace_row(const struct workspace *workspace, struct row_workspace *ret_row)
{
    bool suspended = workspace->state == WORKSPACE_SUSPENDED;
    *ret_row = (struct row_workspace){
        .workspace_id = workspace->workspace_id,
        .tenant_id = workspace->tenant->tenant_id,
        .kind = workspace->one_shot ? "vm" : "workspace",
        .name = workspace->name,
        .labels = workspace->labels,
        .label_count = workspace->label_count,
        .environment = workspace->environment,
        .environment_version = workspace->environment_version,
        .vcpu_count = workspace->vcpu_count,
        .mem_mib = workspace->mem_mib,
        .disk_mib = workspace->disk_mib,
        .ttl_us = workspace->ttl_us,
        .network_policy = network_policy_name(workspace->network),
        .isolation = workspace->isolation,
        .transport = workspace->transport,
        .allow_host_compat = workspace->allow_host_compat,
        .created_at = workspace->created_at,
        .last_activity_at = workspace->last_activity_at,
        .state = workspace_state_name(suspended ? WORKSPACE_STOPPED : workspace->state),
        .suspended = suspended,
        .failure_code = workspace->failure_code,
        .failure_detail = workspace->failure_detail,
        .guest_id = workspace->sandbox ? workspace->sandbox->guest.guest_id : NULL,
        .seed_mode = workspace->seed_mode,
        .seed_path = workspace->seed_path,
        .seed_destination = workspace->seed_destination,
        .seed_entry_count = workspace->seed_entry_count,
        .seed_bytes = workspace->seed_bytes,
        .command_count = workspace->command_count,
        .exec_sequence = workspace->exec_sequence,
        .reset_count = workspace->reset_count,
        .last_reset_at = workspace->last_reset_at,
    };
}

const char *workspace_secret(const struct workspace *workspace, size_t at, bool *ret_from_file)
{
    *ret_from_file = workspace->secrets[at].from_file;
    return workspace->secrets[at].name;
}

/* Puts it where the tenant's list has its order: last activity, creation (newest first), ID. */
static void place(struct workspace *workspace)
{
    const struct list *before = list_empty(&workspace->link) ? NULL : workspace->link.next;
    list_remove(&workspace->link);
    struct list *position = workspace->tenant->workspaces.next;
    while (position != &workspace->tenant->workspaces) {
        const struct workspace *other = container_of(position, struct workspace, link);
        if (workspace->last_activity_at != other->last_activity_at) {
            if (workspace->last_activity_at > other->last_activity_at)
                break;
        } else if (workspace->created_at != other->created_at) {
            if (workspace->created_at > other->created_at)
                break;
        } else if (strcmp(workspace->workspace_id, other->workspace_id) < 0) {
            break;
        }
        position = position->next;
    }
    list_insert(position, &workspace->link);
    workspace->tenant->order += position != before;
}

static enum workspace_state state_parse(const char *text)
{
    for (int state = 0; state < WORKSPACE_STATE_MAX; state++)
        if (strcmp(text, workspace_state_name((enum workspace_state)state)) == 0)
            return (enum workspace_state)state;
    return WORKSPACE_FAILED;
}

int workspace_load(struct supervisor *supervisor, const struct row_workspace *row)
{
    struct tenant *tenant = tenant_by_id(supervisor, row->tenant_id);
    struct workspace *workspace =
        tenant ? workspace_new(supervisor, tenant, row->workspace_id) : NULL;
    if (!workspace)
        return HEARTH_ENOMEMORY;
    int network = network_policy_parse(row->network_policy);
    workspace->one_shot = strcmp(row->kind, "vm") == 0;
    workspace->name = text_copy(row->name);
    workspace->environment = text_copy(row->environment);
    workspace->environment_version = text_copy(row->environment_version);
    workspace->vcpu_count = row->vcpu_count;
    workspace->mem_mib = row->mem_mib;
    workspace->disk_mib = row->disk_mib;
    workspace->ttl_us = row->ttl_us;
    workspace->network = network < 0 ? NETWORK_OFF : (enum network_policy)network;
    workspace->isolation = text_copy(row->isolation);
    workspace->transport = text_copy(row->transport);
    workspace->allow_host_compat = row->allow_host_compat;
    workspace->created_at = row->created_at;
    workspace->last_activity_at = row->last_activity_at;
    workspace->state = row->suspended ? WORKSPACE_SUSPENDED : state_parse(row->state);
    workspace->failure_code = text_copy(row->failure_code);
    workspace->failure_detail = text_copy(row->failure_detail);
    workspace->seed_mode = text_copy(row->seed_mode);
    workspace->seed_path = text_copy(row->seed_path);
    workspace->seed_destination = text_copy(row->seed_destination);
    workspace->seed_entry_count = row->seed_entry_count;
    workspace->seed_bytes = row->seed_bytes;
    workspace->command_count = row->command_count;
    workspace->exec_sequence = row->exec_sequence;
    workspace->reset_count = row->reset_count;
    workspace->last_reset_at = row->last_reset_at;
    tenant->workspace_count++;
    tenant->mem_mib += workspace->mem_mib;
    workspace->counted = true;
    if (!workspace->one_shot && workspace->state != WORKSPACE_CREATING &&
        workspace->state != WORKSPACE_DELETING)
        place(workspace);
    return workspace_labels_set(workspace, row->labels, row->label_count);
}

const char *workspace_label(const struct workspace *workspace, const char *key)
{
    for (size_t i = 0; i < workspace->label_count; i++)
        if (strcmp(workspace->labels[i].key, key) == 0)
            return workspace->labels[i].value;
    return NULL;
}

void workspace_each_machine(const struct principal *principal,
                            void (*visit)(void *arg, struct workspace *workspace), void *arg)
{
    const struct map *all = &principal->tenant->supervisor->workspaces;
    for (size_t i = 0; i < all->bucket_count; i++)
        for (struct map_entry *entry = all->buckets[i]; entry; entry = entry->next) {
            struct workspace *workspace = container_of(entry, struct workspace, entry);
            if (workspace->tenant == principal->tenant && workspace->one_shot &&
                workspace_label(workspace, WORKSPACE_MACHINE_LABEL))
                visit(arg, workspace);
        }
}

struct workspace *supervisor_workspace(const struct supervisor *supervisor,
                                       const char *workspace_id)
{
    struct map_entry *entry = workspace_id ? map_find(&supervisor->workspaces, workspace_id) : NULL;
    return entry ? container_of(entry, struct workspace, entry) : NULL;
}

struct workspace *workspace_find(const struct principal *principal, const char *workspace_id,
                                 struct hearth_failure *failure)
{
    if (id_valid(workspace_id, "ws") || id_valid(workspace_id, "vm")) {
        struct workspace *workspace =
            supervisor_workspace(principal->tenant->supervisor, workspace_id);
        if (workspace && workspace->tenant == principal->tenant &&
            workspace->state != WORKSPACE_CREATING && workspace->state != WORKSPACE_DELETING)
            return workspace;
    }
    hearth_fail(failure, HEARTH_ENOTFOUND, "workspace_not_found", "there is no such workspace");
    hearth_failure_field(failure, "/workspace_id");
    hearth_failure_hint(
        failure,
        "List workspaces to find the right workspace_id; a deleted one does not come back.");
    return NULL;
}

/* Activity. */

void workspace_touch(struct workspace *workspace)
{
    struct supervisor *supervisor = workspace->supervisor;
    expiry_check_clock(supervisor);
    int64_t now = clock_wall_us();
    workspace->idle_since_us = clock_boot_us();
    if (now > workspace->last_activity_at)
        workspace->last_activity_at = now;
    if (!list_empty(&workspace->link))
        place(workspace);
    if (list_empty(&workspace->dirty_link)) {
        if (list_empty(&supervisor->dirty))
            timer_set(&supervisor->flush, clock_monotonic_us() + FLUSH_US);
        list_append(&supervisor->dirty, &workspace->dirty_link);
    }
}

void workspace_flush_dirty(struct supervisor *supervisor)
{
    if (list_empty(&supervisor->dirty))
        return;
    struct change *change = change_new();
    list_for_each(cursor, next, &supervisor->dirty)
    {
        struct workspace *workspace = container_of(cursor, struct workspace, dirty_link);
        change_touch_workspace(change, workspace->workspace_id, workspace->last_activity_at,
                               workspace->command_count);
        list_remove(&workspace->dirty_link);
    }
    change_commit(change, supervisor->writer, NULL, NULL);
}

/* The rest of a workspace's own business. */

bool workspace_move(struct workspace *workspace, enum workspace_event event)
{
    struct workspace_cell cell = workspace_state_cell(workspace->state, event);
    if (cell.policy == WORKSPACE_POLICY_BUG)
        log_error("bad_transition", "workspace=%s state=%s on=%s", workspace->workspace_id,
                  workspace_state_name(workspace->state), workspace_event_name(event));
    if (cell.policy != WORKSPACE_POLICY_MOVE)
        return false;
    workspace->state = cell.next;
    if (cell.next != WORKSPACE_FAILED) {
        free(steal_pointer(workspace->failure_code));
        free(steal_pointer(workspace->failure_detail));
    }
    if (cell.next == WORKSPACE_DELETING)
        unlist(workspace);
    else if (!workspace->one_shot && list_empty(&workspace->link))
        place(workspace);
    expiry_update(workspace);
    return true;
}

void workspace_move_back(struct workspace *workspace, enum workspace_state state)
{
    workspace->state = state;
    if (!workspace->one_shot && list_empty(&workspace->link))
        place(workspace);
    expiry_update(workspace);
}

void workspace_fail(struct workspace *workspace, const char *code, const char *detail)
{
    free(workspace->failure_code);
    free(workspace->failure_detail);
    workspace->failure_code = text_copy(code);
    workspace->failure_detail = workspace_redact_text(workspace, text_copy(detail));
}

int workspace_ready(struct workspace *workspace, struct hearth_failure *failure)
{
    workspace->used_us = clock_boot_us();
    if (workspace->state == WORKSPACE_STARTED && workspace->sandbox && workspace->sandbox->running)
        return 0;
    int error;
    if (workspace->state == WORKSPACE_DELETING) { /* what had begun before comes here yet */
        error = hearth_fail(failure, HEARTH_ENOTFOUND, "workspace_not_found",
                            "the workspace was deleted");
    } else if (workspace->steps) {
        error = workspace_busy(workspace, failure);
    } else if (workspace->state == WORKSPACE_FAILED) {
        error = hearth_fail(
            failure, HEARTH_ECONFLICT, "workspace_failed", "the workspace has failed: %s",
            workspace->failure_detail ? workspace->failure_detail : "reason unknown");
        hearth_failure_hint(
            failure, "Start it again with workspace_start, or delete it and create another.");
    } else if (workspace->state == WORKSPACE_SUSPENDED && workspace->failure_code) {
        bool locked = strcmp(workspace->failure_code, "suspend_unreadable") == 0;
        error = hearth_fail(failure, locked ? HEARTH_EINTERNAL : HEARTH_EUNAVAILABLE,
                            workspace->failure_code, "%s",
                            workspace->failure_detail ? workspace->failure_detail : "");
        hearth_failure_hint(failure, "%s",
                            locked ? STATE_KEY_HINT
                                   : "It is saved as it was: try again. workspace_stop gives its "
                                     "memory up and keeps its disk.");
    } else {
        error = hearth_fail(failure, HEARTH_ECONFLICT, "workspace_not_started",
                            "the workspace is %s", workspace_state_name(workspace->state));
        hearth_failure_hint(failure, "Start it with workspace_start.");
    }
    return error;
}

int workspace_cut_off(const struct principal *principal, const char *workspace_id,
                      struct hearth_failure *failure)
{
    struct workspace *workspace = workspace_find(principal, workspace_id, failure);
    return workspace ? workspace_ready(workspace, failure) : (int)failure->error;
}

struct late_completion {
    workspace_done done;
    void *arg;
    int error;
    struct hearth_failure failure;
    struct workspace *workspace;
};

static void complete(void *arg)
{
    auto_free struct late_completion *late = arg;
    late->done(late->arg, late->error, &late->failure, late->workspace);
}

void workspace_complete_later(struct supervisor *supervisor, workspace_done done, void *arg,
                              int error, const struct hearth_failure *failure,
                              struct workspace *workspace)
{
    struct late_completion *late = malloc(sizeof *late);
    if (!late)
        abort();
    *late = (struct late_completion){done, arg, error, failure ? *failure : HEARTH_FAILURE_NONE,
                                     workspace};
    loop_defer(supervisor->loop, complete, late);
}

void workspace_audit(struct workspace *workspace, struct change *change,
                     const struct principal *principal, const char *request_id,
                     const char *operation, const char *outcome)
{
    struct principal daemon = {.tenant = workspace->tenant};
    supervisor_audit_row(change, principal ? principal : &daemon, request_id, operation,
                         workspace->workspace_id, outcome);
}

void workspace_event(struct workspace *workspace, const char *happened, const char *reason)
{
    char kind[64];
    struct event_fact facts[4];
    size_t count = 0;
    snprintf(kind, sizeof kind, "%s.%s", workspace->one_shot ? "vm" : "workspace", happened);
    if (workspace->name)
        facts[count++] = (struct event_fact){.name = "name", .text = workspace->name};
    if (reason)
        facts[count++] = (struct event_fact){.name = "reason", .text = reason};
    if (workspace->failure_code) {
        facts[count++] = (struct event_fact){.name = "code", .text = workspace->failure_code};
        facts[count++] = (struct event_fact){
            .name = "detail", .text = workspace->failure_detail ? workspace->failure_detail : ""};
    }
    events_emit(workspace->tenant, kind, workspace->workspace_id, facts, count);
}

static int keep_last(void *arg, const struct row_exec *row)
{
    struct workspace *workspace = arg;
    if (row->sequence > workspace->exec_sequence)
        workspace->exec_sequence = row->sequence;
    free(workspace->last_command.command);
    free(workspace->last_command.cwd);
    workspace->last_command.sequence = row->sequence;
    workspace->last_command.command = text_copy(row->command);
    workspace->last_command.cwd = text_copy(row->cwd);
    workspace->last_command.exit_code = row->exit_code;
    workspace->last_command.duration_us = row->duration_us;
    workspace->last_command.recorded_at = row->ended_at;
    return 0;
}

void workspace_load_history(struct workspace *workspace)
{
    if (workspace->history_loaded)
        return;
    workspace->history_loaded = true;
    struct hearth_failure failure;
    if (rows_last_exec(workspace->supervisor->history_reader, workspace->workspace_id, keep_last,
                       workspace, &failure))
        log_warning("history_unreadable", "workspace=%s detail=\"%s\"", workspace->workspace_id,
                    failure.detail);
    if (workspace->command_count < workspace->exec_sequence)
        workspace->command_count = workspace->exec_sequence;
}

void workspace_describe(struct workspace *workspace, struct workspace_status *ret_status)
{
    static const struct guest_facts nothing = {0};
    const struct sandbox *sandbox = workspace->sandbox;
    bool on_network = sandbox && sandbox->running && network_has_device(workspace->network);
    *ret_status = (struct workspace_status){
        .workspace_id = workspace->workspace_id,
        .name = workspace->name,
        .labels = workspace->labels,
        .label_count = workspace->label_count,
        .environment = workspace->environment,
        .environment_version = workspace->environment_version,
        .vcpu_count = workspace->vcpu_count,
        .mem_mib = workspace->mem_mib,
        .disk_mib = workspace->disk_mib,
        .ttl_us = workspace->ttl_us,
        .created_at = workspace->created_at,
        .last_activity_at = workspace->last_activity_at,
        .expires_at = workspace->last_activity_at + workspace->ttl_us,
        .state = workspace->state,
        .network = workspace->network,
        .allow_host_compat = workspace->allow_host_compat,
        .guest_ip = on_network ? NET_GUEST_ADDRESS : NULL,
        .tap_name = on_network ? NET_GUEST_INTERFACE : NULL,
        .facts = sandbox ? sandbox->guest.facts : nothing,
        .seed_mode = workspace->seed_mode,
        .seed_path = workspace->seed_path,
        .seed_destination = workspace->seed_destination,
        .seed_entry_count = workspace->seed_entry_count,
        .seed_bytes = workspace->seed_bytes,
        .secret_count = workspace->secret_count,
        .command_count = workspace->command_count,
        .details = workspace->details,
        .reset_count = workspace->reset_count,
        .last_reset_at = workspace->last_reset_at,
        .failure_code = workspace->failure_code,
        .failure_detail = workspace->failure_detail,
        .link_state = sandbox ? agentlink_state_name(&sandbox->link) : "down",
    };
    services_count(workspace, &ret_status->service_count, &ret_status->running_service_count);
}

struct workspace_view *workspace_view(struct workspace *workspace)
{
    return &workspace->view;
}

void workspace_describe_last_command(struct workspace *workspace, struct workspace_status *status)
{
    workspace_load_history(workspace);
    status->command_count = workspace->command_count;
    status->last_command.sequence = workspace->last_command.sequence;
    status->last_command.command = workspace->last_command.command;
    status->last_command.cwd = workspace->last_command.cwd;
    status->last_command.exit_code = workspace->last_command.exit_code;
    status->last_command.duration_us = workspace->last_command.duration_us;
    status->last_command.recorded_at = workspace->last_command.recorded_at;
}
