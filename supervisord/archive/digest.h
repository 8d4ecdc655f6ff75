/* What a directory tree holds, as text that is the same for the same tree. */
#pragma once

#include <stdint.h>
#include <stdio.h>

struct digest_result {
    uint64_t entry_count, size_bytes;
    char digest[65]; /* SHA-256 of the text, hex */
};

/* Writes a line for each file below the directory: path, type, mode, owner, and size with SHA-256,
 * target, or device number; sorted. 0 or a negative errno, with *ret_path (freed by the caller) the
 * file it is about. */
int digest_tree(const char *directory, FILE *out, struct digest_result *ret_result,
                char **ret_path);
