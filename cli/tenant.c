/* hearth tenant create|update|list|token|tokens|revoke, hearth secret rotate: for administrators.
 */

#include "cli/plain.h"

static const char *const names[] = {"name", "tenant_id", "token_id", "revoked", NULL};

static const struct plain tenant_create = {
    .line = "tenant create NAME [OPTIONS]",
    .summary = "Makes a tenant, without a token yet.",
    .path = "/v1/tenants",
    .words = {"name"},
    .options = {{"max-workspaces", OPTION_INTEGER, "max_workspaces", "N", "quota"},
                {"max-running-execs", OPTION_INTEGER, "max_running_execs", "N", "quota"},
                {"max-mem-mib", OPTION_INTEGER, "max_mem_mib", "MIB", "quota on the sum of memory"},
                {"max-kept-upload-bytes", OPTION_INTEGER, "max_kept_upload_bytes", "BYTES",
                 "quota on the sum of uploads"},
                {"retention", OPTION_INTEGER, "retention_seconds", "SECONDS",
                 "how long expired workspaces are kept before they are deleted"},
                {"host-root", OPTION_LIST, "host_roots", "DIRECTORY",
                 "its requests may name paths of the daemon's host below it"}},
    .fields = true,
    .told = names,
};
PLAIN_COMMAND(tenant_create)

static const struct plain tenant_update = {
    .line = "tenant update NAME [--host-root DIRECTORY]...",
    .summary = "Replaces a tenant's host roots: none where none is given.",
    .method = "PATCH",
    .path = "/v1/tenants/{name}",
    .words = {"name"},
    .options = {{"host-root", OPTION_LIST, "host_roots", "DIRECTORY",
                 "its requests may name paths of the daemon's host below it", .always = true}},
    .fields = true,
    .told = names,
};
PLAIN_COMMAND(tenant_update)

static const struct plain tenant_list = {
    .line = "tenant list",
    .summary = "Lists tenants.",
    .method = "GET",
    .path = "/v1/tenants",
    .list = "tenants",
    .columns = (const struct column[]){{"NAME", "name"},
                                       {"ID", "tenant_id"},
                                       {"WORKSPACES", "workspace_count"},
                                       {"OF", "max_workspaces"},
                                       {"CREATED", "created_at"},
                                       {NULL, NULL}},
};
PLAIN_COMMAND(tenant_list)

static const struct plain tenant_tokens = {
    .line = "tenant tokens NAME",
    .summary = "Lists a tenant's tokens, never their secrets.",
    .method = "GET",
    .path = "/v1/tenants/{name}/tokens",
    .words = {"name"},
    .list = "tokens",
    .columns = (const struct column[]){{"ID", "token_id"},
                                       {"RIGHTS", "rights"},
                                       {"CREATED", "created_at"},
                                       {"EXPIRES", "expires_at"},
                                       {"REVOKED", "revoked_at"},
                                       {"NOTE", "note"},
                                       {NULL, NULL}},
};
PLAIN_COMMAND(tenant_tokens)

static const struct plain tenant_token = {
    .line = "tenant token NAME [OPTIONS]",
    .summary = "Makes a token for a tenant and prints it, this once.",
    .path = "/v1/tenants/{name}/tokens",
    .words = {"name"},
    .options = {{"rights", OPTION_TEXT, "rights", "RIGHTS",
                 "operate, read-only or admin (operate)"},
                {"expires-in", OPTION_INTEGER, "expires_in_seconds", "SECONDS",
                 "its life (no end)"},
                {"note", OPTION_TEXT, "note", "TEXT", "what it is for"}},
    .text = "token",
    .line_of_text = true,
    .told = (const char *const[]){"token_id", "rights", "expires_at", NULL},
};
PLAIN_COMMAND(tenant_token)

static const struct plain tenant_revoke = {
    .line = "tenant revoke NAME TOKEN_ID",
    .summary = "Ends a token, at once and for good.",
    .method = "DELETE",
    .path = "/v1/tenants/{name}/tokens/{token_id}",
    .words = {"name", "token_id"},
    .fields = true,
    .told = names,
};
PLAIN_COMMAND(tenant_revoke)

static const struct plain secret_rotate = {
    .line = "secret rotate",
    .summary = "Seals all secrets with a new key and forgets the old one.",
    .path = "/v1/secrets/key/rotate",
};
PLAIN_COMMAND(secret_rotate)

const struct command tenant_commands[] = {
    {"tenant", "create", "make a tenant", run_tenant_create},
    {"tenant", "update", "change what of the host a tenant may name", run_tenant_update},
    {"tenant", "list", "list tenants", run_tenant_list},
    {"tenant", "token", "make a token for a tenant", run_tenant_token},
    {"tenant", "tokens", "list a tenant's tokens", run_tenant_tokens},
    {"tenant", "revoke", "end a token", run_tenant_revoke},
    {"secret", "rotate", "change the key that secrets are sealed with", run_secret_rotate},
    {0}};
