/* hearth workspace create|list|status|update|stop|suspend|start|delete */

#include "cli/plain.h"
#include "cli/secret.h"
#include "cli/upload.h"

#include <stdio.h>
#include <string.h>

static const char *const summary_names[] = {
    "workspace_id", "name", "environment", "state", "execution_mode", "command_count", NULL};

struct create_options {
    const char *name, *network_policy, *isolation, *transport, *seed_path;
    long vcpu_count, mem_mib, disk_mib, ttl_seconds;
    bool id_only, gitignore, allow_host_compat;
    struct text_list labels, excludes, secrets, secret_files;
};

static int create(struct cli *cli, const struct create_options *options, const char *environment,
                  const struct usage *usage)
{
    auto_json cJSON *arguments = cJSON_CreateObject();
    if (!cli_add_pairs(arguments, "labels", &options->labels, usage))
        return 2;
    int status = cli_add_secrets(cli, arguments, &options->secrets, &options->secret_files, usage);
    if (status)
        return status;
    char upload_id[64];
    if (options->seed_path) {
        const struct tar_pack_choice choice = {.excludes = options->excludes.items,
                                               .exclude_count = options->excludes.count,
                                               .gitignore = options->gitignore};
        status = upload_seed(cli, options->seed_path, &choice, upload_id, sizeof upload_id);
        if (status)
            return status;
        cli_add_text(arguments, "seed_upload", upload_id);
        auto_free char *absolute = cli_absolute(options->seed_path);
        cli_add_text(arguments, "seed_path", absolute);
    }
    cli_add_text(arguments, "environment", environment);
    cli_add_text(arguments, "name", options->name);
    cli_add_text(arguments, "network_policy", options->network_policy);
    cli_add_text(arguments, "isolation", options->isolation);
    cli_add_text(arguments, "transport", options->transport);
    if (options->allow_host_compat)
        cJSON_AddTrueToObject(arguments, "allow_host_compat");
    cli_add_number(arguments, "vcpu_count", options->vcpu_count);
    cli_add_number(arguments, "mem_mib", options->mem_mib);
    cli_add_number(arguments, "disk_mib", options->disk_mib);
    cli_add_number(arguments, "ttl_seconds", options->ttl_seconds);

    auto_buf struct buf body = {0};
    auto_json cJSON *result = NULL;
    status = cli_call_json(cli, "POST", "/v1/workspaces", steal_pointer(arguments), &body, &result);
    if (status)
        return status;
    if (options->id_only) {
        puts(json_text(result, "workspace_id", ""));
    } else if (cli->json) {
        output_json(body.data);
    } else {
        output_fields(result);
        output_summary("workspace-create", result, summary_names);
    }
    return 0;
}

static int workspace_create(struct cli *cli, int argc, char **argv)
{
    struct create_options parsed = {
        .vcpu_count = -1, .mem_mib = -1, .disk_mib = -1, .ttl_seconds = -1};
    const struct option options[] = {
        {"name", OPTION_TEXT, &parsed.name, "NAME", "a name to find it by"},
        {"label", OPTION_LIST, &parsed.labels, "KEY=VALUE", "a label; may be given again"},
        {"seed-path", OPTION_TEXT, &parsed.seed_path, "PATH",
         "start with a copy of this directory or tar"},
        {"exclude", OPTION_LIST, &parsed.excludes, "GLOB", "leave such names out of the copy"},
        {"gitignore", OPTION_FLAG, &parsed.gitignore, NULL, "leave out what .gitignore files say"},
        {"vcpu-count", OPTION_INTEGER, &parsed.vcpu_count, "N", "processors (1)"},
        {"mem-mib", OPTION_INTEGER, &parsed.mem_mib, "MIB", "memory (1024)"},
        {"disk-mib", OPTION_INTEGER, &parsed.disk_mib, "MIB", "disk (4096)"},
        {"ttl-seconds", OPTION_INTEGER, &parsed.ttl_seconds, "S", "idle life (86400)"},
        {"network-policy", OPTION_TEXT, &parsed.network_policy, "POLICY", "off, egress, ... (off)"},
        {"secret", OPTION_LIST, &parsed.secrets, "NAME=VALUE", "a secret; may be given again"},
        {"secret-file", OPTION_LIST, &parsed.secret_files, "NAME=PATH",
         "a secret that is in this file; may be given again"},
        {"isolation", OPTION_TEXT, &parsed.isolation, "KIND", "demand 'vm' or 'container'"},
        {"transport", OPTION_TEXT, &parsed.transport, "NAME",
         "demand 'serial', 'vsock', 'vhost-vsock' or 'vhost-user-vsock' (microVMs)"},
        {"allow-host-compat", OPTION_FLAG, &parsed.allow_host_compat, NULL, "a container is fine"},
        {"id-only", OPTION_FLAG, &parsed.id_only, NULL, "print the workspace's ID and no more"},
        {0}};
    const struct usage usage = {.line = "workspace create ENVIRONMENT [OPTIONS]",
                                .summary = "Makes a workspace and waits until it is ready.",
                                .options = options,
                                .minimum = 1,
                                .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status == OPTIONS_PARSED)
        status = create(cli, &parsed, words.items[0], &usage);
    text_list_free(&parsed.labels);
    text_list_free(&parsed.excludes);
    text_list_free(&parsed.secrets);
    text_list_free(&parsed.secret_files);
    return status;
}

