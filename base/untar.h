/* A tar stream as the daemon sends it, unpacked as it comes: into one new directory, or one new
 * file or symlink. Nothing is written outside of that: a name that is absolute or holds "..", or
 * would be written through a symlink, ends it. All of it is made beside the output under a name of
 * its own and given the output's name at the end, which must not be taken. One thread. */
#pragma once

#include "base/failure.h"

#include <stddef.h>
#include <stdint.h>

struct untar;

struct untar_stats {
    const char *artifact_type; /* "directory", "file", "symlink" */
    uint64_t entries, bytes;
    uint64_t changed; /* remarks in the archive: files that changed while they were read */
};

/* What the archive says of itself: length bytes of a line. */
typedef void (*untar_remark)(const char *line, int length);

/* output is a path of our own (above_fd -1), or a plain name in the directory above_fd, which is
 * taken, also on failure. remark may be NULL. HEARTH_ECONFLICT `output_exists` where there is
 * something at output. */
int untar_open(struct untar **ret_untar, int above_fd, const char *output, untar_remark remark,
               struct hearth_failure *failure);
int untar_write(struct untar *untar, const void *data, size_t length,
                struct hearth_failure *failure);
/* The archive must have had its end. */
int untar_finish(struct untar *untar, struct untar_stats *ret_stats,
                 struct hearth_failure *failure);
/* Removes what is not finished. */
void untar_close(struct untar *untar);
