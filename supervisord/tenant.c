#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/path_at.h"
#include "base/text.h"
#include "supervisord/guest_network.h"
#include "supervisord/supervisor_internal.h"

#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_ID_LENGTH 12
#define TOKEN_SECRET_LENGTH 52 /* base32 characters: 260 bits */
#define ADMIN "admin"
#define NETWORK_INITIAL "open\n"

struct token {
    char token_id[TOKEN_ID_LENGTH + 1];
    struct tenant *tenant;
    unsigned char hash[crypto_hash_sha256_BYTES];
    unsigned rights;
    char *note;
    int64_t created_at, expires_at, revoked_at;
    struct map_entry entry; // supervisor::tokens
};

static struct token *token_of(struct map_entry *entry)
{
    return entry ? container_of(entry, struct token, entry) : NULL;
}

static int refuse(struct hearth_failure *failure)
{
    int error = hearth_fail(failure, HEARTH_EUNAUTHENTICATED, "unauthenticated",
                            "a valid token is needed for this");
    hearth_failure_hint(failure, "Send `Authorization: Bearer TOKEN`; an operator makes one with "
                                 "`hearth tenant token NAME`.");
    return error;
}

static void principal_of(const struct token *token, struct principal *ret_principal)
{
    *ret_principal = (struct principal){
        .tenant = token->tenant, .rights = token->rights, .expires_at = token->expires_at};
    snprintf(ret_principal->token_id, sizeof ret_principal->token_id, "%s", token->token_id);
}

int tenant_authenticate(struct supervisor *supervisor, const char *text,
                        struct principal *ret_principal, struct hearth_failure *failure)
{
    static const unsigned char nobody[crypto_hash_sha256_BYTES];
    unsigned char hash[crypto_hash_sha256_BYTES];
    char token_id[TOKEN_ID_LENGTH + 1] = "";
    size_t prefix = strlen("hth_") + TOKEN_ID_LENGTH + 1;
    const char *secret = "";
    if (strlen(text) < TENANT_TOKEN_SIZE && strlen(text) > prefix &&
        text_starts_with(text, "hth_") && text[prefix - 1] == '_') {
        memcpy(token_id, text + 4, TOKEN_ID_LENGTH);
        secret = text + prefix;
    }
    struct token *token = token_of(map_find(&supervisor->tokens, token_id));
    /* The same work whether there is such a token or not. */
    crypto_hash_sha256(hash, (const unsigned char *)secret, strlen(secret));
    bool same = sodium_memcmp(hash, token ? token->hash : nobody, sizeof hash) == 0;
    if (!token || !same || token->revoked_at ||
        (token->expires_at && token->expires_at <= clock_wall_us()))
        return refuse(failure);
    principal_of(token, ret_principal);
    return 0;
}

int tenant_authenticate_peer(struct supervisor *supervisor, uid_t uid,
                             struct principal *ret_principal, struct hearth_failure *failure)
{
    struct tenant *admin = tenant_by_id(supervisor, ADMIN);
    if ((uid != geteuid() && uid != 0) || !admin)
        return refuse(failure);
    *ret_principal = (struct principal){
        .tenant = admin, .rights = RIGHT_READ | RIGHT_OPERATE | RIGHT_ADMIN, .token_id = "local"};
    return 0;
}

struct tenant *tenant_by_id(struct supervisor *supervisor, const char *tenant_id)
{
    list_for_each(cursor, next, &supervisor->tenants)
    {
        struct tenant *tenant = container_of(cursor, struct tenant, link);
        if (strcmp(tenant->tenant_id, tenant_id) == 0)
            return tenant;
    }
    return NULL;
}

bool principal_sees_all(const struct principal *principal)
{
    return principal->rights & RIGHT_ADMIN || strcmp(principal->tenant->tenant_id, ADMIN) == 0;
}

struct tenant *tenant_find(struct supervisor *supervisor, const char *name_or_id)
{
    list_for_each(cursor, next, &supervisor->tenants)
    {
        struct tenant *tenant = container_of(cursor, struct tenant, link);
        if (strcmp(tenant->tenant_id, name_or_id) == 0 || strcmp(tenant->name, name_or_id) == 0)
            return tenant;
    }
    return NULL;
}

static void tenant_free(struct tenant *tenant)
{
    free(tenant->name);
    free(tenant->host_roots);
    free(tenant->network);
    free(tenant);
}

