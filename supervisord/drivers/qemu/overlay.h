/* A new, empty qcow2 overlay (version 3, 64 KiB clusters) over an image that whoever opens it
 * names: its header, an empty L1 table and the reference counts of both, written by ourselves, for
 * a process a workspace would cost more than all of that. Blocking, any thread. */
#pragma once

#include <stdint.h>

/* fd is an empty file. 0 or a negative errno (-EFBIG: more than an L1 table of one cluster maps).
 */
int overlay_write(int fd, uint64_t virtual_bytes);
