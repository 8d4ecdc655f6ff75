/* How far long work is, on stderr: a line that is redrawn where stderr is a terminal, else a line
 * for each stage. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label; /* borrowed: "debian:12" */
    bool terminal, drawn;
    char stage[64];
    int64_t next_us; /* not redrawn before */
};

void progress_begin(struct progress *progress, const char *label);
/* total 0: unknown. `bytes`: done and total are shown as sizes. */
void progress_update(struct progress *progress, const char *stage, uint64_t done, uint64_t total,
                     bool bytes);
/* Clears the line. */
void progress_end(struct progress *progress);
