/* hearth-archive as a child: archives are read there and nowhere else. Its answers are a stranger's
 * too, once an archive has broken it: bounded, and printable when they are passed on. Loop thread.
 */
#pragma once

#include "supervisord/loop.h"
#include "supervisord/spawn.h"

#include <stddef.h>
#include <stdint.h>

struct archive_limits {
    uint64_t max_entries, max_bytes; /* members; content of all files */
};

struct archive_verdict {
    uint64_t entry_count, content_bytes;
    char compression[8]; /* "none", "gzip", "zstd" */
};

/* verdict is NULL on error: HEARTH_EINVALID or HEARTH_ETOOLARGE where the archive is refused. */
typedef void (*archive_done)(void *arg, int error, const struct hearth_failure *failure,
                             const struct archive_verdict *verdict);

/* Reads the archive at fd (borrowed for the call; its offset moves). With out_fd (borrowed) -1 that
 * is the check; else its members go there as TreeItem messages. */
int archive_child_start(struct child **ret_child, struct loop *loop, int fd, int out_fd,
                        const struct archive_limits *limits, archive_done done, void *arg,
                        struct hearth_failure *failure);

/* Unpacks the image (format "rootfs", "oci" or "docker") at fd, a file or a directory, into an
 * empty directory; where the daemon is not root, all of it becomes its user's. lock (borrowed) is
 * held by the child for as long as it runs. */
int archive_child_unpack(struct child **ret_child, struct loop *loop, int fd, int lock_fd,
                         const char *format, const char *directory,
                         const struct archive_limits *limits, archive_done done, void *arg,
                         struct hearth_failure *failure);
