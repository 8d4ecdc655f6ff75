/* hearth workspace disk export|list|read */

#include "cli/command.h"
#include "cli/download.h"
#include "cli/output.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int disk_export(struct cli *cli, int argc, char **argv)
{
    const char *output = NULL;
    const struct option options[] = {
        {"output", OPTION_TEXT, &output, "FILE", "where to (WORKSPACE_ID.ext4)"}, {0}};
    const struct usage usage = {.line = "workspace disk export WORKSPACE_ID [OPTIONS]",
                                .summary = "Writes a stopped workspace's root as one ext4 image.",
                                .options = options,
                                .minimum = 1,
                                .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, own_name = {0};
    uint64_t bytes;
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/disk", NULL) ||
        buf_printf(&own_name, "%s.ext4", words.items[0]))
        return cli_out_of_memory(cli);
    if (!output && strchr(words.items[0], '/'))
        return options_fail(&usage, "that is no workspace's ID");
    if (!output)
        output = own_name.data;
    status = download(cli, path.data, NULL, output, true, &bytes);
    if (status)
        return status;
    auto_free char *absolute = realpath(output, NULL);
    auto_json cJSON *result = cJSON_CreateObject();
    cJSON_AddStringToObject(result, "workspace_id", words.items[0]);
    cJSON_AddStringToObject(result, "output_path", absolute ? absolute : output);
    cJSON_AddStringToObject(result, "disk_format", "ext4");
    cJSON_AddNumberToObject(result, "bytes_written", (double)bytes);
    if (cli->json) {
        auto_free char *text = cJSON_PrintUnformatted(result);
        output_json(text ? text : "{}");
    } else {
        static const char *const names[] = {"output_path", "disk_format", "bytes_written", NULL};
        output_summary("workspace-disk-export", result, names);
    }
    return 0;
}

static int disk_list(struct cli *cli, int argc, char **argv)
{
    static const struct column columns[] = {{"TYPE", "artifact_type"}, {"SIZE", "size_bytes"},
                                            {"MODE", "mode"},          {"PATH", "path"},
                                            {"TARGET", "link_target"}, {NULL, NULL}};
    bool recursive = false;
    const char *limit = NULL;
    const struct option options[] = {
        {"recursive", OPTION_FLAG, &recursive, NULL, "with all that is below"},
        {"limit", OPTION_TEXT, &limit, "N", "at most so many (1000)"},
        {0}};
    const struct usage usage = {.line = "workspace disk list WORKSPACE_ID [PATH] [OPTIONS]",
                                .summary = "Lists a directory on a stopped workspace's disk.",
                                .options = options,
                                .minimum = 1,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/disk/list", NULL) ||
        !cli_query(&path, "path", words.items[1]) ||
        !cli_query(&path, "recursive", recursive ? "true" : NULL) ||
        !cli_query(&path, "limit", limit))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "GET", path.data, NULL, &body, &result);
    if (status)
        return status;
    const cJSON *entries = json_member(result, "entries");
    if (cli->json)
        output_json(body.data);
    else
        output_table(entries, columns);
    fprintf(stderr, "[workspace-disk-list] path=%s count=%d%s\n", json_text(result, "path", ""),
            cJSON_GetArraySize(entries),
            cJSON_IsTrue(json_member(result, "truncated")) ? " (there are more: --limit)" : "");
    return 0;
}

static int disk_read(struct cli *cli, int argc, char **argv)
{
    const char *max_bytes = NULL, *offset = NULL;
    const struct option options[] = {
        {"max-bytes", OPTION_TEXT, &max_bytes, "N", "at most so many (65536)"},
        {"offset", OPTION_TEXT, &offset, "N", "from this byte on"},
        {0}};
    const struct usage usage = {.line = "workspace disk read WORKSPACE_ID PATH [OPTIONS]",
                                .summary = "Prints a text file on a stopped workspace's disk.",
                                .options = options,
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/disk/read", NULL) ||
        !cli_query(&path, "path", words.items[1]) || !cli_query(&path, "max_bytes", max_bytes) ||
        !cli_query(&path, "offset", offset))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "GET", path.data, NULL, &body, &result);
    if (status)
        return status;
    if (cli->json) {
        output_json(body.data);
        return 0;
    }
    fputs(json_text(result, "content", ""), stdout);
    fflush(stdout);
    fprintf(stderr, "[workspace-disk-read] path=%s size_bytes=%.0f truncated=%s\n",
            json_text(result, "path", ""), cJSON_GetNumberValue(json_member(result, "size_bytes")),
            cJSON_IsTrue(json_member(result, "truncated")) ? "true" : "false");
    return 0;
}

const struct command disk_commands[] = {
    {"workspace disk", "export", "write a stopped workspace's root as an image", disk_export},
    {"workspace disk", "list", "list a directory on a stopped workspace's disk", disk_list},
    {"workspace disk", "read", "print a file on a stopped workspace's disk", disk_read},
    {0}};
