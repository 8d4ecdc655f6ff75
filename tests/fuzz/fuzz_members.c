/* supervisord/archive/members.c: an archive's members, one a line, whose first byte is the type.
 * What is let in never lies below a file or a symlink, whatever comes after it. */
#include "fuzz.h"

#include "supervisord/archive/member_name.h"
#include "supervisord/archive/members.h"

#include <string.h>

#define NAMES_MAX 500

static void check_added(const struct members *members, const char *path, enum member_type type)
{
    char above[MEMBER_PATH_MAX + 1];
    PROMISE(members_find(members, path) == type);
    for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
        snprintf(above, sizeof above, "%.*s", (int)(slash - path), path);
        PROMISE(members_find(members, above) == MEMBER_DIRECTORY);
    }
}

/* A directory, once there, stays one: so what was let in below it stays where it is. */
static void check_directories(const struct members *members)
{
    char above[MEMBER_PATH_MAX + 1];
    for (size_t i = 0; i < members->map.bucket_count; i++)
        for (const struct map_entry *entry = members->map.buckets[i]; entry; entry = entry->next) {
            const char *slash = strrchr(entry->key, '/');
            if (!slash)
                continue;
            snprintf(above, sizeof above, "%.*s", (int)(slash - entry->key), entry->key);
            PROMISE(members_find(members, above) == MEMBER_DIRECTORY);
        }
}

static void take_line(struct members *members, const char *line)
{
    enum member_type type = MEMBER_FILE + (unsigned char)line[0] % 3;
    const char *name = line + 1;
    char clean[MEMBER_PATH_MAX + 1];
    if (member_name_clean(clean, name) == MEMBER_NAME_GOOD &&
        members_add(members, clean, type) == MEMBERS_ADDED)
        check_added(members, clean, type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *cursor = text;
    memcpy(text, data, size);
    text[size] = '\0';
    struct members members = {.limit = NAMES_MAX};
    for (char *line; (line = strsep(&cursor, "\n"));)
        if (*line)
            take_line(&members, line);
    PROMISE(members.map.count <= NAMES_MAX);
    check_directories(&members);
    members_free(&members);
    free(text);
    return 0;
}
