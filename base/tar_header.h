/* The 512-byte blocks before a tar member's bytes: ustar (POSIX.1-1988), preceded by a pax header
 * (POSIX.1-2001) where a name, link target, size or time does not fit. Pure functions. */
#pragma once

#include "base/buf.h"

#include <stdint.h>
#include <sys/types.h>

#define TAR_BLOCK 512

enum tar_type { TAR_FILE = '0', TAR_HARD_LINK = '1', TAR_SYMLINK = '2', TAR_DIRECTORY = '5' };

struct tar_member {
    enum tar_type type;
    const char *path;        /* bytes; a directory's ends in a slash */
    const char *link_target; /* of a link, else NULL */
    uint64_t size;           /* of a file, else 0 */
    mode_t mode;             /* permission bits */
    int64_t mtime_ns;        /* since the epoch; before it is kept too */
};

/* Appends all blocks that come before the member's bytes. 0 or as buf_append. */
int tar_header_write(struct buf *out, const struct tar_member *member);

/* Appends a header that names nothing: a remark in the archive, which readers pass over. */
int tar_comment_write(struct buf *out, const char *comment);

/* How many zero bytes follow this many bytes of a file. */
size_t tar_padding(uint64_t size);