static struct tenant *tenant_from_row(struct supervisor *supervisor, const struct row_tenant *row)
{
    struct tenant *tenant = calloc(1, sizeof *tenant);
    if (!tenant)
        return NULL;
    tenant->supervisor = supervisor;
    snprintf(tenant->tenant_id, sizeof tenant->tenant_id, "%s", row->tenant_id);
    tenant->name = text_copy(row->name);
    tenant->host_roots = text_copy(row->host_roots ? row->host_roots : "");
    tenant->network = text_copy(row->network ? row->network : "listed\n");
    tenant->created_at = row->created_at;
    tenant->max_workspaces = row->max_workspaces;
    tenant->max_running_execs = row->max_running_execs;
    tenant->max_mem_mib = row->max_mem_mib;
    tenant->max_kept_upload_bytes = row->max_kept_upload_bytes;
    tenant->retention_us = row->retention_us;
    list_init(&tenant->link);
    list_init(&tenant->workspaces);
    list_init(&tenant->followers);
    if (!tenant->name || !tenant->host_roots || !tenant->network) {
        tenant_free(tenant);
        return NULL;
    }
    return tenant;
}

static void row_from_token(const struct token *token, struct row_token *ret_row)
{
    *ret_row = (struct row_token){
        .token_id = token->token_id,
        .tenant_id = token->tenant->tenant_id,
        .rights = token->rights,
        .note = token->note,
        .created_at = token->created_at,
        .expires_at = token->expires_at,
        .revoked_at = token->revoked_at,
    };
    memcpy(ret_row->hash, token->hash, sizeof ret_row->hash);
}

static void token_free(struct token *token)
{
    free(token->note);
    free(token);
}

/* Fills text with the token as its owner gets it, once. */
static struct token *token_make(struct tenant *tenant, unsigned rights, int64_t expires_at,
                                const char *note, char text[TENANT_TOKEN_SIZE])
{
    struct token *token = calloc(1, sizeof *token);
    char secret[TOKEN_SECRET_LENGTH + 1];
    if (!token)
        return NULL;
    id_random_text(token->token_id, TOKEN_ID_LENGTH);
    id_random_text(secret, TOKEN_SECRET_LENGTH);
    crypto_hash_sha256(token->hash, (const unsigned char *)secret, strlen(secret));
    token->tenant = tenant;
    token->rights = rights;
    token->note = text_copy(note ? note : "");
    token->created_at = clock_wall_us();
    token->expires_at = expires_at;
    snprintf(text, TENANT_TOKEN_SIZE, "hth_%s_%s", token->token_id, secret);
    sodium_memzero(secret, sizeof secret);
    return token;
}

/* Start-up. */

static int load_tenant(void *arg, const struct row_tenant *row)
{
    struct supervisor *supervisor = arg;
    struct tenant *tenant = tenant_from_row(supervisor, row);
    if (!tenant)
        return HEARTH_ENOMEMORY;
    list_append(&supervisor->tenants, &tenant->link);
    return 0;
}

static int load_token(void *arg, const struct row_token *row)
{
    struct supervisor *supervisor = arg;
    struct tenant *tenant = tenant_by_id(supervisor, row->tenant_id);
    struct token *token = tenant ? calloc(1, sizeof *token) : NULL;
    if (!token)
        return tenant ? HEARTH_ENOMEMORY : 0;
    snprintf(token->token_id, sizeof token->token_id, "%s", row->token_id);
    token->tenant = tenant;
    memcpy(token->hash, row->hash, sizeof token->hash);
    token->rights = row->rights;
    token->note = text_copy(row->note ? row->note : "");
    token->created_at = row->created_at;
    token->expires_at = row->expires_at;
    token->revoked_at = row->revoked_at;
    return map_insert(&supervisor->tokens, &token->entry, token->token_id);
}

int tenants_load(struct supervisor *supervisor, struct db *db, bool *ret_first_start,
                 struct hearth_failure *failure)
{
    int error = rows_each_tenant(db, load_tenant, supervisor, failure);
    if (!error)
        error = rows_each_token(db, load_token, supervisor, failure);
    if (!error)
        *ret_first_start = tenant_by_id(supervisor, ADMIN) == NULL;
    return error;
}

