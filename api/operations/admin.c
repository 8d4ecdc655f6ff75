/* Tenants and their tokens. */
#include "api/operations/families.h"
#include "api/operations/views.h"
#include "base/cleanup.h"
#include "supervisord/guest_network.h"
#include "supervisord/host_path.h"

#include <string.h>

struct tenant_input {
    const char *name, *note, *token_id, *rights;
    int64_t max_workspaces, max_running_execs, max_mem_mib, max_kept_upload_bytes,
        retention_seconds;
    struct optional_integer expires_in_seconds;
    struct string_list host_roots;
    const char *mode;
    struct string_list allow;
};

static const struct field tenant_fields[] = {
    {.name = "tenant_id", .type = FIELD_STRING, .description = "ID of the tenant."},
    {.name = "name", .type = FIELD_STRING, .description = "Its name."},
    {.name = "created_at", .type = FIELD_NUMBER, .description = "When it was made."},
    {.name = "max_workspaces", .type = FIELD_INTEGER, .description = "Quota."},
    {.name = "max_running_execs", .type = FIELD_INTEGER, .description = "Quota."},
    {.name = "max_mem_mib", .type = FIELD_INTEGER, .description = "Quota."},
    {.name = "max_kept_upload_bytes", .type = FIELD_INTEGER, .description = "Quota."},
    {.name = "retention_seconds",
     .type = FIELD_INTEGER,
     .description = "Time from a workspace's expiry, which stops it, to its deletion."},
    {.name = "host_roots",
     .type = FIELD_STRING_LIST,
     .description = "Directories of the daemon's host that its requests may name paths below."},
    {.name = "network_mode",
     .type = FIELD_STRING,
     .description = "What guests with outbound network reach: open is the public internet and the "
                    "list, listed the list alone."},
    {.name = "network_allow",
     .type = FIELD_STRING_LIST,
     .description = "The list: names and IPv4 networks."},
    {.name = "workspace_count", .type = FIELD_INTEGER, .description = "In use."},
    {.name = "running_execs", .type = FIELD_INTEGER, .description = "In use."},
    {.name = "mem_mib", .type = FIELD_INTEGER, .description = "In use."},
    {.name = "upload_bytes", .type = FIELD_INTEGER, .description = "In use."},
    {0},
};

/* One value a line. */
static void write_lines(struct json_writer *json, const char *key, const char *text)
{
    json_array_begin(json, key);
    while (*text) {
        size_t length = strcspn(text, "\n");
        json_bytes(json, NULL, text, length);
        text += length + (text[length] == '\n');
    }
    json_array_end(json);
}

/* The mode, then the list. */
static void write_network(struct json_writer *json, const char *text)
{
    size_t length = strcspn(text, "\n");
    json_bytes(json, "network_mode", text, length);
    write_lines(json, "network_allow", text + length + (text[length] == '\n'));
}

static void write_tenant(struct json_writer *json, const struct tenant *tenant)
{
    json_object_begin(json, NULL);
    json_string(json, "tenant_id", tenant->tenant_id);
    json_string(json, "name", tenant->name);
    json_time(json, "created_at", tenant->created_at);
    json_unsigned(json, "max_workspaces", tenant->max_workspaces);
    json_unsigned(json, "max_running_execs", tenant->max_running_execs);
    json_unsigned(json, "max_mem_mib", tenant->max_mem_mib);
    json_unsigned(json, "max_kept_upload_bytes", tenant->max_kept_upload_bytes);
    json_integer(json, "retention_seconds", tenant->retention_us / US_PER_S);
    write_lines(json, "host_roots", tenant->host_roots);
    write_network(json, tenant->network);
    json_unsigned(json, "workspace_count", tenant->workspace_count);
    json_unsigned(json, "running_execs", tenant->running_execs);
    json_unsigned(json, "mem_mib", tenant->mem_mib);
    json_unsigned(json, "upload_bytes", tenant->upload_bytes);
    json_object_end(json);
}

static struct tenant_asker asker(const struct call *call)
{
    return (struct tenant_asker){call_principal(call), call_request_id(call)};
}

