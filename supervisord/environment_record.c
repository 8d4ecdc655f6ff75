#include "supervisord/environment_record.h"

#include "supervisord/environment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

bool environment_version_valid(const char *version)
{
    return version && strlen(version) == ENVIRONMENT_VERSION_SIZE - 1 &&
           strspn(version, DIGITS "abcdef") == ENVIRONMENT_VERSION_SIZE - 1;
}

bool environment_name_valid(const char *name)
{
    if (!name)
        return false;
    size_t repository = strspn(name, LOWER DIGITS "._-");
    if (repository < 1 || repository > 64 || strchr("._-", name[0]))
        return false;
    if (!name[repository])
        return true;
    if (name[repository] != ':')
        return false;
    const char *tag = name + repository + 1;
    size_t length = strspn(tag, LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "._-");
    return length >= 1 && length <= 64 && !tag[length] && !strchr("._-", tag[0]);
}

static bool take_text(char *out, size_t size, const char *value)
{
    size_t length = strlen(value);
    if (length >= size)
        return false;
    memcpy(out, value, length + 1);
    return true;
}

static bool take_number(int64_t *out, const char *value)
{
    char *end;
    errno = 0;
    *out = strtoll(value, &end, 10);
    return value[0] >= '0' && value[0] <= '9' && !*end && !errno;
}

static bool take_line(struct environment_record *record, const char *key, const char *value)
{
    int64_t number;
    if (strcmp(key, "version") == 0)
        return take_text(record->version, sizeof record->version, value);
    if (strcmp(key, "name") == 0)
        return take_text(record->name, sizeof record->name, value);
    if (strcmp(key, "source") == 0)
        return take_text(record->source, sizeof record->source, value);
    if (strcmp(key, "description") == 0)
        return take_text(record->description, sizeof record->description, value);
    if (strcmp(key, "built_at") == 0)
        return take_number(&record->built_at, value);
    if (strcmp(key, "size_bytes") == 0) {
        bool good = take_number(&number, value);
        record->size_bytes = (uint64_t)number;
        return good;
    }
    return true;
}

bool environment_record_parse(struct environment_record *ret_record, char *text)
{
    struct environment_record record = {0};
    for (char *line; (line = strsep(&text, "\n"));) {
        char *value = strchr(line, ' ');
        if (!value)
            continue;
        *value++ = '\0';
        if (!take_line(&record, line, value))
            return false;
    }
    if (!environment_version_valid(record.version) || !environment_name_valid(record.name))
        return false;
    *ret_record = record;
    return true;
}

int environment_record_print(const struct environment_record *record, struct buf *out)
{
    return buf_printf(out,
                      "version %s\nname %s\nsource %s\nsize_bytes %" PRIu64 "\nbuilt_at %" PRId64
                      "\ndescription %s\n",
                      record->version, record->name, record->source, record->size_bytes,
                      record->built_at, record->description);
}
