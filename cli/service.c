/* hearth workspace service start|list|status|logs|stop */

#include "cli/plain.h"
#include "cli/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLLOW_WAIT_MS "30000"

static const char *const summary_names[] = {"service_name", "state", "exit_code", "stop_reason",
                                            NULL};

static bool service_path(struct buf *path, const struct words *words, const char *rest)
{
    return cli_path(path, "/v1/workspaces/", words->items[0], "/services/", words->items[1], rest,
                    NULL);
}

/* 1 where it has failed: a start that did not come to what was asked for is no success. */
static int show(const struct cli *cli, const char *verb, const struct buf *body,
                const cJSON *result)
{
    if (cli->json)
        output_json(body->data);
    output_summary(verb, result, summary_names);
    return strcmp(json_text(result, "state", ""), "failed") == 0 ? EXIT_PROBLEM : 0;
}

struct start_options {
    const char *cwd, *file, *tcp, *http, *command, *restart;
    long timeout, interval;
    struct text_list ports, secret_env;
};

/* [HOST_PORT:]GUEST_PORT; which numbers are ports the daemon says. False for other words (told). */
static bool add_port(cJSON *list, const char *text, const struct usage *usage)
{
    static const char digits[] = "0123456789";
    size_t length = strspn(text, digits);
    const char *guest = text[length] == ':' ? text + length + 1 : text;
    size_t guest_length = strspn(guest, digits);
    if (!length || !guest_length || guest[guest_length]) {
        options_fail(usage, "'%s' does not read PORT or HOST_PORT:PORT", text);
        return false;
    }
    cJSON *port = cJSON_CreateObject();
    if (guest != text)
        cJSON_AddNumberToObject(port, "host_port", strtod(text, NULL));
    cJSON_AddNumberToObject(port, "guest_port", strtod(guest, NULL));
    cJSON_AddItemToArray(list, port);
    return true;
}

/* NULL for wrong words (told). */
static cJSON *start_arguments(const struct start_options *options, const struct words *words,
                              const struct usage *usage)
{
    auto_json cJSON *arguments = cJSON_CreateObject();
    auto_free char *line = cli_shell_line(words);
    if (!cli_add_secret_env(arguments, "secret_env", &options->secret_env, usage))
        return NULL;
    cli_add_text(arguments, "command", line);
    cli_add_text(arguments, "cwd", options->cwd);
    cli_add_text(arguments, "ready_file", options->file);
    cli_add_text(arguments, "ready_tcp", options->tcp);
    cli_add_text(arguments, "ready_http", options->http);
    cli_add_text(arguments, "ready_command", options->command);
    cli_add_text(arguments, "restart", options->restart);
    cli_add_number(arguments, "ready_timeout_seconds", options->timeout);
    cli_add_number(arguments, "ready_interval_ms", options->interval);
    cJSON *ports =
        options->ports.count ? cJSON_AddArrayToObject(arguments, "published_ports") : NULL;
    for (size_t i = 0; i < options->ports.count; i++)
        if (!add_port(ports, options->ports.items[i], usage))
            return NULL;
    return steal_pointer(arguments);
}

static int service_start(struct cli *cli, int argc, char **argv)
{
    struct start_options parsed = {.timeout = -1, .interval = -1};
    const struct option options[] = {
        {"cwd", OPTION_TEXT, &parsed.cwd, "DIR", "run it here (/workspace)"},
        {"ready-file", OPTION_TEXT, &parsed.file, "PATH", "ready when this file is there"},
        {"ready-tcp", OPTION_TEXT, &parsed.tcp, "[HOST:]PORT", "ready when this takes connections"},
        {"ready-http", OPTION_TEXT, &parsed.http, "URL", "ready when this answers"},
        {"ready-command", OPTION_TEXT, &parsed.command, "COMMAND", "ready when this succeeds"},
        {"ready-timeout", OPTION_INTEGER, &parsed.timeout, "SECONDS",
         "give it up after so long (30)"},
        {"ready-interval", OPTION_INTEGER, &parsed.interval, "MS",
         "between two runs of --ready-command (500)"},
        {"publish", OPTION_LIST, &parsed.ports, "[HOST_PORT:]PORT",
         "lead to this port of it from the daemon's loopback"},
        {"secret-env", OPTION_LIST, &parsed.secret_env, "NAME[=VAR]",
         "set a variable to a secret's value; may be given again"},
        {"restart", OPTION_TEXT, &parsed.restart, "POLICY", "never (what it is), or on-failure"},
        {0}};
    const struct usage usage = {
        .line = "workspace service start WORKSPACE_ID SERVICE_NAME [OPTIONS] [--] COMMAND...",
        .summary = "Starts a command that goes on by itself, and waits until it is ready.",
        .options = options,
        .minimum = 2,
        .maximum = 2,
        .command = true};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    auto_json cJSON *arguments =
        status == OPTIONS_PARSED ? start_arguments(&parsed, &words, &usage) : NULL;
    text_list_free(&parsed.ports);
    text_list_free(&parsed.secret_env);
    if (!arguments)
        return status == OPTIONS_PARSED ? 2 : status;
    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!service_path(&path, &words, NULL))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "PUT", path.data, steal_pointer(arguments), &body, &result);
    return status ? status : show(cli, "service-start", &body, result);
}

