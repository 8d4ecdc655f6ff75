/* Reading a file: as JSON text for a tool, or as bytes with Range for a client that asks for them.
 */
#pragma once

#include "api/optable.h"

struct file_read_input {
    const char *workspace_id, *path, *encoding;
    int64_t max_bytes, offset;
};

extern const struct field file_read_input[], file_read_output[];

void file_read(struct call *call, const void *input);
/* file.c */
const char *execution_mode_of(struct workspace *workspace);