#define TENANT_PATTERN "^[a-z0-9][a-z0-9-]{0,62}$"
#define HOST_ROOTS_FIELD(required)                                                                 \
    {                                                                                              \
        .name = "host_roots", .type = FIELD_STRING_LIST, .flags = (required),                      \
        .maximum = HOST_ROOTS_MAX,                                                                 \
        .description = "Directories of the daemon's host below which seed_path and source_path "   \
                       "of its requests may lead; absolute. None: no such path is read.",          \
        .offset = offsetof(struct tenant_input, host_roots)                                        \
    }

/* create, list */

static const struct field create_input[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = 63,
     .pattern = TENANT_PATTERN,
     .description = "Name: a-z, 0-9 and -.",
     .offset = offsetof(struct tenant_input, name)},
    {.name = "max_workspaces",
     .type = FIELD_INTEGER,
     .minimum = 0,
     .maximum = 1000000,
     .default_json = "0",
     .description = "Quota of workspaces; 0 is the daemon's default.",
     .offset = offsetof(struct tenant_input, max_workspaces)},
    {.name = "max_running_execs",
     .type = FIELD_INTEGER,
     .minimum = 0,
     .maximum = 1000000,
     .default_json = "0",
     .description = "Quota of commands that run at one time; 0 is the default.",
     .offset = offsetof(struct tenant_input, max_running_execs)},
    {.name = "max_mem_mib",
     .type = FIELD_INTEGER,
     .minimum = 0,
     .maximum = INT64_C(1) << 40,
     .default_json = "0",
     .description = "Quota of memory in MiB; 0 is the default.",
     .offset = offsetof(struct tenant_input, max_mem_mib)},
    {.name = "max_kept_upload_bytes",
     .type = FIELD_INTEGER,
     .minimum = 0,
     .maximum = INT64_C(1) << 50,
     .default_json = "0",
     .description = "Quota of bytes of uploads that are kept at one time; 0 is the default.",
     .offset = offsetof(struct tenant_input, max_kept_upload_bytes)},
    {.name = "retention_seconds",
     .type = FIELD_INTEGER,
     .minimum = 0,
     .maximum = INT64_C(3153600000),
     .default_json = "0",
     .description =
         "Time that an expired workspace is kept before it is deleted; 0 is the default.",
     .offset = offsetof(struct tenant_input, retention_seconds)},
    HOST_ROOTS_FIELD(0),
    {0},
};

static void created(void *arg, int error, const struct hearth_failure *failure,
                    struct tenant *tenant, const char *token, const char *token_id)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    (void)token;
    (void)token_id;
    if (error) {
        call_fail(call, failure);
        return;
    }
    write_tenant(&json, tenant);
    reply_with(call, &body, &json);
}

/* Gives them to the caller. */
static char *roots_or_fail(struct call *call, const struct tenant_input *input)
{
    struct hearth_failure failure;
    char *roots;
    if (host_roots_join(input->host_roots.items, input->host_roots.count, &roots, &failure) == 0)
        return roots;
    call_fail(call, &failure);
    return NULL;
}

static void create(struct call *call, const void *arg)
{
    const struct tenant_input *input = arg;
    auto_free char *roots = roots_or_fail(call, input);
    if (!roots)
        return;
    struct tenant_spec spec = {
        .name = input->name,
        .max_workspaces = (uint32_t)input->max_workspaces,
        .max_running_execs = (uint32_t)input->max_running_execs,
        .max_mem_mib = (uint64_t)input->max_mem_mib,
        .max_kept_upload_bytes = (uint64_t)input->max_kept_upload_bytes,
        .retention_us = input->retention_seconds * US_PER_S,
        .host_roots = roots,
    };
    struct tenant_asker who = asker(call);
    tenant_create(call_supervisor(call), &who, &spec, created, call);
}

static void tell_created(struct call *call, const void *input, const char *tenant_id)
{
    (void)input;
    created(call, 0, NULL, tenant_find(call_supervisor(call), tenant_id), NULL, NULL);
}

static const struct field no_input[] = {{0}};
static const struct field list_output[] = {
    {.name = "count", .type = FIELD_INTEGER, .description = "How many there are."},
    {.name = "tenants",
     .type = FIELD_OBJECT_LIST,
     .description = "Oldest first.",
     .fields = tenant_fields},
    {0},
};

struct list_writer {
    struct json_writer json;
    unsigned count;
};

static int visit_tenant(void *arg, struct tenant *tenant)
{
    struct list_writer *writer = arg;
    write_tenant(&writer->json, tenant);
    writer->count++;
    return 0;
}

