/* How large a file system a directory tree needs. One thread. */
#pragma once

#include <stdint.h>

struct tree_measure {
    uint64_t file_count;  /* inodes: what has several names counts once for each */
    uint64_t block_bytes; /* content and directories in whole blocks; holes take none */
};

/* 0 or a negative errno. Follows no symlink, and stays on the tree's own file system. */
int tree_measure(const char *directory, struct tree_measure *ret_measure);
