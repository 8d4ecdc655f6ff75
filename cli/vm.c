/* hearth vm …: machines step by step, each for one command; `hearth run` does all of it at once. */

#include "cli/plain.h"

static const char *const state_names[] = {"vm_id", "state", NULL};

static const struct plain create = {
    .line = "vm create ENVIRONMENT [OPTIONS]",
    .summary = "Makes a machine for one command, without starting it.",
    .tool = "vm_create",
    .words = {"environment"},
    .options = {{"vcpu-count", OPTION_INTEGER, "vcpu_count", "N", "processors (1)"},
                {"mem-mib", OPTION_INTEGER, "mem_mib", "MIB", "memory (1024)"},
                {"ttl-seconds", OPTION_INTEGER, "ttl_seconds", "S", "idle life (600)"},
                {"network", OPTION_FLAG, "network", NULL, "let it reach the network"},
                {"isolation", OPTION_TEXT, "isolation", "KIND", "demand 'vm' or 'container'"},
                {"transport", OPTION_TEXT, "transport", "NAME",
                 "demand 'serial', 'vsock', 'vhost-vsock' or 'vhost-user-vsock' (microVMs)"},
                {"allow-host-compat", OPTION_FLAG, "allow_host_compat", NULL,
                 "a container is fine"}},
    .id = "vm_id",
    .fields = true,
    .told = state_names,
};
PLAIN_COMMAND(create)

static const struct plain start = {
    .line = "vm start VM_ID",
    .summary = "Starts a machine and waits until it is ready for its command.",
    .tool = "vm_start",
    .words = {"vm_id"},
    .fields = true,
    .told = state_names,
};
PLAIN_COMMAND(start)

static const struct plain stop = {
    .line = "vm stop VM_ID",
    .summary = "Stops a machine; its disk stays.",
    .tool = "vm_stop",
    .words = {"vm_id"},
    .fields = true,
    .told = state_names,
};
PLAIN_COMMAND(stop)

static const struct plain delete = {
    .line = "vm delete VM_ID",
    .summary = "Deletes a machine and all that is in it.",
    .tool = "vm_delete",
    .words = {"vm_id"},
    .told = (const char *const[]){"vm_id", "deleted", "reason", NULL},
};
PLAIN_COMMAND(delete)

static const struct plain status = {
    .line = "vm status VM_ID",
    .summary = "Shows all that is known of a machine.",
    .tool = "vm_status",
    .words = {"vm_id"},
    .fields = true,
    .told = state_names,
};
PLAIN_COMMAND(status)

static const struct plain network_info = {
    .line = "vm network-info VM_ID",
    .summary = "Shows how a machine is connected.",
    .tool = "vm_network_info",
    .words = {"vm_id"},
    .fields = true,
    .told = (const char *const[]){"vm_id", "network_enabled", NULL},
};
PLAIN_COMMAND(network_info)

static const struct plain reap_expired = {
    .line = "vm reap-expired",
    .summary = "Deletes the machines whose life is over now, instead of in a moment.",
    .tool = "vm_reap_expired",
    .fields = true,
    .told = (const char *const[]){"count", NULL},
};
PLAIN_COMMAND(reap_expired)

static const struct plain exec = {
    .line = "vm exec VM_ID [OPTIONS] [--] COMMAND...",
    .summary = "Runs a command (one word: a shell line; several: as they are) in a started "
               "machine,\nprints its output, deletes the machine and exits with the command's "
               "status.",
    .path = "/v1/vms/{vm_id}/exec",
    .words = {"vm_id"},
    .options = {{"timeout", OPTION_INTEGER, "timeout_seconds", "SECONDS",
                 "end it after so long (30)"}},
    .command = true,
    .told = (const char *const[]){"vm_id", "exit_code", "timed_out", "truncated", "execution_mode",
                                  "duration_ms", "cleanup", NULL},
};
PLAIN_COMMAND(exec)

const struct command vm_commands[] = {
    {"vm", "create", "make a machine for one command", run_create},
    {"vm", "start", "start it", run_start},
    {"vm", "exec", "run its command, and delete it", run_exec},
    {"vm", "stop", "stop it; its disk stays", run_stop},
    {"vm", "delete", "delete it and all that is in it", run_delete},
    {"vm", "status", "show one machine", run_status},
    {"vm", "network-info", "show how one is connected", run_network_info},
    {"vm", "reap-expired", "delete those whose life is over", run_reap_expired},
    {0}};