static void list(struct call *call, const void *arg)
{
    struct buf body = {0};
    struct list_writer writer = {.json = JSON_WRITER(&body)};
    (void)arg;
    json_object_begin(&writer.json, NULL);
    json_array_begin(&writer.json, "tenants");
    tenant_each(call_supervisor(call), visit_tenant, &writer);
    json_array_end(&writer.json);
    json_unsigned(&writer.json, "count", writer.count);
    json_object_end(&writer.json);
    reply_with(call, &body, &writer.json);
}

/* tokens */

#define TENANT_NAME_FIELD                                                                          \
    {                                                                                              \
        .name = "name", .type = FIELD_STRING, .place = PLACE_PATH, .flags = FIELD_REQUIRED,        \
        .maximum = 63, .pattern = TENANT_PATTERN, .description = "Name of the tenant.",            \
        .offset = offsetof(struct tenant_input, name)                                              \
    }

static struct tenant *tenant_or_fail(struct call *call, const char *name)
{
    struct tenant *tenant = tenant_find(call_supervisor(call), name);
    if (!tenant) {
        struct hearth_failure failure;
        hearth_fail(&failure, HEARTH_ENOTFOUND, "tenant_not_found", "there is no such tenant");
        hearth_failure_field(&failure, "/name");
        call_fail(call, &failure);
    }
    return tenant;
}

/* update */

static const struct field update_input[] = {
    TENANT_NAME_FIELD, HOST_ROOTS_FIELD(FIELD_REQUIRED), {0}};

static void update(struct call *call, const void *arg)
{
    const struct tenant_input *input = arg;
    struct tenant *tenant = tenant_or_fail(call, input->name);
    char *roots = tenant ? roots_or_fail(call, input) : NULL;
    struct tenant_asker who = asker(call);
    if (roots)
        tenant_set_host_roots(tenant, &who, roots, created, call);
}

/* network */

static const char *const network_modes[] = {"open", "listed", NULL};

static const struct field network_input[] = {
    TENANT_NAME_FIELD,
    {.name = "mode",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .choices = network_modes,
     .description = "open: the public internet, and the list. listed: the list alone.",
     .offset = offsetof(struct tenant_input, mode)},
    {.name = "allow",
     .type = FIELD_STRING_LIST,
     .maximum = TENANT_ENTRIES_MAX,
     .description = "Names (packages.example, *.mirror.example, *) and IPv4 networks (192.0.2.7, "
                    "10.1.0.0/16), "
                    "private ones too. It takes the place of the former list.",
     .offset = offsetof(struct tenant_input, allow)},
    {0},
};

static void set_network(struct call *call, const void *arg)
{
    const struct tenant_input *input = arg;
    struct tenant *tenant = tenant_or_fail(call, input->name);
    struct tenant_asker who = asker(call);
    struct hearth_failure failure;
    char *text;
    if (!tenant)
        return;
    if (guest_network_text(&text, strcmp(input->mode, "listed") == 0, input->allow.items,
                           input->allow.count, &failure))
        call_fail(call, &failure);
    else
        tenant_set_network(tenant, &who, text, created, call);
}

static const char *const rights_names[] = {"read-only", "operate", "admin", NULL};

static const struct field issue_input[] = {
    TENANT_NAME_FIELD,
    {.name = "rights",
     .type = FIELD_STRING,
     .choices = rights_names,
     .default_json = "\"operate\"",
     .description = "What it may do; each includes the one before it.",
     .offset = offsetof(struct tenant_input, rights)},
    {.name = "expires_in_seconds",
     .type = FIELD_INTEGER,
     .flags = FIELD_OPTIONAL_VALUE,
     .minimum = 1,
     .maximum = INT64_C(315360000),
     .description = "When it ends; else never.",
     .offset = offsetof(struct tenant_input, expires_in_seconds)},
    {.name = "note",
     .type = FIELD_STRING,
     .maximum = 200,
     .description = "What it is for.",
     .offset = offsetof(struct tenant_input, note)},
    {0},
};

static const struct field issue_output[] = {
    {.name = "tenant_id", .type = FIELD_STRING, .description = "ID of the tenant."},
    {.name = "token_id",
     .type = FIELD_STRING,
     .description = "Public part, for listing and revoking."},
    {.name = "token",
     .type = FIELD_STRING,
     .description = "The token itself; it is not shown again."},
    {0},
};