int tenants_first_start(struct supervisor *supervisor, int state_dir_fd,
                        struct hearth_failure *failure)
{
    const struct config *config = supervisor->config;
    struct row_tenant row = {
        .tenant_id = ADMIN,
        .name = ADMIN,
        .created_at = clock_wall_us(),
        .max_workspaces = config->max_workspaces,
        .max_running_execs = config->max_running_execs,
        .max_mem_mib = config->max_mem_mib,
        .max_kept_upload_bytes = config->max_kept_upload_bytes,
        .retention_us = config->retention_seconds * US_PER_S,
        .host_roots = "",
        .network = NETWORK_INITIAL,
    };
    char text[TENANT_TOKEN_SIZE + 1];
    struct tenant *tenant = tenant_from_row(supervisor, &row);
    struct token *token = tenant ? token_make(tenant, RIGHT_READ | RIGHT_OPERATE | RIGHT_ADMIN, 0,
                                              "made at the first start", text)
                                 : NULL;
    if (!token || map_insert(&supervisor->tokens, &token->entry, token->token_id))
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    list_append(&supervisor->tenants, &tenant->link);
    strcat(text, "\n");
    /* The file first: a crash before the rows leaves a file that the next first start replaces. */
    int error = path_write_durable(state_dir_fd, "admin.token", text, strlen(text), 0600);
    sodium_memzero(text, sizeof text);
    if (error)
        return hearth_fail_errno(failure, -error, "state_dir_unusable", "cannot write admin.token");
    struct row_token token_row;
    row_from_token(token, &token_row);
    struct change *change = change_new();
    change_put_tenant(change, &row);
    change_put_token(change, &token_row);
    change_commit(change, supervisor->writer, NULL, NULL);
    return 0;
}

void tenants_free(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->tokens.bucket_count; i++)
        for (struct map_entry *entry = supervisor->tokens.buckets[i], *next; entry; entry = next) {
            next = entry->next;
            token_free(token_of(entry));
        }
    map_free(&supervisor->tokens);
    list_for_each(cursor, next, &supervisor->tenants)
        tenant_free(container_of(cursor, struct tenant, link));
    list_init(&supervisor->tenants);
}

/* Quotas. */

int tenant_has_room(const struct tenant *tenant, unsigned count, uint32_t mem_mib,
                    struct hearth_failure *failure)
{
    uint64_t more = (uint64_t)count * mem_mib;
    if (tenant->workspace_count + count > tenant->max_workspaces)
        return hearth_fail(failure, HEARTH_EQUOTA, "quota_workspaces",
                           "the tenant has %u of %u workspaces; %u more would be too many",
                           tenant->workspace_count, tenant->max_workspaces, count);
    if (tenant->mem_mib + more > tenant->max_mem_mib)
        return hearth_fail(
            failure, HEARTH_EQUOTA, "quota_memory",
            "the tenant's workspaces hold %llu MiB; %llu more would pass its %llu MiB",
            (unsigned long long)tenant->mem_mib, (unsigned long long)more,
            (unsigned long long)tenant->max_mem_mib);
    return 0;
}

int tenant_take_workspace(struct tenant *tenant, uint32_t mem_mib, struct hearth_failure *failure)
{
    int error = tenant_has_room(tenant, 1, mem_mib, failure);
    if (error)
        return error;
    tenant->workspace_count++;
    tenant->mem_mib += mem_mib;
    return 0;
}

void tenant_give_workspace(struct tenant *tenant, uint32_t mem_mib)
{
    tenant->workspace_count--;
    tenant->mem_mib -= mem_mib;
}

/* Changes: memory follows the commit, so that nobody uses a token that a crash takes back. */

struct tenant_change {
    struct supervisor *supervisor;
    const char *operation;
    struct principal principal;
    char request_id[68];
    struct tenant *tenant; /* to be added, or whom the token is of */
    bool adding;
    struct token *token; /* to be added */
    char token_id[TOKEN_ID_LENGTH + 1], text[TENANT_TOKEN_SIZE];
    int64_t revoked_at;
    char *host_roots, *network; /* to be set; NULL: stays */
    struct hearth_failure failure;
    tenant_done done;
    void *arg;
};

