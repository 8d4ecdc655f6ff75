#include "supervisord/archive/members.h"

#include "supervisord/archive/member_name.h"

#include <stdlib.h>
#include <string.h>

struct member {
    struct map_entry entry;
    enum member_type type;
    char path[];
};

static struct member *find(const struct members *members, const char *path)
{
    struct map_entry *entry = map_find(&members->map, path);
    return entry ? (struct member *)(void *)entry : NULL;
}

static enum members_verdict add(struct members *members, const char *path, enum member_type type)
{
    size_t length = strlen(path);
    if (members->map.count >= members->limit)
        return MEMBERS_TOO_MANY;
    struct member *member = malloc(sizeof *member + length + 1);
    if (!member)
        return MEMBERS_NO_MEMORY;
    member->type = type;
    memcpy(member->path, path, length + 1);
    if (map_insert(&members->map, &member->entry, member->path)) {
        free(member);
        return MEMBERS_NO_MEMORY;
    }
    return MEMBERS_ADDED;
}

/* Sees to it that path is a directory. */
static enum members_verdict pass(struct members *members, const char *path)
{
    const struct member *there = find(members, path);
    if (!there)
        return add(members, path, MEMBER_DIRECTORY);
    if (there->type == MEMBER_SYMLINK)
        return MEMBERS_THROUGH_SYMLINK;
    return there->type == MEMBER_DIRECTORY ? MEMBERS_ADDED : MEMBERS_CONFLICT;
}

enum members_verdict members_add(struct members *members, const char *path, enum member_type type)
{
    char above[MEMBER_PATH_MAX + 1];
    for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
        memcpy(above, path, (size_t)(slash - path));
        above[slash - path] = '\0';
        enum members_verdict verdict = pass(members, above);
        if (verdict != MEMBERS_ADDED)
            return verdict;
    }
    struct member *there = find(members, path);
    if (!there)
        return add(members, path, type);
    if ((there->type == MEMBER_DIRECTORY) != (type == MEMBER_DIRECTORY))
        return MEMBERS_CONFLICT;
    there->type = type;
    return MEMBERS_ADDED;
}

enum member_type members_find(const struct members *members, const char *path)
{
    const struct member *member = find(members, path);
    return member ? member->type : 0;
}

void members_free(struct members *members)
{
    for (size_t i = 0; i < members->map.bucket_count; i++)
        for (struct map_entry *entry = members->map.buckets[i]; entry;) {
            struct map_entry *next = entry->next;
            free(entry);
            entry = next;
        }
    map_free(&members->map);
}