static void issued(void *arg, int error, const struct hearth_failure *failure,
                   struct tenant *tenant, const char *token, const char *token_id)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "tenant_id", tenant->tenant_id);
    json_string(&json, "token_id", token_id);
    json_string(&json, "token", token);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void issue(struct call *call, const void *arg)
{
    const struct tenant_input *input = arg;
    struct tenant *tenant = tenant_or_fail(call, input->name);
    if (!tenant) /* and the input has gone with the call */
        return;
    unsigned rights = RIGHT_READ;
    if (strcmp(input->rights, rights_names[0]) != 0)
        rights |= RIGHT_OPERATE;
    if (strcmp(input->rights, rights_names[2]) == 0)
        rights |= RIGHT_ADMIN;
    int64_t expires_at = input->expires_in_seconds.set
                             ? clock_wall_us() + input->expires_in_seconds.value * US_PER_S
                             : 0;
    struct tenant_asker who = asker(call);
    tenant_issue_token(tenant, &who, rights, expires_at, input->note, issued, call);
}

static const struct field tokens_input[] = {TENANT_NAME_FIELD, {0}};
static const struct field token_fields[] = {
    {.name = "token_id", .type = FIELD_STRING, .description = "Public part."},
    {.name = "rights", .type = FIELD_STRING, .description = "read-only, operate or admin."},
    {.name = "note", .type = FIELD_STRING, .description = "What it is for."},
    {.name = "created_at", .type = FIELD_NUMBER, .description = "When it was made."},
    {.name = "expires_at",
     .type = FIELD_NUMBER,
     .flags = FIELD_NULLABLE,
     .description = "When it ends."},
    {.name = "revoked_at",
     .type = FIELD_NUMBER,
     .flags = FIELD_NULLABLE,
     .description = "When it was revoked."},
    {0},
};
static const struct field tokens_output[] = {
    {.name = "count", .type = FIELD_INTEGER, .description = "How many there are."},
    {.name = "tokens",
     .type = FIELD_OBJECT_LIST,
     .description = "In no order.",
     .fields = token_fields},
    {0},
};

static int visit_token(void *arg, const struct token_info *token)
{
    struct list_writer *writer = arg;
    struct json_writer *json = &writer->json;
    writer->count++;
    json_object_begin(json, NULL);
    json_string(json, "token_id", token->token_id);
    json_string(json, "rights",
                rights_names[token->rights & RIGHT_ADMIN     ? 2
                             : token->rights & RIGHT_OPERATE ? 1
                                                             : 0]);
    json_string(json, "note", token->note);
    json_time(json, "created_at", token->created_at);
    json_time(json, "expires_at", token->expires_at);
    json_time(json, "revoked_at", token->revoked_at);
    json_object_end(json);
    return 0;
}

static void tokens(struct call *call, const void *arg)
{
    const struct tenant_input *input = arg;
    struct tenant *tenant = tenant_or_fail(call, input->name);
    struct buf body = {0};
    struct list_writer writer = {.json = JSON_WRITER(&body)};
    if (!tenant)
        return;
    json_object_begin(&writer.json, NULL);
    json_array_begin(&writer.json, "tokens");
    tenant_each_token(call_supervisor(call), tenant, visit_token, &writer);
    json_array_end(&writer.json);
    json_unsigned(&writer.json, "count", writer.count);
    json_object_end(&writer.json);
    reply_with(call, &body, &writer.json);
}

static const struct field revoke_input[] = {
    TENANT_NAME_FIELD,
    {.name = "token_id",
     .type = FIELD_STRING,
     .place = PLACE_PATH,
     .flags = FIELD_REQUIRED,
     .maximum = 32,
     .pattern = "^[a-z2-7]+$",
     .description = "Public part of the token.",
     .offset = offsetof(struct tenant_input, token_id)},
    {0},
};
static const struct field revoke_output[] = {
    {.name = "token_id", .type = FIELD_STRING, .description = "Public part of the token."},
    {.name = "revoked", .type = FIELD_BOOLEAN, .description = "It works no more."},
    {0},
};

static void revoked(void *arg, int error, const struct hearth_failure *failure,
                    struct tenant *tenant, const char *token, const char *token_id)
{
    struct call *call = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    (void)token;
    if (error) {
        call_fail(call, failure);
        return;
    }
    call_end_token(call, token_id);
    json_object_begin(&json, NULL);
    json_string(&json, "token_id", token_id);
    json_boolean(&json, "revoked", true);
    json_object_end(&json);
    reply_with(call, &body, &json);
}

