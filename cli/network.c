/* hearth workspace network-log; hearth tenant network. */

#include "cli/plain.h"

static const struct plain network_log = {
    .line = "workspace network-log WORKSPACE_ID [OPTIONS]",
    .summary = "Shows what the workspace tried to reach and was denied.",
    .tool = "workspace_network_log",
    .words = {"workspace_id"},
    .options = {{"limit", OPTION_INTEGER, "limit", "N", "at most so many (100)"},
                {"cursor", OPTION_TEXT, "cursor", "CURSOR", "go on from a page's next_cursor"}},
    .list = "entries",
    .columns = (const struct column[]){{"DECISION", "decision"},
                                       {"PROTOCOL", "protocol"},
                                       {"DESTINATION", "destination"},
                                       {"PORT", "port"},
                                       {"NAME", "name"},
                                       {"COUNT", "count"},
                                       {"LAST", "last_at"},
                                       {NULL, NULL}},
    .told = (const char *const[]){"count", "denied_count", NULL},
};
PLAIN_COMMAND(network_log)

static int tenant_network(struct cli *cli, int argc, char **argv)
{
    static const char *const names[] = {"name", "tenant_id", "network_mode", NULL};
    auto_text_list struct text_list entries = {0};
    const struct option options[] = {{"allow", OPTION_LIST, &entries, "ENTRY",
                                      "a name (packages.example, *.mirror.example) or an IPv4 "
                                      "network (10.1.0.0/16); may be given again"},
                                     {0}};
    const struct usage usage = {
        .line = "tenant network NAME open|listed [--allow ENTRY]...",
        .summary = "Says what a tenant's guests may reach: the public internet and the entries, or "
                   "the entries alone.",
        .options = options,
        .minimum = 2,
        .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/tenants/", words.items[0], "/network", NULL))
        return cli_out_of_memory(cli);
    cJSON *arguments = cJSON_CreateObject();
    cJSON_AddStringToObject(arguments, "mode", words.items[1]);
    cJSON *allow = cJSON_AddArrayToObject(arguments, "allow");
    for (size_t i = 0; i < entries.count; i++)
        cJSON_AddItemToArray(allow, cJSON_CreateString(entries.items[i]));
    status = cli_call_json(cli, "PUT", path.data, arguments, &body, &result);
    if (status)
        return status;
    if (cli->json) {
        output_json(body.data);
        return 0;
    }
    output_fields(result);
    output_summary("tenant-network", result, names);
    return 0;
}

const struct command network_commands[] = {
    {"workspace", "network-log", "show what was denied", run_network_log},
    {"tenant", "network", "say what a tenant's guests may reach", tenant_network},
    {0},
};