static const struct plain list = {
    .line = "workspace service list WORKSPACE_ID [OPTIONS]",
    .summary = "Lists a workspace's services.",
    .options = {{"limit", OPTION_INTEGER, "limit", "N", "at most so many (100)"},
                {"cursor", OPTION_TEXT, "cursor", "CURSOR", "go on from a page's next_cursor"}},
    .tool = "service_list",
    .words = {"workspace_id"},
    .list = "services",
    .columns = (const struct column[]){{"NAME", "service_name"},
                                       {"STATE", "state"},
                                       {"REASON", "stop_reason"},
                                       {"EXIT", "exit_code"},
                                       {"COMMAND", "command"},
                                       {NULL, NULL}},
};
PLAIN_COMMAND(list)

static const struct plain one = {
    .line = "workspace service status WORKSPACE_ID SERVICE_NAME",
    .summary = "Shows a service.",
    .tool = "service_status",
    .words = {"workspace_id", "service_name"},
    .fields = true,
    .told = (const char *const[]){"service_name", "state", NULL},
};
PLAIN_COMMAND(one)

/* As the service wrote it, each stream to its own. */
static void print_logs(const struct cli *cli, const struct buf *body, const cJSON *result)
{
    if (cli->json) {
        output_json(body->data);
        return;
    }
    fputs(json_text(result, "stdout", ""), stdout);
    fflush(stdout);
    fputs(json_text(result, "stderr", ""), stderr);
}

/* Nothing more comes of one that does not run, once all of it has been told. */
static bool ended(const cJSON *result)
{
    return strcmp(json_text(result, "state", ""), "running") != 0 &&
           strcmp(json_text(result, "stop_reason", ""), "restarting") != 0 &&
           !*json_text(result, "stdout", "") && !*json_text(result, "stderr", "");
}

static int service_logs(struct cli *cli, int argc, char **argv)
{
    const char *lines = NULL;
    bool all = false, follow = false;
    const struct option options[] = {
        {"tail-lines", OPTION_TEXT, &lines, "N", "at most so many of the newest lines (200)"},
        {"all", OPTION_FLAG, &all, NULL, "all that are kept"},
        {"follow", OPTION_FLAG, &follow, "f", "go on as they come, until it ends"},
        {0}};
    const struct usage usage = {
        .line = "workspace service logs WORKSPACE_ID SERVICE_NAME [-f] [OPTIONS]",
        .summary = "Prints what a service has printed.",
        .options = options,
        .minimum = 2,
        .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    char cursor[64] = "";
    for (bool first = true;; first = false) {
        auto_buf struct buf path = {0}, body = {0};
        auto_json cJSON *result = NULL;
        if (!service_path(&path, &words, "/logs") ||
            !cli_query(&path, "tail_lines", first ? lines : NULL) ||
            !cli_query(&path, "all", first && all ? "true" : NULL) ||
            !cli_query(&path, "cursor", first ? NULL : cursor) ||
            !cli_query(&path, "wait_ms", first ? NULL : FOLLOW_WAIT_MS))
            return cli_out_of_memory(cli);
        status = cli_call_json(cli, "GET", path.data, NULL, &body, &result);
        if (status)
            return status;
        print_logs(cli, &body, result);
        if (!follow || (!first && ended(result)) || ferror(stdout))
            return 0;
        snprintf(cursor, sizeof cursor, "%s", json_text(result, "cursor", ""));
    }
}

static int service_stop(struct cli *cli, int argc, char **argv)
{
    const struct usage usage = {.line = "workspace service stop WORKSPACE_ID SERVICE_NAME",
                                .summary = "Ends a service and all that it started.",
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!service_path(&path, &words, "/stop"))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "POST", path.data, cJSON_CreateObject(), &body, &result);
    if (status)
        return status;
    show(cli, "service-stop", &body, result);
    return 0;
}

const struct command service_commands[] = {
    {"workspace service", "start", "start a command that goes on by itself", service_start},
    {"workspace service", "list", "list services", run_list},
    {"workspace service", "status", "show one", run_one},
    {"workspace service", "logs", "print what one has printed", service_logs},
    {"workspace service", "stop", "end one and all that it started", service_stop},
    {0}};
