#include "cli/secret.h"

#include "base/path_at.h"
#include "base/text.h"
#include "cli/output.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* From now on this process holds what must not lie in a core dump. */
static void hold_no_dump(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

static int read_value(const char *path, char *out, size_t size, struct hearth_failure *failure)
{
    ssize_t got = path_read_small(AT_FDCWD, path, out, size);
    if (got < 0)
        return hearth_fail(failure, HEARTH_EINVALID, "bad_path", "%.300s cannot be read: %s", path,
                           strerror((int)-got));
    if (strlen(out) != (size_t)got || !utf8_valid(out, (size_t)got))
        return hearth_fail(failure, HEARTH_EINVALID, "bad_secret", "%.300s holds no text", path);
    size_t length = text_without_end(out, (size_t)got);
    if (!length || length > SECRET_VALUE_MAX)
        return hearth_fail(failure, HEARTH_EINVALID, "bad_length",
                           "%.300s has %s, where a secret has 1 to %d bytes", path,
                           length ? "more" : "none", SECRET_VALUE_MAX);
    out[length] = '\0';
    return 0;
}

int secret_read(cJSON *secret, struct hearth_failure *failure)
{
    char text[SECRET_VALUE_MAX + 4]; /* so that the end of a line and one byte more still show */
    const char *path = json_text(secret, "file_path", NULL);
    if (!path || json_text(secret, "value", NULL))
        return 0;
    hold_no_dump();
    int error = read_value(path, text, sizeof text, failure);
    if (!error) {
        cJSON_DeleteItemFromObjectCaseSensitive(secret, "value");
        cJSON_AddStringToObject(secret, "value", text);
    }
    explicit_bzero(text, sizeof text);
    return error;
}

/* NAME of "NAME=rest", with *ret_rest at the rest; NULL where it does not read so (told). */
static char *name_of(const char *text, const char *form, const struct usage *usage,
                     const char **ret_rest)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1]) {
        /* The word itself may be a secret that was put in the wrong place. */
        options_fail(usage, "a secret is given as %s", form);
        return NULL;
    }
    *ret_rest = equals + 1;
    return strndup(text, (size_t)(equals - text));
}

static cJSON *add_secret(cJSON *list, const char *text, const char *form, const char *member,
                         const struct usage *usage)
{
    const char *rest = NULL;
    auto_free char *name = name_of(text, form, usage, &rest);
    cJSON *secret = name ? cJSON_CreateObject() : NULL;
    cJSON_AddStringToObject(secret, "name", name);
    cJSON_AddStringToObject(secret, member, rest);
    cJSON_AddItemToArray(list, secret);
    return secret;
}

/* The words of this process are what `ps` shows to everybody. */
static void hide(const char *text)
{
    char *value = (char *)(uintptr_t)strchr(text, '=') + 1;
    memset(value, '*', strlen(value));
}

int cli_add_secrets(const struct cli *cli, cJSON *object, const struct text_list *values,
                    const struct text_list *files, const struct usage *usage)
{
    if (!values->count && !files->count)
        return 0;
    hold_no_dump();
    cJSON *list = cJSON_AddArrayToObject(object, "secrets");
    for (size_t i = 0; i < values->count; i++) {
        if (!add_secret(list, values->items[i], "NAME=VALUE", "value", usage))
            return 2;
        hide(values->items[i]);
    }
    for (size_t i = 0; i < files->count; i++) {
        struct hearth_failure failure = HEARTH_FAILURE_NONE;
        cJSON *secret = add_secret(list, files->items[i], "NAME=PATH", "file_path", usage);
        if (!secret)
            return 2;
        if (secret_read(secret, &failure))
            return cli_fail(cli, &failure, NULL);
    }
    return 0;
}

bool cli_add_secret_env(cJSON *object, const char *name, const struct text_list *pairs,
                        const struct usage *usage)
{
    cJSON *map = pairs->count ? cJSON_AddObjectToObject(object, name) : NULL;
    for (size_t i = 0; i < pairs->count; i++) {
        size_t length = strcspn(pairs->items[i], "=");
        const char *variable = pairs->items[i][length] ? pairs->items[i] + length + 1 : NULL;
        if (!length || (variable && !*variable)) {
            options_fail(usage, "'%s' does not read NAME or NAME=VARIABLE", pairs->items[i]);
            return false;
        }
        auto_free char *secret = strndup(pairs->items[i], length);
        if (secret) {
            cJSON_DeleteItemFromObjectCaseSensitive(map, secret);
            cJSON_AddStringToObject(map, secret, variable ? variable : secret);
        }
    }
    return true;
}