static void change_done(void *arg, int error, const struct hearth_failure *failure)
{
    struct tenant_change *change = arg;
    struct supervisor *supervisor = change->supervisor;
    struct hearth_failure own;
    if (!error && change->adding)
        list_append(&supervisor->tenants, &change->tenant->link);
    if (!error && change->token &&
        map_insert(&supervisor->tokens, &change->token->entry, change->token->token_id)) {
        error = hearth_fail(&own, HEARTH_ENOMEMORY, NULL, "out of memory");
        failure = &own;
    }
    if (error)
        supervisor_audit(supervisor, &change->principal, change->request_id, change->operation,
                         NULL, failure->code);
    struct token *revoked = token_of(map_find(&supervisor->tokens, change->token_id));
    if (!error && change->revoked_at && revoked)
        revoked->revoked_at = change->revoked_at;
    if (!error && change->host_roots) {
        free(change->tenant->host_roots);
        change->tenant->host_roots = steal_pointer(change->host_roots);
    }
    free(change->host_roots);
    if (!error && change->network) {
        free(change->tenant->network);
        change->tenant->network = steal_pointer(change->network);
        guest_network_changed(change->tenant);
    }
    free(change->network);
    bool issued = change->token != NULL;
    if (error && change->token)
        token_free(change->token);
    if (error && change->adding)
        tenant_free(change->tenant);
    change->done(change->arg, error, failure, error ? NULL : change->tenant,
                 issued && !error ? change->text : NULL, change->token_id);
    sodium_memzero(change->text, sizeof change->text);
    free(change);
}

static void change_failed(void *arg)
{
    struct tenant_change *change = arg;
    change_done(change, (int)change->failure.error, &change->failure);
}

static struct tenant_change *change_begin(struct supervisor *supervisor, struct tenant *tenant,
                                          const struct tenant_asker *asker, const char *operation,
                                          tenant_done done, void *arg)
{
    struct tenant_change *change = calloc(1, sizeof *change);
    if (!change)
        abort();
    *change = (struct tenant_change){.supervisor = supervisor,
                                     .operation = operation,
                                     .principal = *asker->principal,
                                     .tenant = tenant,
                                     .done = done,
                                     .arg = arg};
    snprintf(change->request_id, sizeof change->request_id, "%s", asker->request_id);
    return change;
}

/* Takes rows. */
static void change_commit_audited(struct tenant_change *change, struct change *rows)
{
    supervisor_audit_row(rows, &change->principal, change->request_id, change->operation,
                         change->tenant->tenant_id, "ok");
    change_commit(rows, change->supervisor->writer, change_done, change);
}

static int check_name(const char *name, struct hearth_failure *failure)
{
    size_t length = strlen(name);
    bool good = length >= 1 && length <= 63 && isalnum((unsigned char)name[0]);
    for (size_t i = 0; good && i < length; i++)
        good = islower((unsigned char)name[i]) || isdigit((unsigned char)name[i]) || name[i] == '-';
    if (good)
        return 0;
    int error = hearth_fail(failure, HEARTH_EINVALID, "bad_tenant_name",
                            "a tenant's name is 1 to 63 of a-z, 0-9 and -, not beginning with -");
    hearth_failure_field(failure, "/name");
    return error;
}

