#include "guestagent/agent/secrets.h"

#include "base/log.h"
#include "base/path_at.h"
#include "base/secret_memory.h"
#include "guestagent/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_BYTES 64
#define SECRETS_MAX 64
#define BELOW_RUN "hearth/secrets"
#define BYTES_MAX ((size_t)1 << 20) /* of all values */

struct secret {
    char name[NAME_MAX_BYTES + 1];
    const char *value;
    size_t length;
};

/* One piece of locked memory. */
struct secrets {
    size_t size, count;
    struct redact_values *values;
    struct secret items[];
};

static bool name_good(const char *name)
{
    size_t length = strlen(name);
    return length && length <= NAME_MAX_BYTES &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") ==
               length;
}

static int check(Hearth__Agent__V1__Secret *const *secrets, size_t count, size_t *ret_bytes)
{
    *ret_bytes = 0;
    if (count > SECRETS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < count; i++) {
        const ProtobufCBinaryData *value = &secrets[i]->value;
        *ret_bytes += value->len + 1;
        if (!name_good(secrets[i]->name) || !value->len || memchr(value->data, 0, value->len))
            return -EINVAL;
        if (*ret_bytes > BYTES_MAX)
            return -E2BIG;
    }
    return 0;
}

static struct secrets *copy(Hearth__Agent__V1__Secret *const *secrets, size_t count, size_t bytes)
{
    struct redact_secret looked_for[SECRETS_MAX];
    size_t size = sizeof(struct secrets) + count * sizeof(struct secret) + bytes;
    struct secrets *made = secret_memory_new(size);
    if (!made)
        return NULL;
    char *at = (char *)&made->items[count];
    made->size = size;
    made->count = count;
    for (size_t i = 0; i < count; i++) {
        struct secret *secret = &made->items[i];
        snprintf(secret->name, sizeof secret->name, "%s", secrets[i]->name);
        secret->value = memcpy(at, secrets[i]->value.data, secrets[i]->value.len);
        secret->length = secrets[i]->value.len;
        at += secret->length + 1;
        looked_for[i] = (struct redact_secret){secret->value, secret->length};
    }
    made->values = redact_values_new(looked_for, count);
    if (made->values)
        return made;
    secret_memory_free(made, size);
    return NULL;
}

static int write_file(int directory, const struct secret *secret)
{
    auto_close int fd =
        openat(directory, secret->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    for (size_t at = 0; at < secret->length;) {
        ssize_t put = write(fd, secret->value + at, secret->length - at);
        if (put < 0 && errno != EINTR)
            return -errno;
        at += put > 0 ? (size_t)put : 0;
    }
    return 0;
}

/* /run is a tmpfs in every guest: nothing of it reaches a disk. */
static int write_files(const struct secrets *secrets)
{
    auto_close int run = open("/run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = run < 0 ? -errno : path_remove_tree(run, BELOW_RUN);
    if (error || !secrets)
        return error;
    error = path_make_directories(run, BELOW_RUN, 0700);
    auto_close int directory =
        error ? error : path_open_plain(run, BELOW_RUN, O_RDONLY | O_DIRECTORY);
    if (directory < 0)
        return directory;
    for (size_t i = 0; !error && i < secrets->count; i++)
        error = write_file(directory, &secrets->items[i]);
    return error;
}

void secrets_free(struct agent *agent)
{
    struct secrets *secrets = steal_pointer(agent->secrets);
    if (!secrets)
        return;
    redact_values_free(secrets->values);
    secret_memory_free(secrets, secrets->size);
}

int secrets_set(struct agent *agent, Hearth__Agent__V1__Secret *const *secrets, size_t count)
{
    size_t bytes;
    bool had = agent->secrets != NULL;
    secrets_free(agent);
    int error = check(secrets, count, &bytes);
    if (!error && count && !(agent->secrets = copy(secrets, count, bytes)))
        error = -ENOMEM;
    for (size_t i = 0; i < count; i++)
        explicit_bzero(secrets[i]->value.data, secrets[i]->value.len);
    if (!error && agent->options.pid1 && (had || count))
        error = write_files(agent->secrets);
    if (error) {
        log_error("secrets_not_set", "%s", strerror(-error));
        secrets_free(agent);
    }
    return error;
}

const char *secrets_value(const struct secrets *secrets, const char *name)
{
    for (size_t i = 0; secrets && i < secrets->count; i++)
        if (strcmp(secrets->items[i].name, name) == 0)
            return secrets->items[i].value;
    return NULL;
}

bool secrets_known_or_refuse(struct agent *agent, struct link_call *call,
                             Hearth__Agent__V1__SecretVariable *const *variables, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!secrets_value(agent->secrets, variables[i]->secret)) {
            call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "there is no secret \"%.64s\"",
                        variables[i]->secret);
            return false;
        }
    return true;
}

struct redact_stream *secrets_stream(struct agent *agent)
{
    return agent->secrets && redact_longest(agent->secrets->values)
               ? redact_stream_new(agent->secrets->values)
               : NULL;
}

void secrets_clean(struct agent *agent, char *text, size_t size)
{
    size_t length;
    if (!agent->secrets)
        return;
    char *clean = redact_text(agent->secrets->values, text, strlen(text), &length);
    snprintf(text, size, "%.*s", clean ? (int)length : 0, clean ? clean : "");
    free(clean);
}

char *secrets_clean_part(struct agent *agent, const char *text, size_t text_length, size_t from,
                         size_t length, size_t *ret_length)
{
    struct redact_values *values = agent->secrets ? agent->secrets->values : NULL;
    if (values && redact_longest(values)) {
        /* As far as a secret reaches over the borders of the part. */
        size_t reach = redact_longest(values) - 1, begin = from > reach ? from - reach : 0;
        size_t end = text_length - from - length > reach ? from + length + reach : text_length;
        return redact_part(values, text + begin, end - begin, from - begin, length, ret_length);
    }
    char *copy = malloc(length + 1);
    if (copy)
        memcpy(copy, text + from, length);
    *ret_length = length;
    return copy;
}
