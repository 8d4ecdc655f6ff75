/* Machines, step by step: made, started, looked at, used for one command, deleted. A machine is a
 * workspace that is not listed, is named vm_…, and is deleted at its ttl. */
#include "api/operations/machine.h"
#include "api/operations/families.h"
#include "api/operations/views.h"

#include <string.h>

#define NEVER_STARTED "created"
#define WAS_STARTED "started"
#define REAP_MAX 1000 /* in one call */

#define VM_ID_FIELD(input_struct)                                                                  \
    {                                                                                              \
        .name = "vm_id", .type = FIELD_STRING, .place = PLACE_PATH, .flags = FIELD_REQUIRED,       \
        .maximum = 64, .pattern = ID_PATTERN("vm"),                                                \
        .description = "ID of the machine, as vm_create gave it.",                                 \
        .offset = offsetof(struct input_struct, vm_id)                                             \
    }
#define VM_ID_RESULT                                                                               \
    {                                                                                              \
        .name = "vm_id", .type = FIELD_STRING, .description = "ID of the machine."                 \
    }

static const struct field machine_fields[] = {
    VM_ID_RESULT,
    {.name = "environment", .type = FIELD_STRING, .description = "Its environment."},
    {.name = "environment_version",
     .type = FIELD_STRING,
     .description = "Content digest of that environment."},
    {.name = "vcpu_count", .type = FIELD_INTEGER, .description = "Virtual CPUs."},
    {.name = "mem_mib", .type = FIELD_INTEGER, .description = "Memory in MiB."},
    {.name = "ttl_seconds", .type = FIELD_INTEGER, .description = "Its life without activity."},
    {.name = "created_at", .type = FIELD_NUMBER, .description = "Seconds since the epoch."},
    {.name = "expires_at", .type = FIELD_NUMBER, .description = "When it is deleted by itself."},
    {.name = "state",
     .type = FIELD_STRING,
     .description = "created, started, stopped, failed or deleting."},
    {.name = "network_enabled", .type = FIELD_BOOLEAN, .description = "It has a network device."},
    {.name = "allow_host_compat",
     .type = FIELD_BOOLEAN,
     .description = "A container was accepted."},
    {.name = "guest_ip",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Address of the guest."},
    {.name = "tap_name",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Network device of the guest on the host."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "guest_vsock, guest_serial or guest_unix."},
    {.name = "isolation",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "vm or container."},
    {.name = "metadata",
     .type = FIELD_OBJECT,
     .description = "More about how it runs.",
     .fields = metadata_fields},
    {0},
};

const char *machine_state(struct workspace *workspace, enum workspace_state state)
{
    const char *label = workspace_label(workspace, WORKSPACE_MACHINE_LABEL);
    return state == WORKSPACE_STOPPED && label && strcmp(label, NEVER_STARTED) == 0
               ? "created"
               : workspace_state_name(state);
}

static void write_network(struct json_writer *json, const struct workspace_status *status)
{
    json_boolean(json, "network_enabled", network_has_device(status->network));
    json_string(json, "guest_ip", status->guest_ip);
    json_string(json, "tap_name", status->tap_name);
    json_string(json, "execution_mode", status->facts.execution_mode);
}

static void reply_machine(struct call *call, struct workspace *workspace)
{
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct workspace_status status;
    workspace_describe(workspace, &status);
    json_object_begin(&json, NULL);
    json_string(&json, "vm_id", status.workspace_id);
    json_string(&json, "environment", status.environment);
    json_string(&json, "environment_version", status.environment_version);
    json_unsigned(&json, "vcpu_count", status.vcpu_count);
    json_unsigned(&json, "mem_mib", status.mem_mib);
    json_integer(&json, "ttl_seconds", status.ttl_us / US_PER_S);
    json_time(&json, "created_at", status.created_at);
    json_time(&json, "expires_at", status.expires_at);
    json_string(&json, "state", machine_state(workspace, status.state));
    write_network(&json, &status);
    json_boolean(&json, "allow_host_compat", status.allow_host_compat);
    json_string(&json, "isolation", status.facts.isolation);
    write_metadata(&json, &status);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static struct workspace *find(struct call *call, const char *vm_id)
{
    struct hearth_failure failure;
    struct workspace *workspace =
        id_valid(vm_id, "vm") ? workspace_find(call_principal(call), vm_id, &failure) : NULL;
    return workspace && workspace_label(workspace, WORKSPACE_MACHINE_LABEL) ? workspace : NULL;
}

struct workspace *machine_or_fail(struct call *call, const char *vm_id)
{
    struct workspace *workspace = find(call, vm_id);
    if (workspace)
        return workspace;
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_ENOTFOUND, "vm_not_found", "there is no such machine");
    hearth_failure_field(&failure, "/vm_id");
    hearth_failure_hint(&failure, "Make one with vm_create; vm_exec deletes it after its command.");
    call_fail(call, &failure);
    return NULL;
}

static void changed(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *workspace)
{
    struct call *call = arg;
    if (error)
        call_fail(call, failure);
    else
        reply_machine(call, workspace);
}

/* create */

struct create_input {
    const char *environment, *isolation, *transport;
    int64_t vcpu_count, mem_mib, ttl_seconds;
    bool network, allow_host_compat;
};

static const struct field create_input[] = {
    ENVIRONMENT_FIELD(create_input),
    MACHINE_FIELDS(create_input),
    {.name = "ttl_seconds",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = 31536000,
     .default_json = "600",
     .description = "Seconds without activity after which it is deleted.",
     .offset = offsetof(struct create_input, ttl_seconds)},
    {.name = "network",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "Give it outbound network access.",
     .offset = offsetof(struct create_input, network)},
    ISOLATION_FIELD(create_input),
    TRANSPORT_FIELD(create_input, 0),
    ALLOW_HOST_COMPAT_FIELD(create_input),
    {0},
};

static void create(struct call *call, const void *arg)
{
    static const struct row_label label = {WORKSPACE_MACHINE_LABEL, NEVER_STARTED};
    const struct create_input *input = arg;
    struct workspace_spec spec = {
        .environment = input->environment,
        .vcpu_count = (uint32_t)input->vcpu_count,
        .mem_mib = (uint32_t)input->mem_mib,
        .disk_mib = 4096,
        .ttl_us = input->ttl_seconds * US_PER_S,
        .network = input->network ? NETWORK_EGRESS : NETWORK_OFF,
        .labels = &label,
        .label_count = 1,
        .isolation = input->isolation,
        .transport = input->transport,
        .allow_host_compat = input->allow_host_compat,
        .one_shot = true,
        .unstarted = true,
        .request_id = call_request_id(call),
    };
    workspace_create(call_supervisor(call), call_principal(call), &spec, changed, call);
}

static void tell_created(struct call *call, const void *input, const char *vm_id)
{
    struct workspace *workspace = machine_or_fail(call, vm_id);
    (void)input;
    if (workspace)
        reply_machine(call, workspace);
}

/* start, stop, status, delete */

struct id_input {
    const char *vm_id;
};
static const struct field id_input[] = {VM_ID_FIELD(id_input), {0}};

static void started(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *workspace)
{
    static const struct row_label label = {WORKSPACE_MACHINE_LABEL, WAS_STARTED};
    struct call *call = arg;
    if (error) {
        call_fail(call, failure);
        return;
    }
    if (strcmp(workspace_label(workspace, WORKSPACE_MACHINE_LABEL), WAS_STARTED) == 0) {
        reply_machine(call, workspace);
        return;
    }
    struct workspace_update_spec spec = {
        .labels = &label, .label_count = 1, .request_id = call_request_id(call)};
    workspace_update(workspace, call_principal(call), &spec, changed, call);
}

static void start(struct call *call, const void *arg)
{
    struct workspace *workspace = machine_or_fail(call, ((const struct id_input *)arg)->vm_id);
    if (workspace)
        workspace_start(workspace, call_principal(call), call_request_id(call), started, call);
}

static void stop(struct call *call, const void *arg)
{
    struct workspace *workspace = machine_or_fail(call, ((const struct id_input *)arg)->vm_id);
    if (workspace)
        workspace_stop(workspace, call_principal(call), call_request_id(call), changed, call);
}

static void status(struct call *call, const void *arg)
{
    struct workspace *workspace = machine_or_fail(call, ((const struct id_input *)arg)->vm_id);
    if (workspace)
        reply_machine(call, workspace);
}

static const struct field network_fields[] = {
    VM_ID_RESULT,
    {.name = "network_enabled", .type = FIELD_BOOLEAN, .description = "It has a network device."},
    {.name = "guest_ip",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Address of the guest."},
    {.name = "tap_name",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "Network device of the guest on the host."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "guest_vsock, guest_serial or guest_unix."},
    {0},
};

static void network(struct call *call, const void *arg)
{
    struct workspace *workspace = machine_or_fail(call, ((const struct id_input *)arg)->vm_id);
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct workspace_status described;
    if (!workspace)
        return;
    workspace_describe(workspace, &described);
    json_object_begin(&json, NULL);
    json_string(&json, "vm_id", described.workspace_id);
    write_network(&json, &described);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static const struct field delete_output[] = {
    VM_ID_RESULT,
    {.name = "deleted", .type = FIELD_BOOLEAN, .description = "It is gone."},
    {.name = "reason", .type = FIELD_STRING, .description = "explicit_delete."},
    {0},
};

struct deleting {
    struct call *call;
    char vm_id[ID_SIZE];
};

static void deleted(void *arg, int error, const struct hearth_failure *failure,
                    struct workspace *workspace)
{
    struct deleting *deleting = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    (void)workspace;
    if (error) {
        call_fail(deleting->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "vm_id", deleting->vm_id);
    json_boolean(&json, "deleted", true);
    json_string(&json, "reason", "explicit_delete");
    json_object_end(&json);
    reply_with(deleting->call, &body, &json);
}

static void delete (struct call *call, const void *arg)
{
    const struct id_input *input = arg;
    struct workspace *workspace = machine_or_fail(call, input->vm_id);
    struct deleting *deleting = workspace ? call_allocate_or_fail(call, sizeof *deleting) : NULL;
    if (!deleting)
        return;
    deleting->call = call;
    memcpy(deleting->vm_id, input->vm_id, strlen(input->vm_id) + 1);
    workspace_delete(workspace, call_principal(call), call_request_id(call), deleted, deleting);
}

/* reap: what has expired is deleted by itself in a moment; this does not wait for the moment. */

struct reaping {
    struct call *call;
    unsigned found, left;
    char (*ids)[ID_SIZE];
    bool *gone;
};

static const struct field no_input[] = {{0}};
static const struct field reap_output[] = {
    {.name = "count", .type = FIELD_INTEGER, .description = "How many were deleted."},
    {.name = "removed_vm_ids",
     .type = FIELD_STRING_LIST,
     .description = "IDs of the machines that were deleted."},
    {0},
};

static void reaped(struct reaping *reaping)
{
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    unsigned count = 0;
    json_object_begin(&json, NULL);
    json_array_begin(&json, "removed_vm_ids");
    for (unsigned i = 0; i < reaping->found; i++) {
        if (reaping->gone[i])
            json_string(&json, NULL, reaping->ids[i]);
        count += reaping->gone[i];
    }
    json_array_end(&json);
    json_unsigned(&json, "count", count);
    json_object_end(&json);
    reply_with(reaping->call, &body, &json);
}

struct reap_one {
    struct reaping *reaping;
    unsigned index;
};

static void one_reaped(void *arg, int error, const struct hearth_failure *failure,
                       struct workspace *workspace)
{
    struct reap_one *one = arg;
    (void)failure; /* another delete of it is under way */
    (void)workspace;
    one->reaping->gone[one->index] = error == 0;
    if (--one->reaping->left == 0)
        reaped(one->reaping);
}

static void look_at(void *arg, struct workspace *workspace)
{
    struct reaping *reaping = arg;
    struct workspace_status described;
    workspace_describe(workspace, &described);
    if (described.expires_at > clock_wall_us() || reaping->found == REAP_MAX ||
        described.state == WORKSPACE_CREATING || described.state == WORKSPACE_DELETING)
        return;
    memcpy(reaping->ids[reaping->found++], described.workspace_id,
           strlen(described.workspace_id) + 1);
}

static void reap(struct call *call, const void *arg)
{
    struct reaping *reaping = call_allocate_or_fail(call, sizeof *reaping);
    (void)arg;
    if (!reaping)
        return;
    reaping->call = call;
    reaping->ids = call_allocate_or_fail(call, REAP_MAX * sizeof *reaping->ids);
    if (!reaping->ids)
        return;
    workspace_each_machine(call_principal(call), look_at, reaping);
    struct reap_one *each =
        call_allocate_or_fail(call, (reaping->found + 1) * (sizeof *each + sizeof(bool)));
    if (!each)
        return;
    reaping->gone = (bool *)(each + reaping->found + 1);
    reaping->left = reaping->found;
    if (!reaping->found) {
        reaped(reaping);
        return;
    }
    unsigned found = reaping->found; /* the last of them ends the call */
    for (unsigned i = 0; i < found; i++) {
        struct workspace *workspace = find(call, reaping->ids[i]);
        each[i] = (struct reap_one){reaping, i};
        workspace_delete(workspace, call_principal(call), call_request_id(call), one_reaped,
                         &each[i]);
    }
}

/* exec */

static const struct field exec_fields_in[] = {
    VM_ID_FIELD(vm_exec_input),
    {.name = "command",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = 1 << 20,
     .description = "Shell command, run by /bin/sh -lc.",
     .offset = offsetof(struct vm_exec_input, command)},
    {.name = "timeout_seconds",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = 86400,
     .default_json = "30",
     .description = "Time after which the command is ended; exit code 124.",
     .offset = offsetof(struct vm_exec_input, timeout_seconds)},
    ENCODING_FIELD(vm_exec_input, PLACE_BODY),
    {0},
};

static const char *const create_errors[] = {"unknown_environment",
                                            "environment_not_pulled",
                                            "quota_workspaces",
                                            "isolation_unavailable",
                                            "transport_unavailable",
                                            "network_unavailable",
                                            NULL};
static const char *const machine_errors[] = {"vm_not_found", "workspace_busy", NULL};
static const char *const exec_errors[] = {"vm_not_found", "vm_not_started", NULL};

#define MACHINE(entry_name, entry_title, entry_method, entry_path, entry_flags, entry_handler,     \
                entry_summary, entry_description)                                                  \
    .name = (entry_name), .family = "vm", .title = (entry_title), .summary = (entry_summary),      \
    .description = (entry_description), .method = (entry_method), .path = (entry_path),            \
    .profile = PROFILE_FULL, .surfaces = SURFACE_REST | SURFACE_TOOL, .flags = (entry_flags),      \
    .handler = (entry_handler)
#define BY_ID                                                                                      \
    .status = 200, .input = id_input, .input_size = sizeof(struct id_input),                       \
    .errors = machine_errors

const struct operation_entry machine_operations[] = {
    {
        MACHINE("vm_create", "Create a machine", "POST", "/v1/vms", OPERATION_LONG, create,
                "Makes a machine that is not started yet.",
                "Makes a sandbox for one command without starting it: vm_start, then vm_exec. For "
                "most uses vm_run does all of it in one call, and a workspace lives longer."),
        .status = 201,
        .input = create_input,
        .input_size = sizeof(struct create_input),
        .output = machine_fields,
        .errors = create_errors,
        .tell = tell_created,
    },
    {
        MACHINE("vm_start", "Start a machine", "POST", "/v1/vms/{vm_id}/start",
                OPERATION_IDEMPOTENT | OPERATION_LONG | OPERATION_ACTIVITY, start,
                "Starts a machine.",
                "Starts a machine that vm_create made or vm_stop stopped, and answers when it is "
                "ready for vm_exec."),
        BY_ID,
        .output = machine_fields,
    },
    {
        MACHINE("vm_exec", "Run in a machine", "POST", "/v1/vms/{vm_id}/exec",
                OPERATION_DESTRUCTIVE | OPERATION_LONG | OPERATION_OPEN_WORLD, vm_exec,
                "Runs one command in a started machine and deletes the machine.",
                "Runs one shell command in a started machine and returns stdout, stderr and "
                "exit_code. The machine is deleted afterwards, whatever came of it. One that is "
                "not started is an error and is kept."),
        .status = 200,
        .input = exec_fields_in,
        .input_size = sizeof(struct vm_exec_input),
        .output = vm_run_output,
        .errors = exec_errors,
    },
    {
        MACHINE("vm_stop", "Stop a machine", "POST", "/v1/vms/{vm_id}/stop",
                OPERATION_DESTRUCTIVE | OPERATION_IDEMPOTENT | OPERATION_LONG | OPERATION_ACTIVITY,
                stop, "Stops a machine; its disk stays.",
                "Stops a machine and all that runs in it. Its disk stays until it is deleted."),
        BY_ID,
        .output = machine_fields,
    },
    {
        MACHINE("vm_delete", "Delete a machine", "DELETE", "/v1/vms/{vm_id}",
                OPERATION_DESTRUCTIVE | OPERATION_LONG, delete, "Deletes a machine.",
                "Deletes a machine with all that is in it."),
        BY_ID,
        .output = delete_output,
    },
    {
        MACHINE("vm_status", "Look at a machine", "GET", "/v1/vms/{vm_id}",
                OPERATION_READ_ONLY | OPERATION_IDEMPOTENT, status, "Tells a machine's state.",
                "Tells a machine's state, size and when it expires."),
        BY_ID,
        .output = machine_fields,
    },
    {
        MACHINE("vm_network_info", "Look at a machine's network", "GET", "/v1/vms/{vm_id}/network",
                OPERATION_READ_ONLY | OPERATION_IDEMPOTENT, network,
                "Tells how a machine is connected.",
                "Tells whether a machine has a network device, and its address."),
        BY_ID,
        .output = network_fields,
    },
    {
        MACHINE("vm_reap_expired", "Delete expired machines", "POST", "/v1/vm-reaps",
                OPERATION_DESTRUCTIVE | OPERATION_IDEMPOTENT | OPERATION_LONG, reap,
                "Deletes the machines whose time is over.",
                "Deletes the machines whose ttl has passed. They are deleted by themselves soon "
                "after it; this does not wait for that."),
        .status = 200,
        .input = no_input,
        .output = reap_output,
    },
    {0},
};
