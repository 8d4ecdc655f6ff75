/* The beginning of a file of the host, for what has a size of its own that is known to be small, to
 * descriptor 1: below a root that no symlink leads out of, with the rights of the owner of the
 * directory that it is in. The process confines itself before it opens the file. One thread. */
#pragma once

#include <stddef.h>

#define READ_SMALL_MAX ((size_t)(65536 + 4)) /* no more of it is read */

/* The status to exit with, as of pack_run. */
int read_small_run(const char *root, const char *path);
