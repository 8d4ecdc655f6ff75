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

static const struct plain tenant_network = {
    .line = "tenant network NAME open|listed [--allow ENTRY]...",
    .summary = "Says what a tenant's guests may reach: the public internet and the entries, or "
               "the entries alone.",
    .method = "PUT",
    .path = "/v1/tenants/{name}/network",
    .words = {"name", "mode"},
    .options = {{"allow", OPTION_LIST, "allow", "ENTRY",
                 "a name (packages.example, *.mirror.example) or an IPv4 "
                 "network (10.1.0.0/16); may be given again",
                 .always = true}},
    .fields = true,
    .told = (const char *const[]){"name", "tenant_id", "network_mode", NULL},
};
PLAIN_COMMAND(tenant_network)

const struct command network_commands[] = {
    {"workspace", "network-log", "show what was denied", run_network_log},
    {"tenant", "network", "say what a tenant's guests may reach", run_tenant_network},
    {0},
};
