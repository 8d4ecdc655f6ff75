/* Reads a tar member by member through libarchive and refuses what may not be applied to a tree;
 * what a visitor is given has passed every check. One thread. */
#pragma once

#include "supervisord/archive/members.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Where the archive comes from: a descriptor, or read as read(2) does. */
struct reader_source {
    int fd;
    ssize_t (*read)(void *arg, void *data, size_t size); /* NULL: fd */
    void *arg;
    uint64_t size; /* of the whole archive, where fd is no file; 0: unknown */
};

struct reader_limits {
    uint64_t max_entries, max_bytes; /* members; content of all files, holes as zeros */
    /* A system's root directory, for a visitor that is confined to the tree it makes: owners and
     * all of the mode are kept, device nodes and such left out, and symlinks, types and hard links
     * are its own to judge. */
    bool root_filesystem;
};

struct member_header {
    const char *path; /* clean, relative */
    enum member_type type;
    const char *link_target; /* of a symlink */
    const char *hard_link;   /* clean path of an earlier member, or NULL */
    uint64_t size;
    uint32_t mode; /* 0777; nothing else is kept, but for a root file system: 07777 and owners */
    uint32_t uid, gid;
    int64_t mtime_ns;
};

/* Both return false to stop (nobody listens any more). data comes in order and makes up size. */
struct reader_visitor {
    bool (*on_member)(void *arg, const struct member_header *member);
    bool (*on_data)(void *arg, const void *data, size_t length);
    void *arg;
};

struct reader_verdict {
    bool good;
    uint64_t entry_count, content_bytes;
    const char *compression; /* "none", "gzip", "zstd" */
    const char *code;        /* where not good */
    char detail[384];        /* printable ASCII and UTF-8 */
};

/* Reads all of the archive. visitor may be NULL: the check alone. */
void reader_run(const struct reader_source *source, const struct reader_limits *limits,
                const struct reader_visitor *visitor, struct reader_verdict *ret_verdict);
