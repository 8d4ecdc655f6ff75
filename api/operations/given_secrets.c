#include "api/operations/given_secrets.h"

#include "api/operations/views.h"
#include "supervisord/host_secret.h"
#include "supervisord/secret.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

const struct field secret_input_fields[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = SECRET_NAME_MAX,
     .pattern = "^[A-Za-z_][A-Za-z0-9_]*$",
     .description = "Its name, an identifier.",
     .offset = offsetof(struct secret_input, name)},
    {.name = "value",
     .type = FIELD_STRING,
     .flags = FIELD_SECRET,
     .maximum = SECRET_VALUE_MAX,
     .description = "Its value; it is never shown again.",
     .offset = offsetof(struct secret_input, value)},
    {.name = "file_path",
     .type = FIELD_STRING,
     .maximum = 4095,
     .description = "File of the daemon's host, below one of the tenant's host_roots, that holds "
                    "the value; with value, what the client read that from.",
     .offset = offsetof(struct secret_input, file_path)},
    {0},
};

struct gathering {
    struct call *call;
    struct secret_spec *secrets;
    const struct secret_input *items;
    size_t count, at;
    secrets_gathered done;
    void *arg;
};

static void fail(const struct gathering *gathering, const char *member,
                 const struct hearth_failure *failure)
{
    char field[48];
    snprintf(field, sizeof field, "/secrets/%zu/%s", gathering->at, member);
    fail_host_path(gathering->call, failure, field,
                   "Read the file where the client runs and pass its content as value; `hearth "
                   "workspace create --secret-file` does that.");
}

static void go_on(struct gathering *gathering);

static void file_read(void *arg, int error, const struct hearth_failure *failure, const char *value)
{
    struct gathering *gathering = arg;
    size_t size = error ? 0 : strlen(value) + 1;
    if (error) {
        fail(gathering, "file_path", failure);
        return;
    }
    char *copy = call_allocate_or_fail(gathering->call, size);
    if (!copy)
        return;
    gathering->secrets[gathering->at++].value = memcpy(copy, value, size);
    go_on(gathering);
}

static void go_on(struct gathering *gathering)
{
    struct call *call = gathering->call;
    while (gathering->at < gathering->count && gathering->secrets[gathering->at].value)
        gathering->at++;
    if (gathering->at == gathering->count)
        gathering->done(gathering->arg, gathering->secrets);
    else
        host_secret_read(call_supervisor(call), call_principal(call),
                         gathering->items[gathering->at].file_path, file_read, gathering);
}

void secrets_gather(struct call *call, const struct object_list *list, secrets_gathered done,
                    void *arg)
{
    const struct secret_input *items = list->items;
    struct gathering *gathering = call_allocate_or_fail(call, sizeof *gathering);
    struct secret_spec *secrets =
        gathering ? call_allocate_or_fail(call, (list->count + 1) * sizeof *secrets) : NULL;
    if (!secrets)
        return;
    *gathering = (struct gathering){.call = call,
                                    .secrets = secrets,
                                    .items = items,
                                    .count = list->count,
                                    .done = done,
                                    .arg = arg};
    for (; gathering->at < list->count; gathering->at++) {
        const struct secret_input *item = &items[gathering->at];
        struct hearth_failure failure;
        secrets[gathering->at] = (struct secret_spec){item->name, item->value, item->file_path};
        if (item->value || item->file_path)
            continue;
        hearth_fail(&failure, HEARTH_EINVALID, "missing_argument", "a secret needs a value");
        fail(gathering, "value", &failure);
        return;
    }
    gathering->at = 0;
    go_on(gathering);
}

void secrets_wipe(const struct secret_spec *secrets, size_t count)
{
    for (size_t i = 0; i < count; i++)
        explicit_bzero((char *)(uintptr_t)secrets[i].value, strlen(secrets[i].value));
}
