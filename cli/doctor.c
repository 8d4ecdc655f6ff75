/* hearth doctor: what this host can do, and what to install. */

#include "cli/command.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

static void print_driver(const cJSON *driver)
{
    bool usable = cJSON_IsTrue(json_member(driver, "usable"));
    bool chosen = cJSON_IsTrue(json_member(driver, "chosen"));
    const char *reason = json_text(driver, "reason", ""),
               *install = json_text(driver, "install", "");

    const cJSON *took = json_member(driver, "probe_ms");

    printf("%s  driver %-6s %s%s", usable ? "ok  " : "no  ", json_text(driver, "name", "?"),
           json_text(driver, "version", ""), chosen ? " (chosen)" : "");
    if (cJSON_IsNumber(took))
        printf(", found out in %.0f ms", took->valuedouble);
    putchar('\n');
    if (*reason)
        printf("                   %s\n", reason);
    if (*install)
        printf("                   install: %s\n", install);
}

static int doctor(struct cli *cli, int argc, char **argv)
{
    const struct usage usage = {.line = "doctor",
                                .summary = "Tells whether the daemon is ready, which guests this "
                                           "host can run, and what\nto install for more."};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    /* What is not ready is answered with 503 and the same report. */
    const struct http_request request = {.method = "GET", .path = "/readyz?verbose=true"};
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    auto_buf struct buf body = {0};
    int error = cli_open(cli, &failure);
    if (!error)
        error = http_perform(cli->http, &request, &body, &failure);
    auto_json cJSON *result = body.data ? cJSON_ParseWithLength(body.data, body.length) : NULL;
    if (!json_member(result, "checks"))
        return cli_fail(cli, &failure, &body);
    if (cli->json) {
        output_json(body.data);
        return error ? EXIT_PROBLEM : 0;
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, json_member(result, "checks"))
    {
        printf("%s  %s %s\n", cJSON_IsTrue(json_member(item, "ok")) ? "ok  " : "no  ",
               json_text(item, "name", "?"), json_text(item, "detail", ""));
    }
    cJSON_ArrayForEach(item, json_member(result, "drivers"))
    {
        print_driver(item);
    }
    return error ? EXIT_PROBLEM : 0;
}

const struct command doctor_commands[] = {{"doctor", NULL, "tell what this host can do", doctor},
                                          {0}};
