/* What a request puts below one of the tenant's host_roots (output_path over REST): one new file,
 * directory or symlink, never over something that is there. hearth-archive makes it, as the owner
 * of the directory that it will be in, and gives it its name when all of it has come: an output
 * that fails or is given up leaves nothing. It is as durable as any file that a program has closed.
 * Loop thread. */
#pragma once

#include "supervisord/host_path.h"

#include <stddef.h>
#include <stdint.h>

struct host_output;

enum host_output_kind { HOST_OUTPUT_TREE /* a tar of ours */, HOST_OUTPUT_FILE };

struct host_output_result {
    uint64_t entry_count, bytes_written;
    char artifact_type[16];
};

struct host_output_events {
    void (*on_room)(void *arg); /* after a write gave false */
    /* Once, never before host_output_open returns: after host_output_end, or at an early failure.
     * result is NULL on error, and the failure without a field: HEARTH_EINVALID
     * `host_path_forbidden`, `host_path_unwritable`; HEARTH_ECONFLICT `output_exists`; or what
     * host_output_give_up was told. */
    void (*done)(void *arg, int error, const struct hearth_failure *failure,
                 const struct host_output_result *result);
};

/* Gives an output borrowed until done. events are borrowed until then too. */
void host_output_open(struct host_output **ret_output, struct supervisor *supervisor,
                      const struct principal *principal, const char *path,
                      enum host_output_kind kind, const struct host_output_events *events,
                      void *arg);
/* Of a file, first: how large it is. */
void host_output_size(struct host_output *output, uint64_t size);
/* All of it is taken; false: wait for on_room. */
bool host_output_write(struct host_output *output, const void *data, size_t length);
void host_output_end(struct host_output *output);
/* done tells this failure, once nothing is left of the output. */
void host_output_give_up(struct host_output *output, const struct hearth_failure *failure);