static void revoke_token(struct call *call, const void *arg)
{
    const struct tenant_input *input = arg;
    struct tenant *tenant = tenant_or_fail(call, input->name);
    if (!tenant)
        return;
    struct tenant_asker who = asker(call);
    tenant_revoke_token(tenant, &who, input->token_id, revoked, call);
}

static const char *const create_errors[] = {"bad_tenant_name", "tenant_exists", "bad_host_root",
                                            NULL};
static const char *const update_errors[] = {"tenant_not_found", "bad_host_root", NULL};
static const char *const network_errors[] = {"tenant_not_found", "bad_network_entry", NULL};
static const char *const token_errors[] = {"tenant_not_found", "token_not_found", NULL};

const struct operation_entry admin_operations[] = {
    {
        .name = "tenant_create",
        .family = "tenant",
        .title = "Create a tenant",
        .summary = "Makes a tenant with its quotas.",
        .description = "Makes a tenant.",
        .method = "POST",
        .path = "/v1/tenants",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_ATOMIC,
        .status = 201,
        .input = create_input,
        .input_size = sizeof(struct tenant_input),
        .output = tenant_fields,
        .errors = create_errors,
        .handler = create,
        .tell = tell_created,
    },
    {
        .name = "tenant_update",
        .family = "tenant",
        .title = "Change a tenant",
        .summary = "Replaces the directories of the host that a tenant may name paths below.",
        .description = "Replaces a tenant's host_roots.",
        .method = "PATCH",
        .path = "/v1/tenants/{name}",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_IDEMPOTENT | OPERATION_ATOMIC,
        .status = 200,
        .input = update_input,
        .input_size = sizeof(struct tenant_input),
        .output = tenant_fields,
        .errors = update_errors,
        .handler = update,
        .tell = tell_created,
    },
    {
        .name = "tenant_list",
        .family = "tenant",
        .title = "List tenants",
        .summary = "Lists tenants with quotas and what is in use.",
        .description = "Lists tenants.",
        .method = "GET",
        .path = "/v1/tenants",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = no_input,
        .output = list_output,
        .handler = list,
    },
    {
        .name = "tenant_network_set",
        .family = "tenant",
        .title = "Set a tenant's network list",
        .summary =
            "Says what a tenant's guests with outbound network may reach; it counts at once.",
        .description = "Says what a tenant's guests with outbound network may reach.",
        .method = "PUT",
        .path = "/v1/tenants/{name}/network",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_ATOMIC | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = network_input,
        .input_size = sizeof(struct tenant_input),
        .output = tenant_fields,
        .errors = network_errors,
        .handler = set_network,
        .tell = tell_created,
    },
    {
        .name = "tenant_token_issue",
        .family = "tenant",
        .title = "Issue a token",
        .summary = "Makes a token; it is shown once.",
        .description = "Makes a token of a tenant.",
        .method = "POST",
        .path = "/v1/tenants/{name}/tokens",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_ATOMIC | OPERATION_TELLS_SECRET,
        .status = 201,
        .input = issue_input,
        .input_size = sizeof(struct tenant_input),
        .output = issue_output,
        .errors = token_errors,
        .handler = issue,
    },
    {
        .name = "tenant_token_list",
        .family = "tenant",
        .title = "List tokens",
        .summary = "Lists a tenant's tokens without their secrets.",
        .description = "Lists a tenant's tokens.",
        .method = "GET",
        .path = "/v1/tenants/{name}/tokens",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = tokens_input,
        .input_size = sizeof(struct tenant_input),
        .output = tokens_output,
        .errors = token_errors,
        .handler = tokens,
    },
    {
        .name = "tenant_token_revoke",
        .family = "tenant",
        .title = "Revoke a token",
        .summary = "Ends a token at once.",
        .description =
            "Ends a token at once, with what it has open: streams, shells, connections to "
            "ports, MCP sessions, and calls under way.",
        .method = "DELETE",
        .path = "/v1/tenants/{name}/tokens/{token_id}",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_ADMIN | OPERATION_DESTRUCTIVE | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = revoke_input,
        .input_size = sizeof(struct tenant_input),
        .output = revoke_output,
        .errors = token_errors,
        .handler = revoke_token,
    },
    {0},
};
