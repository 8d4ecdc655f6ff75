/* A directory tree that is this process's root, listed and read for hearth-disk's answers. Paths
 * are absolute and resolved as the guest would; symlinks never leave the root. A refusal ends the
 * process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void tree_list(const char *path, bool recursive, unsigned limit);
void tree_read(const char *path, uint64_t offset, uint64_t most);
