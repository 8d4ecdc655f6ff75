/* hearth workspace exec|logs, workspace exec status|cancel */

#include "cli/exec_stream.h"

#include "cli/plain.h"
#include "cli/secret.h"
#include "cli/standard_input.h"

#include <stdio.h>
#include <string.h>

static const char *const summary_names[] = {
    "workspace_id", "sequence",  "cwd",     "execution_mode", "exit_code",
    "timed_out",    "truncated", "problem", "duration_ms",    NULL};

/* Of a command that may run still. */
static const char *const state_names[] = {"workspace_id", "exec_id",   "running",     "exit_code",
                                          "signal",       "timed_out", "cancelled",   "truncated",
                                          "problem",      "cursor",    "duration_ms", NULL};

struct exec_options {
    const char *cwd;
    long timeout, wait_ms;
    bool no_stdin, detach;
    struct text_list environment, secret_env;
};

/* What is sent, or NULL with *ret_status set and the reason told. */
static cJSON *exec_arguments(const struct cli *cli, const struct exec_options *options,
                             const struct words *words, const struct usage *usage, int *ret_status)
{
    auto_json cJSON *arguments = cJSON_CreateObject();
    auto_free char *line = cli_shell_line(words);
    auto_buf struct buf input = {0};
    struct hearth_failure failure;

    *ret_status = 2;
    if (!cli_add_pairs(arguments, "env", &options->environment, usage) ||
        !cli_add_secret_env(arguments, "secret_env", &options->secret_env, usage))
        return NULL;
    *ret_status = EXIT_PROBLEM;
    if (!line) {
        cli_out_of_memory(cli);
        return NULL;
    }
    if (!options->no_stdin && standard_input_read(&input, &failure)) {
        cli_fail(cli, &failure, NULL);
        return NULL;
    }
    cJSON_AddStringToObject(arguments, "command", line);
    cli_add_text(arguments, "cwd", options->cwd);
    cli_add_number(arguments, "timeout_seconds", options->timeout);
    if (input.length)
        cJSON_AddStringToObject(arguments, "stdin", input.data);
    if (options->detach)
        cJSON_AddTrueToObject(arguments, "detach");
    cli_add_number(arguments, "wait_ms", options->wait_ms);
    return steal_pointer(arguments);
}

/* Starts it and tells its ID; how it ends is not this command's status, were it over already. */
static int exec_detached(struct cli *cli, const char *path, cJSON *arguments)
{
    static const char *const names[] = {"workspace_id", "exec_id", "running", NULL};
    auto_buf struct buf body = {0};
    auto_json cJSON *result = NULL;
    int status = cli_call_json(cli, "POST", path, arguments, &body, &result);
    if (status)
        return status;
    if (cli->json) {
        output_json(body.data);
        return 0;
    }
    puts(json_text(result, "exec_id", ""));
    output_summary("workspace-exec", result, names);
    return 0;
}

static int exec_as_told(struct cli *cli, const struct exec_options *options, const char *path,
                        cJSON *arguments)
{
    if (options->detach)
        return exec_detached(cli, path, arguments);
    if (cli->json)
        return exec_answer(cli, NULL, path, arguments, NULL);
    if (options->wait_ms < 0)
        return exec_stream(cli, "workspace-exec", path, arguments, summary_names);
    return exec_answer(cli, "workspace-exec", path, arguments, state_names);
}

static int workspace_exec(struct cli *cli, int argc, char **argv)
{
    struct exec_options parsed = {.timeout = -1, .wait_ms = -1};
    const struct option options[] = {
        {"timeout", OPTION_INTEGER, &parsed.timeout, "SECONDS", "end it after so long (30)"},
        {"cwd", OPTION_TEXT, &parsed.cwd, "DIR", "run it here (/workspace)"},
        {"env", OPTION_LIST, &parsed.environment, "KEY=VALUE", "set a variable for it"},
        {"secret-env", OPTION_LIST, &parsed.secret_env, "NAME[=VAR]",
         "set a variable to a secret's value; may be given again"},
        {"no-stdin", OPTION_FLAG, &parsed.no_stdin, NULL, "leave a piped stdin unread"},
        {"detach", OPTION_FLAG, &parsed.detach, NULL, "print its ID at once; it goes on"},
        {"wait-ms", OPTION_INTEGER, &parsed.wait_ms, "N",
         "wait so long at most, with status 0 if it runs still; it goes on"},
        {0}};
    const struct usage usage = {
        .line = "workspace exec WORKSPACE_ID [OPTIONS] [--] COMMAND...",
        .summary = "Runs a command (one word: a shell line; several: as they are), shows its "
                   "output\nas it comes, and exits with its status.",
        .options = options,
        .minimum = 1,
        .maximum = 1,
        .command = true};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    auto_json cJSON *arguments = NULL;
    if (status == OPTIONS_PARSED && parsed.detach && parsed.wait_ms >= 0)
        status = options_fail(&usage, "--detach and --wait-ms exclude each other");
    if (status == OPTIONS_PARSED)
        arguments = exec_arguments(cli, &parsed, &words, &usage, &status);
    text_list_free(&parsed.environment);
    text_list_free(&parsed.secret_env);
    if (!arguments)
        return status;

    auto_buf struct buf path = {0};
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/exec", NULL))
        return cli_out_of_memory(cli);
    return exec_as_told(cli, &parsed, path.data, steal_pointer(arguments));
}