struct list_options {
    const char *name, *state, *cursor;
    long limit;
    struct text_list labels;
};

static bool list_path(struct buf *path, const struct list_options *options, const char *cursor)
{
    bool ok = !buf_text(path, "/v1/workspaces") &&
              cli_query_number(path, "limit", options->limit) &&
              cli_query(path, "name", options->name) && cli_query(path, "state", options->state) &&
              cli_query(path, "cursor", cursor);
    for (size_t i = 0; ok && i < options->labels.count; i++)
        ok = cli_query(path, "label", options->labels.items[i]);
    return ok;
}

static int list_page(struct cli *cli, const struct list_options *options, const char *cursor,
                     struct buf *ret_body, cJSON **ret_result)
{
    auto_buf struct buf path = {0};
    if (!list_path(&path, options, cursor))
        return cli_out_of_memory(cli);
    return cli_call_json(cli, "GET", path.data, NULL, ret_body, ret_result);
}

/* All pages as one table. */
static int list_all(struct cli *cli, const struct list_options *options)
{
    static const struct column columns[] = {{"ID", "workspace_id"},
                                            {"NAME", "name"},
                                            {"STATE", "state"},
                                            {"ENVIRONMENT", "environment"},
                                            {"COMMANDS", "command_count"},
                                            {"LAST ACTIVITY", "last_activity_at"},
                                            {NULL, NULL}};
    auto_json cJSON *rows = cJSON_CreateArray();
    auto_free char *cursor = options->cursor ? strdup(options->cursor) : NULL;
    do {
        auto_json cJSON *page = NULL;
        int status = list_page(cli, options, cursor, NULL, &page);
        if (status)
            return status;
        cJSON *row;
        cJSON *found = cJSON_GetObjectItemCaseSensitive(page, "workspaces");
        while ((row = cJSON_DetachItemFromArray(found, 0)))
            cJSON_AddItemToArray(rows, row);
        const char *next = json_text(page, "next_cursor", NULL);
        free(cursor);
        cursor = next ? strdup(next) : NULL;
    } while (cursor);

    output_table(rows, columns);
    int count = cJSON_GetArraySize(rows);
    fprintf(stderr, "[workspace-list] %d workspace%s\n", count, count == 1 ? "" : "s");
    return 0;
}

