/* hearth run: one command in a guest of its own. */

#include "cli/plain.h"

static const struct plain run = {
    .line = "run ENVIRONMENT [OPTIONS] [--] COMMAND...",
    .summary = "Runs a command (one word: a shell line; several: as they are) in a fresh "
               "guest,\nprints its output and exits with its status. Nothing of it stays.",
    .path = "/v1/vm-runs",
    .words = {"environment"},
    .options =
        {{"timeout", OPTION_INTEGER, "timeout_seconds", "SECONDS", "end it after so long (30)"},
         {"vcpu-count", OPTION_INTEGER, "vcpu_count", "N", "processors (1)"},
         {"mem-mib", OPTION_INTEGER, "mem_mib", "MIB", "memory (1024)"},
         {"ttl-seconds", OPTION_INTEGER, "ttl_seconds", "S", "the guest's life at most (600)"},
         {"network", OPTION_FLAG, "network", NULL, "let it reach the network"},
         {"isolation", OPTION_TEXT, "isolation", "KIND", "demand 'vm' or 'container'"},
         {"allow-host-compat", OPTION_FLAG, "allow_host_compat", NULL, "a container is fine"}},
    .command = true,
    .told =
        (const char *const[]){"environment", "execution_mode", "exit_code", "duration_ms", NULL},
};
PLAIN_COMMAND(run)

const struct command run_commands[] = {{"run", NULL, "run one command in a fresh guest", run_run},
                                       {0}};