static int exec_status(struct cli *cli, int argc, char **argv)
{
    const char *wait_ms = NULL, *cursor = NULL;
    const struct option options[] = {
        {"wait-ms", OPTION_TEXT, &wait_ms, "N", "wait so long for its end (0)"},
        {"cursor", OPTION_TEXT, &cursor, "CURSOR", "only output past this, of an earlier summary"},
        {0}};
    const struct usage usage = {.line = "workspace exec status WORKSPACE_ID EXEC_ID [OPTIONS]",
                                .summary =
                                    "Shows what a command has printed, and whether it runs still; "
                                    "the\nexit status is 0 whatever the command's own, which the "
                                    "summary tells.",
                                .options = options,
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/execs/", words.items[1], NULL) ||
        !cli_query(&path, "wait_ms", wait_ms) || !cli_query(&path, "cursor", cursor) ||
        !cli_query(&path, "encoding", cli->json ? NULL : "base64"))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "GET", path.data, NULL, &body, &result);
    if (status)
        return status;
    if (!cli->json)
        return exec_show(cli, "workspace-exec-status", result, state_names);
    output_json(body.data);
    return 0;
}

static const struct plain exec_cancel = {
    .line = "workspace exec cancel WORKSPACE_ID EXEC_ID",
    .summary = "Ends a command and all that it started.",
    .method = "DELETE",
    .path = "/v1/workspaces/{workspace_id}/execs/{exec_id}",
    .words = {"workspace_id", "exec_id"},
    .told = state_names,
};
PLAIN_COMMAND(exec_cancel)

static void print_entry(const cJSON *entry)
{
    printf("[%.0f] %s\n", json_number(entry, "sequence", 0), json_text(entry, "command", ""));
    const char *out = json_text(entry, "stdout", "");
    const char *error = json_text(entry, "stderr", "");
    if (*out)
        printf("%s%s", out, out[strlen(out) - 1] == '\n' ? "" : "\n");
    if (*error)
        printf("%s%s", error, error[strlen(error) - 1] == '\n' ? "" : "\n");
    printf("exit %.0f after %.0f ms\n\n", json_number(entry, "exit_code", -1),
           json_number(entry, "duration_ms", 0));
}

static int workspace_logs(struct cli *cli, int argc, char **argv)
{
    const char *limit = NULL, *cursor = NULL;
    const struct option options[] = {
        {"limit", OPTION_TEXT, &limit, "N", "at most so many (100)"},
        {"cursor", OPTION_TEXT, &cursor, "CURSOR", "go on from a page's next_cursor"},
        {0}};
    const struct usage usage = {.line = "workspace logs WORKSPACE_ID [OPTIONS]",
                                .summary = "Shows the commands that ran, with their output.",
                                .options = options,
                                .minimum = 1,
                                .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/logs", NULL) ||
        !cli_query(&path, "limit", limit) || !cli_query(&path, "cursor", cursor))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "GET", path.data, NULL, &body, &result);
    if (status)
        return status;
    if (cli->json) {
        output_json(body.data);
        return 0;
    }
    const char *next = json_text(result, "next_cursor", NULL);
    const cJSON *entry;
    cJSON_ArrayForEach(entry, json_member(result, "entries"))
    {
        print_entry(entry);
    }
    fprintf(stderr, "[workspace-logs] count=%.0f%s%s%s\n", json_number(result, "count", 0),
            next ? " (there are more: --cursor " : "", next ? next : "", next ? ")" : "");
    return 0;
}

const struct command exec_commands[] = {
    {"workspace", "exec", "run a command in it", workspace_exec},
    {"workspace", "logs", "show the commands that ran", workspace_logs},
    {"workspace exec", "status", "show one that was detached", exec_status},
    {"workspace exec", "cancel", "end one", run_exec_cancel},
    {0}};
