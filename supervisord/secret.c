#include "supervisord/secret.h"

#include "base/log.h"
#include "base/secret_memory.h"
#include "base/text.h"
#include "supervisord/secret_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Checks. */

static bool identifier(const char *text)
{
    static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    static const char later[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    return *text && strchr(first, *text) && strspn(text, later) == strlen(text);
}

static int check_one(const struct secret_spec *secrets, size_t at, struct hearth_failure *failure)
{
    const struct secret_spec *secret = &secrets[at];
    char field[64];
    size_t length = strlen(secret->value);
    if (!identifier(secret->name) || strlen(secret->name) > SECRET_NAME_MAX) {
        snprintf(field, sizeof field, "/secrets/%zu/name", at);
        hearth_fail(failure, HEARTH_EINVALID, "bad_secret",
                    "a secret's name is an identifier of at most %d characters", SECRET_NAME_MAX);
    } else if (!length || length > SECRET_VALUE_MAX) {
        snprintf(field, sizeof field, "/secrets/%zu/value", at);
        hearth_fail(failure, HEARTH_EINVALID, "bad_secret",
                    "a secret's value has 1 to %d bytes, not %zu", SECRET_VALUE_MAX, length);
    } else {
        for (size_t i = 0; i < at; i++)
            if (strcmp(secrets[i].name, secret->name) == 0) {
                snprintf(field, sizeof field, "/secrets/%zu/name", at);
                hearth_fail(failure, HEARTH_EINVALID, "bad_secret",
                            "the secret \"%s\" is given twice", secret->name);
                hearth_failure_field(failure, field);
                return HEARTH_EINVALID;
            }
        return 0;
    }
    hearth_failure_field(failure, field);
    return HEARTH_EINVALID;
}

int secrets_check(const struct secret_spec *secrets, size_t count, struct hearth_failure *failure)
{
    size_t bytes = 0;
    if (count > SECRETS_MAX) {
        hearth_fail(failure, HEARTH_EINVALID, "bad_secret", "a workspace has at most %d secrets",
                    SECRETS_MAX);
        hearth_failure_field(failure, "/secrets");
        return HEARTH_EINVALID;
    }
    for (size_t i = 0; i < count; i++) {
        int error = check_one(secrets, i, failure);
        if (error)
            return error;
        bytes += strlen(secrets[i].value);
    }
    if (bytes <= SECRETS_BYTES_MAX)
        return 0;
    hearth_fail(failure, HEARTH_EINVALID, "bad_secret",
                "the values have %zu bytes together, where %zu are allowed", bytes,
                SECRETS_BYTES_MAX);
    hearth_failure_field(failure, "/secrets");
    return HEARTH_EINVALID;
}

static const struct secret *find(const struct workspace *workspace, const char *name)
{
    for (size_t i = 0; i < workspace->secret_count; i++)
        if (strcmp(workspace->secrets[i].name, name) == 0)
            return &workspace->secrets[i];
    return NULL;
}

/* The names that it has, as far as a hint holds them. */
static void hint_names(const struct workspace *workspace, struct hearth_failure *failure)
{
    char names[400] = "";
    size_t used = 0;
    for (size_t i = 0; i < workspace->secret_count && used + 70 < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                                 workspace->secrets[i].name);
    if (workspace->secret_count)
        hearth_failure_hint(failure, "Its secrets are: %s.", names);
    else
        hearth_failure_hint(failure, "It has none: secrets are given when a workspace is created.");
}

int secret_variables_check(const struct workspace *workspace,
                           const struct secret_variable *variables, size_t count,
                           struct hearth_failure *failure)
{
    char field[96];
    for (size_t i = 0; i < count; i++) {
        bool named = identifier(variables[i].secret) &&
                     utf8_valid(variables[i].secret, strlen(variables[i].secret));
        snprintf(field, sizeof field, "/secret_env%s%.64s", named ? "/" : "",
                 named ? variables[i].secret : "");
        if (!find(workspace, variables[i].secret)) {
            hearth_fail(failure, HEARTH_EINVALID, "unknown_secret",
                        "the workspace has no secret \"%.64s\"", named ? variables[i].secret : "?");
            hint_names(workspace, failure);
        } else if (!identifier(variables[i].variable)) {
            hearth_fail(failure, HEARTH_EINVALID, "bad_variable",
                        "the variable of a secret is named by an identifier");
        } else {
            continue;
        }
        hearth_failure_field(failure, field);
        return HEARTH_EINVALID;
    }
    return 0;
}

/* Keeping. */

struct secret_owner secret_owner_of(const struct workspace *workspace, const char *name)
{
    return (struct secret_owner){workspace->tenant->tenant_id, workspace->workspace_id, name};
}

static int grow(struct workspace *workspace, size_t count)
{
    struct secret *grown = realloc(workspace->secrets, count * sizeof *grown);
    if (!grown)
        return HEARTH_ENOMEMORY;
    workspace->secrets = grown;
    return 0;
}

/* sealed is taken. */
static void append(struct workspace *workspace, const char *name, bool from_file,
                   unsigned char *sealed, size_t length)
{
    struct secret *secret = &workspace->secrets[workspace->secret_count++];
    *secret = (struct secret){.from_file = from_file, .length = length, .sealed = sealed};
    snprintf(secret->name, sizeof secret->name, "%s", name);
}

static int keep_one(struct workspace *workspace, const char *name, bool from_file,
                    const char *value, size_t length)
{
    struct secret_owner owner = secret_owner_of(workspace, name);
    unsigned char *sealed = malloc(length + SECRET_SEAL_OVERHEAD);
    if (!sealed)
        return HEARTH_ENOMEMORY;
    secret_seal(workspace->supervisor->secret_keys, &owner, value, length, sealed);
    append(workspace, name, from_file, sealed, length + SECRET_SEAL_OVERHEAD);
    return 0;
}

int secrets_keep(struct workspace *workspace, const struct secret_spec *secrets, size_t count)
{
    int error = count ? grow(workspace, count) : 0;
    for (size_t i = 0; !error && i < count; i++)
        error = keep_one(workspace, secrets[i].name, secrets[i].from_file, secrets[i].value,
                         strlen(secrets[i].value));
    return error;
}

int secrets_copy(struct workspace *workspace, const struct workspace *from,
                 struct hearth_failure *failure)
{
    struct secrets_open open;
    int error = secrets_open(from, &open, failure);
    if (error)
        return error;
    if (open.count)
        error = grow(workspace, open.count);
    for (size_t i = 0; !error && i < open.count; i++)
        error = keep_one(workspace, open.messages[i].name, from->secrets[i].from_file,
                         (const char *)open.messages[i].value.data, open.messages[i].value.len);
    secrets_close(&open);
    return error ? hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory") : 0;
}

void secrets_drop(struct workspace *workspace)
{
    for (size_t i = 0; i < workspace->secret_count; i++)
        free(workspace->secrets[i].sealed);
    free(workspace->secrets);
    workspace->secrets = NULL;
    workspace->secret_count = 0;
}

void secrets_put(const struct workspace *workspace, struct change *change)
{
    for (size_t i = 0; i < workspace->secret_count; i++) {
        const struct secret *secret = &workspace->secrets[i];
        const struct row_secret row = {.workspace_id = workspace->workspace_id,
                                       .name = secret->name,
                                       .source_kind = secret->from_file ? "file" : "literal",
                                       .sealed = secret->sealed,
                                       .sealed_length = secret->length};
        change_put_secret(change, &row);
    }
}

int secrets_load(struct supervisor *supervisor, const struct row_secret *row)
{
    struct workspace *workspace = supervisor_workspace(supervisor, row->workspace_id);
    if (!workspace)
        return 0;
    unsigned char *sealed = malloc(row->sealed_length + 1);
    if (!sealed || grow(workspace, workspace->secret_count + 1)) {
        free(sealed);
        return HEARTH_ENOMEMORY;
    }
    memcpy(sealed, row->sealed, row->sealed_length);
    append(workspace, row->name, strcmp(row->source_kind, "file") == 0, sealed, row->sealed_length);
    return 0;
}

/* Opening. */

int secrets_open(const struct workspace *workspace, struct secrets_open *ret_open,
                 struct hearth_failure *failure)
{
    struct secrets_open open = {0};
    for (size_t i = 0; workspace && i < workspace->secret_count; i++)
        open.size += workspace->secrets[i].length;
    if (open.size && !(open.memory = secret_memory_new(open.size)))
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    *ret_open = open;
    char *at = open.memory;
    for (size_t i = 0; at && i < workspace->secret_count; i++) {
        const struct secret *secret = &workspace->secrets[i];
        struct secret_owner owner = secret_owner_of(workspace, secret->name);
        int error = secret_open(workspace->supervisor->secret_keys, &owner, secret->sealed,
                                secret->length, at, failure);
        if (error) {
            secrets_close(ret_open);
            return error;
        }
        Hearth__Agent__V1__Secret *message = &ret_open->messages[ret_open->count];
        hearth__agent__v1__secret__init(message);
        message->name = (char *)(uintptr_t)secret->name;
        message->value.data = (uint8_t *)at;
        message->value.len = secret->length - SECRET_SEAL_OVERHEAD;
        at += message->value.len;
        ret_open->count++;
    }
    return 0;
}

void secrets_close(struct secrets_open *open)
{
    secret_memory_free(open->memory, open->size);
    *open = (struct secrets_open){0};
}

struct redact_values *workspace_redact_values(const struct workspace *workspace, int *ret_error)
{
    struct redact_secret looked_for[SECRETS_MAX];
    struct secrets_open open;
    struct hearth_failure failure;
    *ret_error = 0;
    if (!workspace->secret_count)
        return NULL;
    *ret_error = secrets_open(workspace, &open, &failure);
    if (*ret_error) {
        log_error("secrets_not_opened", "workspace=%s detail=\"%s\"", workspace->workspace_id,
                  failure.detail);
        return NULL;
    }
    for (size_t i = 0; i < open.count; i++)
        looked_for[i] =
            (struct redact_secret){open.messages[i].value.data, open.messages[i].value.len};
    struct redact_values *values = redact_values_new(looked_for, open.count);
    secrets_close(&open);
    if (!values)
        *ret_error = HEARTH_ENOMEMORY;
    return values;
}

void workspace_redact_texts(const struct workspace *workspace, char **texts, size_t count)
{
    int error;
    size_t length;
    struct redact_values *values = workspace_redact_values(workspace, &error);
    for (size_t i = 0; (values || error) && i < count; i++) {
        char *text = steal_pointer(texts[i]);
        if (!text)
            continue;
        if (values)
            texts[i] = redact_text(values, text, strlen(text), &length);
        explicit_bzero(text, strlen(text));
        free(text);
    }
    redact_values_free(values);
}

char *workspace_redact_text(const struct workspace *workspace, char *text)
{
    if (text)
        workspace_redact_texts(workspace, &text, 1);
    return text;
}

Hearth__Agent__V1__SecretVariable **secret_variables_make(const struct secret_variable *variables,
                                                          size_t count)
{
    Hearth__Agent__V1__SecretVariable **list;
    size_t texts = 0;
    for (size_t i = 0; i < count; i++)
        texts += strlen(variables[i].secret) + strlen(variables[i].variable) + 2;
    list = malloc(count * (sizeof *list + sizeof **list) + texts + 1);
    if (!list)
        return NULL;
    Hearth__Agent__V1__SecretVariable *messages =
        (Hearth__Agent__V1__SecretVariable *)(list + count);
    char *at = (char *)(messages + count);
    for (size_t i = 0; i < count; i++) {
        hearth__agent__v1__secret_variable__init(&messages[i]);
        messages[i].secret = at;
        at = stpcpy(at, variables[i].secret) + 1;
        messages[i].variable = at;
        at = stpcpy(at, variables[i].variable) + 1;
        list[i] = &messages[i];
    }
    return list;
}

const unsigned char *supervisor_hash_key(const struct supervisor *supervisor)
{
    return secret_hash_key(supervisor->secret_keys);
}
