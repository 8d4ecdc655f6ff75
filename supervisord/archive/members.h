/* The tree that an archive's members make, as far as it has been read: what says whether the next
 * one is written through a symlink or links to what is not there. One thread. */
#pragma once

#include "base/map.h"

#include <stdint.h>

enum member_type { MEMBER_FILE = 1, MEMBER_DIRECTORY, MEMBER_SYMLINK };

struct members {
    struct map map;
    uint64_t limit; /* of names, also those of directories that no member names */
};

enum members_verdict {
    MEMBERS_ADDED,
    MEMBERS_THROUGH_SYMLINK, /* a directory of the path is a symlink of the archive */
    MEMBERS_CONFLICT,        /* a file where a directory must be, or the other way */
    MEMBERS_TOO_MANY,
    MEMBERS_NO_MEMORY,
};

/* Adds a clean path with the directories above it. The last member of a path counts. */
enum members_verdict members_add(struct members *members, const char *path, enum member_type type);
/* 0 where there is no such path. */
enum member_type members_find(const struct members *members, const char *path);
void members_free(struct members *members);
