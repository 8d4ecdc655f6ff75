/* hearth run: one command in a guest of its own. */

#include "cli/exec_stream.h"

struct run_options {
    long vcpu_count, mem_mib, timeout, ttl;
    bool network;
    const char *isolation;
};

static cJSON *run_arguments(const struct run_options *options, const struct words *words)
{
    auto_free char *line = cli_shell_line(words);
    cJSON *arguments = line ? cJSON_CreateObject() : NULL;
    if (!arguments)
        return NULL;
    cJSON_AddStringToObject(arguments, "environment", words->items[0]);
    cJSON_AddStringToObject(arguments, "command", line);
    if (options->vcpu_count >= 0)
        cJSON_AddNumberToObject(arguments, "vcpu_count", (double)options->vcpu_count);
    if (options->mem_mib >= 0)
        cJSON_AddNumberToObject(arguments, "mem_mib", (double)options->mem_mib);
    if (options->timeout >= 0)
        cJSON_AddNumberToObject(arguments, "timeout_seconds", (double)options->timeout);
    if (options->ttl >= 0)
        cJSON_AddNumberToObject(arguments, "ttl_seconds", (double)options->ttl);
    if (options->network)
        cJSON_AddTrueToObject(arguments, "network");
    if (options->isolation)
        cJSON_AddStringToObject(arguments, "isolation", options->isolation);
    return arguments;
}

static int run(struct cli *cli, int argc, char **argv)
{
    static const char *const names[] = {"environment", "execution_mode", "exit_code", "duration_ms",
                                        NULL};
    struct run_options parsed = {.vcpu_count = -1, .mem_mib = -1, .timeout = -1, .ttl = -1};
    const struct option options[] = {
        {"timeout", OPTION_INTEGER, &parsed.timeout, "SECONDS", "end it after so long (30)"},
        {"vcpu-count", OPTION_INTEGER, &parsed.vcpu_count, "N", "processors (1)"},
        {"mem-mib", OPTION_INTEGER, &parsed.mem_mib, "MIB", "memory (1024)"},
        {"ttl-seconds", OPTION_INTEGER, &parsed.ttl, "S", "the guest's life at most (600)"},
        {"network", OPTION_FLAG, &parsed.network, NULL, "let it reach the network"},
        {"isolation", OPTION_TEXT, &parsed.isolation, "KIND", "demand 'vm' or 'container'"},
        {0}};
    const struct usage usage = {
        .line = "run ENVIRONMENT [OPTIONS] [--] COMMAND...",
        .summary = "Runs a command (one word: a shell line; several: as they are) in a fresh "
                   "guest,\nprints its output and exits with its status. Nothing of it stays.",
        .options = options,
        .minimum = 1,
        .maximum = 1,
        .command = true};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    cJSON *arguments = run_arguments(&parsed, &words);
    if (!arguments)
        return cli_out_of_memory(cli);
    return exec_answer(cli, "run", "/v1/vm-runs", arguments, names);
}

const struct command run_commands[] = {{"run", NULL, "run one command in a fresh guest", run}, {0}};
