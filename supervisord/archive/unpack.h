/* Makes a root directory of the members of one or more archives (layers), in the process's own
 * root: every path is resolved by the kernel inside it, as a running system would. One thread. */
#pragma once

#include "supervisord/archive/members.h"
#include "supervisord/archive/reader.h"

struct unpack {
    bool layered;         /* members .wh.… take away what lower layers have put there */
    struct members layer; /* what this layer has put there */
    int fd;               /* of the file that is being written; -1 */
    int64_t mtime_ns;     /* for it, when it has been written */
    char detail[384];     /* what went wrong; "" if nothing has */
};

/* Visits with the unpack as arg. */
bool unpack_member(void *unpack, const struct member_header *member);
bool unpack_data(void *unpack, const void *data, size_t length);
/* After a layer. False where the last file could not be written. */
bool unpack_end_layer(struct unpack *unpack);

/* What every guest's root needs: mount points, /workspace, empty /etc/resolv.conf and
 * /etc/machine-id, an empty /dev. False, with the detail, also where there is no /bin/sh. */
bool unpack_finish(struct unpack *unpack);