void tenant_create(struct supervisor *supervisor, const struct tenant_asker *asker,
                   const struct tenant_spec *spec, tenant_done done, void *arg)
{
    const struct config *config = supervisor->config;
    struct tenant_change *change =
        change_begin(supervisor, NULL, asker, "tenant_create", done, arg);
    int error = check_name(spec->name, &change->failure);
    if (!error && tenant_find(supervisor, spec->name)) {
        error = hearth_fail(&change->failure, HEARTH_ECONFLICT, "tenant_exists",
                            "there is a tenant \"%s\" already", spec->name);
        hearth_failure_field(&change->failure, "/name");
    }
    char tenant_id[ID_SIZE];
    id_make(tenant_id, "tn", config->node_tag);
    struct row_tenant row = {
        .tenant_id = tenant_id,
        .name = spec->name,
        .created_at = clock_wall_us(),
        .max_workspaces = spec->max_workspaces ? spec->max_workspaces : config->max_workspaces,
        .max_running_execs =
            spec->max_running_execs ? spec->max_running_execs : config->max_running_execs,
        .max_mem_mib = spec->max_mem_mib ? spec->max_mem_mib : config->max_mem_mib,
        .max_kept_upload_bytes = spec->max_kept_upload_bytes ? spec->max_kept_upload_bytes
                                                             : config->max_kept_upload_bytes,
        .retention_us =
            spec->retention_us ? spec->retention_us : config->retention_seconds * US_PER_S,
        .host_roots = spec->host_roots ? spec->host_roots : "",
        .network = NETWORK_INITIAL,
    };
    if (!error && !(change->tenant = tenant_from_row(supervisor, &row)))
        error = hearth_fail(&change->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (error) {
        loop_defer(supervisor->loop, change_failed, change);
        return;
    }
    change->adding = true;
    struct change *rows = change_new();
    change_put_tenant(rows, &row);
    change_commit_audited(change, rows);
}

/* Takes the texts; one of them is NULL. */
static void set(struct tenant *tenant, const struct tenant_asker *asker, const char *operation,
                char *host_roots, char *network, tenant_done done, void *arg)
{
    struct tenant_change *change =
        change_begin(tenant->supervisor, tenant, asker, operation, done, arg);
    const struct row_tenant row = {
        .tenant_id = tenant->tenant_id, .host_roots = host_roots, .network = network};
    change->host_roots = host_roots;
    change->network = network;
    struct change *rows = change_new();
    change_set_tenant(rows, &row);
    change_commit_audited(change, rows);
}

void tenant_set_host_roots(struct tenant *tenant, const struct tenant_asker *asker,
                           char *host_roots, tenant_done done, void *arg)
{
    set(tenant, asker, "tenant_update", host_roots, NULL, done, arg);
}

void tenant_set_network(struct tenant *tenant, const struct tenant_asker *asker, char *network,
                        tenant_done done, void *arg)
{
    set(tenant, asker, "tenant_network_set", NULL, network, done, arg);
}

void tenant_issue_token(struct tenant *tenant, const struct tenant_asker *asker, unsigned rights,
                        int64_t expires_at, const char *note, tenant_done done, void *arg)
{
    struct supervisor *supervisor = tenant->supervisor;
    struct tenant_change *change =
        change_begin(supervisor, tenant, asker, "tenant_token_issue", done, arg);
    change->token = token_make(tenant, rights, expires_at, note, change->text);
    if (!change->token) {
        hearth_fail(&change->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        loop_defer(supervisor->loop, change_failed, change);
        return;
    }
    memcpy(change->token_id, change->token->token_id, sizeof change->token_id);
    struct row_token row;
    row_from_token(change->token, &row);
    struct change *rows = change_new();
    change_put_token(rows, &row);
    change_commit_audited(change, rows);
}

void tenant_revoke_token(struct tenant *tenant, const struct tenant_asker *asker,
                         const char *token_id, tenant_done done, void *arg)
{
    struct supervisor *supervisor = tenant->supervisor;
    struct tenant_change *change =
        change_begin(supervisor, tenant, asker, "tenant_token_revoke", done, arg);
    struct token *token = token_of(map_find(&supervisor->tokens, token_id));
    if (!token || token->tenant != tenant) {
        hearth_fail(&change->failure, HEARTH_ENOTFOUND, "token_not_found",
                    "the tenant has no such token");
        loop_defer(supervisor->loop, change_failed, change);
        return;
    }
    memcpy(change->token_id, token->token_id, sizeof change->token_id);
    change->revoked_at = clock_wall_us();
    struct change *rows = change_new();
    change_revoke_token(rows, token->token_id, change->revoked_at);
    change_commit_audited(change, rows);
}

void tenant_each(struct supervisor *supervisor, int (*visit)(void *arg, struct tenant *tenant),
                 void *arg)
{
    list_for_each(cursor, next, &supervisor->tenants)
    {
        if (visit(arg, container_of(cursor, struct tenant, link)))
            return;
    }
}

void tenant_each_token(struct supervisor *supervisor, struct tenant *tenant,
                       int (*visit)(void *arg, const struct token_info *token), void *arg)
{
    for (size_t i = 0; i < supervisor->tokens.bucket_count; i++)
        for (struct map_entry *entry = supervisor->tokens.buckets[i]; entry; entry = entry->next) {
            const struct token *token = token_of(entry);
            struct token_info info = {
                .token_id = token->token_id,
                .note = token->note,
                .rights = token->rights,
                .created_at = token->created_at,
                .expires_at = token->expires_at,
                .revoked_at = token->revoked_at,
            };
            if (token->tenant == tenant && visit(arg, &info))
                return;
        }
}