static int workspace_list(struct cli *cli, int argc, char **argv)
{
    struct list_options parsed = {.limit = 1000};
    const struct option options[] = {
        {"name", OPTION_TEXT, &parsed.name, "NAME", "those with this name"},
        {"label", OPTION_LIST, &parsed.labels, "KEY[=VALUE]", "those with all of these labels"},
        {"state", OPTION_TEXT, &parsed.state, "STATE", "those in this state"},
        {"limit", OPTION_INTEGER, &parsed.limit, "N", "at most so many a page (1000)"},
        {"cursor", OPTION_TEXT, &parsed.cursor, "CURSOR", "go on from a page's next_cursor"},
        {0}};
    const struct usage usage = {.line = "workspace list [OPTIONS]",
                                .summary = "Lists workspaces, the latest active first; with --json "
                                           "one page.",
                                .options = options};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status == OPTIONS_PARSED && cli->json) {
        auto_buf struct buf body = {0};
        status = list_page(cli, &parsed, parsed.cursor, &body, NULL);
        if (status == 0)
            output_json(body.data);
    } else if (status == OPTIONS_PARSED) {
        status = list_all(cli, &parsed);
    }
    text_list_free(&parsed.labels);
    return status;
}

static const struct plain workspace_status = {
    .line = "workspace status WORKSPACE_ID",
    .summary = "Shows all that is known of a workspace.",
    .method = "GET",
    .path = "/v1/workspaces/{workspace_id}",
    .words = {"workspace_id"},
    .fields = true,
    .told = summary_names,
};
PLAIN_COMMAND(workspace_status)

static const struct plain workspace_update = {
    .line = "workspace update WORKSPACE_ID [OPTIONS]",
    .summary = "Changes a workspace's name and labels.",
    .method = "PATCH",
    .path = "/v1/workspaces/{workspace_id}",
    .words = {"workspace_id"},
    .options = {{"name", OPTION_TEXT, "name", "NAME", "a new name"},
                {"clear-name", OPTION_FLAG, "clear_name", NULL, "take the name away"},
                {"label", OPTION_LIST, "labels", "KEY=VALUE", "set a label; the others stay",
                 .add = cli_add_pairs},
                {"clear-label", OPTION_LIST, "clear_labels", "KEY", "take a label away"}},
    .fields = true,
    .told = summary_names,
};
PLAIN_COMMAND(workspace_update)

static const struct plain workspace_stop = {
    .line = "workspace stop WORKSPACE_ID",
    .summary = "Ends what runs in a workspace; its files stay.",
    .path = "/v1/workspaces/{workspace_id}/stop",
    .words = {"workspace_id"},
    .fields = true,
    .told = summary_names,
};
PLAIN_COMMAND(workspace_stop)

static const struct plain workspace_suspend = {
    .line = "workspace suspend WORKSPACE_ID",
    .summary = "Saves a machine to the disk with all that runs in it; its next use resumes it.",
    .path = "/v1/workspaces/{workspace_id}/suspend",
    .words = {"workspace_id"},
    .fields = true,
    .told = summary_names,
};
PLAIN_COMMAND(workspace_suspend)

static const struct plain workspace_start = {
    .line = "workspace start WORKSPACE_ID",
    .summary = "Starts a stopped workspace.",
    .path = "/v1/workspaces/{workspace_id}/start",
    .words = {"workspace_id"},
    .fields = true,
    .told = summary_names,
};
PLAIN_COMMAND(workspace_start)

static const struct plain workspace_delete = {
    .line = "workspace delete WORKSPACE_ID",
    .summary = "Deletes a workspace and all that is in it.",
    .method = "DELETE",
    .path = "/v1/workspaces/{workspace_id}",
    .words = {"workspace_id"},
    .told = (const char *const[]){"workspace_id", "deleted", "reason", NULL},
};
PLAIN_COMMAND(workspace_delete)

const struct command workspace_commands[] = {
    {"workspace", "create", "make a workspace, seeded with a directory or empty", workspace_create},
    {"workspace", "list", "list workspaces", workspace_list},
    {"workspace", "status", "show one workspace", run_workspace_status},
    {"workspace", "update", "change its name and labels", run_workspace_update},
    {"workspace", "stop", "end what runs in it; its files stay", run_workspace_stop},
    {"workspace", "suspend", "save a machine to the disk with all that runs in it",
     run_workspace_suspend},
    {"workspace", "start", "start it again", run_workspace_start},
    {"workspace", "delete", "delete it and all that is in it", run_workspace_delete},
    {0}};
