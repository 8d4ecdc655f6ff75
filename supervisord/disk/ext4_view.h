/* The ext4 file system on a machine's disk, listed and read for hearth-disk's answers by libext2fs,
 * which nothing here trusts either: the process is confined before. Paths are absolute and resolved
 * as the guest would. A refusal ends the process. */
#pragma once

#include "supervisord/disk/qcow2.h"

#include <stdbool.h>

void ext4_list(struct qcow2 *disk, const char *path, bool recursive, unsigned limit);
void ext4_read(struct qcow2 *disk, const char *path, uint64_t offset, uint64_t most);
