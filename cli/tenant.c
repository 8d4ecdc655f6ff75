/* hearth tenant create|update|list|token|tokens|revoke, hearth secret rotate: for administrators.
 */

#include "cli/command.h"
#include "cli/output.h"
#include "cli/plain.h"

#include <stdio.h>

static int show(const struct cli *cli, const char *verb, const struct buf *body,
                const cJSON *result)
{
    static const char *const names[] = {"name", "tenant_id", "token_id", "revoked", NULL};
    if (cli->json) {
        output_json(body->data);
        return 0;
    }
    output_fields(result);
    output_summary(verb, result, names);
    return 0;
}

static void add_roots(cJSON *arguments, const struct text_list *roots)
{
    cJSON *array = cJSON_AddArrayToObject(arguments, "host_roots");
    for (size_t i = 0; i < roots->count; i++)
        cJSON_AddItemToArray(array, cJSON_CreateString(roots->items[i]));
}

static int tenant_create(struct cli *cli, int argc, char **argv)
{
    long max_workspaces = -1, max_execs = -1, max_mem_mib = -1, max_kept_upload_bytes = -1,
         retention = -1;
    auto_text_list struct text_list roots = {0};
    const struct option options[] = {
        {"max-workspaces", OPTION_INTEGER, &max_workspaces, "N", "quota"},
        {"max-running-execs", OPTION_INTEGER, &max_execs, "N", "quota"},
        {"max-mem-mib", OPTION_INTEGER, &max_mem_mib, "MIB", "quota on the sum of memory"},
        {"max-kept-upload-bytes", OPTION_INTEGER, &max_kept_upload_bytes, "BYTES",
         "quota on the sum of uploads"},
        {"retention", OPTION_INTEGER, &retention, "SECONDS",
         "how long expired workspaces are kept before they are deleted"},
        {"host-root", OPTION_LIST, &roots, "DIRECTORY",
         "its requests may name paths of the daemon's host below it"},
        {0}};
    const struct usage usage = {.line = "tenant create NAME [OPTIONS]",
                                .summary = "Makes a tenant, without a token yet.",
                                .options = options,
                                .minimum = 1,
                                .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    cJSON *arguments = cJSON_CreateObject();
    cJSON_AddStringToObject(arguments, "name", words.items[0]);
    if (max_workspaces >= 0)
        cJSON_AddNumberToObject(arguments, "max_workspaces", (double)max_workspaces);
    if (max_execs >= 0)
        cJSON_AddNumberToObject(arguments, "max_running_execs", (double)max_execs);
    if (max_mem_mib >= 0)
        cJSON_AddNumberToObject(arguments, "max_mem_mib", (double)max_mem_mib);
    if (max_kept_upload_bytes >= 0)
        cJSON_AddNumberToObject(arguments, "max_kept_upload_bytes", (double)max_kept_upload_bytes);
    if (retention >= 0)
        cJSON_AddNumberToObject(arguments, "retention_seconds", (double)retention);
    if (roots.count)
        add_roots(arguments, &roots);
    auto_buf struct buf body = {0};
    auto_json cJSON *result = NULL;
    status = cli_call_json(cli, "POST", "/v1/tenants", arguments, &body, &result);
    return status ? status : show(cli, "tenant-create", &body, result);
}

static int tenant_update(struct cli *cli, int argc, char **argv)
{
    auto_text_list struct text_list roots = {0};
    const struct option options[] = {{"host-root", OPTION_LIST, &roots, "DIRECTORY",
                                      "its requests may name paths of the daemon's host below it"},
                                     {0}};
    const struct usage usage = {.line = "tenant update NAME [--host-root DIRECTORY]...",
                                .summary =
                                    "Replaces a tenant's host roots: none where none is given.",
                                .options = options,
                                .minimum = 1,
                                .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/tenants/", words.items[0], NULL))
        return cli_out_of_memory(cli);
    cJSON *arguments = cJSON_CreateObject();
    add_roots(arguments, &roots);
    status = cli_call_json(cli, "PATCH", path.data, arguments, &body, &result);
    return status ? status : show(cli, "tenant-update", &body, result);
}

static int list(struct cli *cli, const char *verb, const char *path, const char *member,
                const struct column *columns)
{
    auto_buf struct buf body = {0};
    auto_json cJSON *result = NULL;
    int status = cli_call_json(cli, "GET", path, NULL, &body, &result);
    if (status)
        return status;
    if (cli->json) {
        output_json(body.data);
        return 0;
    }
    output_table(json_member(result, member), columns);
    output_count(verb, json_member(result, member));
    return 0;
}

static int tenant_list(struct cli *cli, int argc, char **argv)
{
    static const struct column columns[] = {
        {"NAME", "name"},         {"ID", "tenant_id"},       {"WORKSPACES", "workspace_count"},
        {"OF", "max_workspaces"}, {"CREATED", "created_at"}, {NULL, NULL}};
    const struct usage usage = {.line = "tenant list", .summary = "Lists tenants."};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    return status != OPTIONS_PARSED ? status
                                    : list(cli, "tenant-list", "/v1/tenants", "tenants", columns);
}

static int tenant_tokens(struct cli *cli, int argc, char **argv)
{
    static const struct column columns[] = {{"ID", "token_id"},
                                            {"RIGHTS", "rights"},
                                            {"CREATED", "created_at"},
                                            {"EXPIRES", "expires_at"},
                                            {"REVOKED", "revoked_at"},
                                            {"NOTE", "note"},
                                            {NULL, NULL}};
    const struct usage usage = {.line = "tenant tokens NAME",
                                .summary = "Lists a tenant's tokens, never their secrets.",
                                .minimum = 1,
                                .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    auto_buf struct buf path = {0};
    if (!cli_path(&path, "/v1/tenants/", words.items[0], "/tokens", NULL))
        return cli_out_of_memory(cli);
    return list(cli, "tenant-tokens", path.data, "tokens", columns);
}

static int tenant_token(struct cli *cli, int argc, char **argv)
{
    const char *rights = NULL, *note = NULL;
    long expires = -1;
    const struct option options[] = {
        {"rights", OPTION_TEXT, &rights, "RIGHTS", "operate, read-only or admin (operate)"},
        {"expires-in", OPTION_INTEGER, &expires, "SECONDS", "its life (no end)"},
        {"note", OPTION_TEXT, &note, "TEXT", "what it is for"},
        {0}};
    const struct usage usage = {.line = "tenant token NAME [OPTIONS]",
                                .summary = "Makes a token for a tenant and prints it, this once.",
                                .options = options,
                                .minimum = 1,
                                .maximum = 1};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/tenants/", words.items[0], "/tokens", NULL))
        return cli_out_of_memory(cli);
    cJSON *arguments = cJSON_CreateObject();
    if (rights)
        cJSON_AddStringToObject(arguments, "rights", rights);
    if (expires >= 0)
        cJSON_AddNumberToObject(arguments, "expires_in_seconds", (double)expires);
    if (note)
        cJSON_AddStringToObject(arguments, "note", note);
    status = cli_call_json(cli, "POST", path.data, arguments, &body, &result);
    if (status)
        return status;
    if (cli->json) {
        output_json(body.data);
        return 0;
    }
    static const char *const names[] = {"token_id", "rights", "expires_at", NULL};
    puts(json_text(result, "token", ""));
    output_summary("tenant-token", result, names);
    return 0;
}

static int tenant_revoke(struct cli *cli, int argc, char **argv)
{
    const struct usage usage = {.line = "tenant revoke NAME TOKEN_ID",
                                .summary = "Ends a token, at once and for good.",
                                .minimum = 2,
                                .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;

    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!cli_path(&path, "/v1/tenants/", words.items[0], "/tokens/", words.items[1], NULL))
        return cli_out_of_memory(cli);
    status = cli_call_json(cli, "DELETE", path.data, NULL, &body, &result);
    return status ? status : show(cli, "tenant-revoke", &body, result);
}

static const struct plain secret_rotate = {
    .line = "secret rotate",
    .summary = "Seals all secrets with a new key and forgets the old one.",
    .path = "/v1/secrets/key/rotate",
};
PLAIN_COMMAND(secret_rotate)

const struct command tenant_commands[] = {
    {"tenant", "create", "make a tenant", tenant_create},
    {"tenant", "update", "change what of the host a tenant may name", tenant_update},
    {"tenant", "list", "list tenants", tenant_list},
    {"tenant", "token", "make a token for a tenant", tenant_token},
    {"tenant", "tokens", "list a tenant's tokens", tenant_tokens},
    {"tenant", "revoke", "end a token", tenant_revoke},
    {"secret", "rotate", "change the key that secrets are sealed with", run_secret_rotate},
    {0}};
