/* hearth workspace sync push, workspace export: trees into a workspace and out of it. */

#include "base/text.h"
#include "base/untar.h"
#include "cli/body.h"
#include "cli/command.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

static int push(struct cli *cli, const char *id, const char *source, const char *dest,
                const struct tar_pack_choice *choice)
{
    static const char *const names[] = {"destination", "entry_count", "bytes_written", NULL};
    struct body body;
    struct hearth_failure failure;
    auto_buf struct buf path = {0}, reply = {0};
    auto_json cJSON *result = NULL;
    auto_free char *absolute = cli_absolute(source);
    bool told = absolute && utf8_valid(absolute, strlen(absolute));
    if (!cli_path(&path, "/v1/workspaces/", id, "/sync", NULL) || !cli_query(&path, "dest", dest) ||
        !cli_query(&path, "source_path", told ? absolute : NULL))
        return cli_out_of_memory(cli);
    if (body_open(&body, source, choice, &failure))
        return cli_fail(cli, &failure, NULL);
    const struct http_request request = {.method = "POST",
                                         .path = path.data,
                                         .read = body_read,
                                         .read_arg = &body,
                                         .content_type = "application/x-tar",
                                         .own_failure = &body.failure};
    int status = cli_call(cli, &request, &reply, &result);
    body_close(&body);
    if (status)
        return status;
    if (cli->json)
        output_json(reply.data);
    else
        output_summary("workspace-sync-push", json_member(result, "workspace_sync"), names);
    return 0;
}

static int sync_push(struct cli *cli, int argc, char **argv)
{
    const char *dest = NULL;
    bool gitignore = false;
    auto_text_list struct text_list excludes = {0};
    const struct option options[] = {
        {"dest", OPTION_TEXT, &dest, "PATH", "directory in the workspace (/workspace)"},
        {"exclude", OPTION_LIST, &excludes, "GLOB", "leave such names out"},
        {"gitignore", OPTION_FLAG, &gitignore, NULL, "leave out what .gitignore files say"},
        {0}};
    const struct usage usage = {.line = "workspace sync push WORKSPACE_ID SOURCE [OPTIONS]",
                                .summary = "Puts a directory or tar into a workspace, whole or not "
                                           "at all; what else is there stays.",
                                .options = options,
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    const struct tar_pack_choice choice = {
        .excludes = excludes.items, .exclude_count = excludes.count, .gitignore = gitignore};
    return push(cli, words.items[0], words.items[1], dest, &choice);
}

/* Export. */

struct unpacking {
    struct untar *untar;
    struct hearth_failure failure;
};

static int unpack(void *arg, const void *data, size_t length)
{
    struct unpacking *unpacking = arg;
    return untar_write(unpacking->untar, data, length, &unpacking->failure);
}

static void print_remark(const char *line, int length)
{
    fputs("hearth: ", stderr);
    output_words(stderr, line, (size_t)length);
    fputc('\n', stderr);
}

/* As the daemon tells it: absolute. */
static void add_workspace_path(cJSON *object, const char *path)
{
    auto_buf struct buf whole = {0};
    while (path[0] == '.' && (path[1] == '/' || !path[1]))
        path += path[1] ? 2 : 1;
    if (path[0] != '/' && buf_printf(&whole, "/workspace%s%s", *path ? "/" : "", path) == 0)
        path = whole.data;
    cJSON_AddStringToObject(object, "workspace_path", path);
}

/* The same of what was put here: it may be a link, and is not followed. Owned by the caller. */
static char *output_place(const char *output)
{
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/')
        length--;
    size_t name = length;
    while (name && output[name - 1] != '/')
        name--;
    auto_buf struct buf parent = {0}, place = {0};
    if (buf_printf(&parent, "%.*s", name ? (int)name : 1, name ? output : "."))
        return NULL;
    auto_free char *directory = cli_absolute(parent.data);
    if (!directory || buf_printf(&place, "%s%s%.*s", directory, strcmp(directory, "/") ? "/" : "",
                                 (int)(length - name), output + name))
        return NULL;
    return buf_steal(&place);
}

static int show_export(struct cli *cli, const char *id, const char *path, const char *output,
                       const struct untar_stats *stats)
{
    static const char *const names[] = {"workspace_path", "output_path",   "artifact_type",
                                        "entry_count",    "bytes_written", NULL};
    auto_json cJSON *object = cJSON_CreateObject();
    auto_free char *absolute = output_place(output);
    cJSON_AddStringToObject(object, "workspace_id", id);
    add_workspace_path(object, path);
    cli_add_text(object, "output_path", absolute);
    cJSON_AddStringToObject(object, "artifact_type", stats->artifact_type);
    cJSON_AddNumberToObject(object, "entry_count", (double)stats->entries);
    cJSON_AddNumberToObject(object, "bytes_written", (double)stats->bytes);
    if (!cli->json) {
        output_summary("workspace-export", object, names);
        return 0;
    }
    auto_buf struct buf status_path = {0};
    auto_json cJSON *status = NULL;
    if (!cli_path(&status_path, "/v1/workspaces/", id, NULL))
        return cli_out_of_memory(cli);
    int error = cli_call_json(cli, "GET", status_path.data, NULL, NULL, &status);
    if (error)
        return error;
    cJSON_AddStringToObject(object, "execution_mode", json_text(status, "execution_mode", ""));
    char *text = cJSON_PrintUnformatted(object);
    if (text)
        output_json(text);
    cJSON_free(text);
    return 0;
}

static int workspace_export(struct cli *cli, int argc, char **argv)
{
    const char *output = NULL;
    const struct option options[] = {
        {"output", OPTION_TEXT, &output, "PATH", "where to put it; nothing may be there yet"}, {0}};
    const struct usage usage = {.line = "workspace export WORKSPACE_ID PATH --output PATH",
                                .summary = "Copies a file or directory out of a workspace; "
                                           "symlinks stay symlinks.",
                                .options = options,
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    if (!output)
        return options_fail(&usage, "--output is missing");
    struct unpacking unpacking = {0};
    struct untar_stats stats;
    auto_buf struct buf path = {0};
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/export", NULL) ||
        !cli_query(&path, "path", words.items[1]))
        return cli_out_of_memory(cli);
    if (untar_open(&unpacking.untar, -1, output, print_remark, &unpacking.failure))
        return cli_fail(cli, &unpacking.failure, NULL);
    const struct http_request request = {.method = "GET",
                                         .path = path.data,
                                         .accept = "application/x-tar",
                                         .write = unpack,
                                         .write_arg = &unpacking,
                                         .own_failure = &unpacking.failure};
    status = cli_call(cli, &request, NULL, NULL);
    if (!status && untar_finish(unpacking.untar, &stats, &unpacking.failure))
        status = cli_fail(cli, &unpacking.failure, NULL);
    untar_close(unpacking.untar);
    return status ? status : show_export(cli, words.items[0], words.items[1], output, &stats);
}

const struct command sync_commands[] = {
    {"workspace sync", "push", "put a directory or tar into it", sync_push},
    {"workspace", "export", "copy files out of it", workspace_export},
    {0}};
