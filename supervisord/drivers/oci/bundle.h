/* What an OCI runtime is told of a guest: config.json as the OCI runtime specification has it, and
 * the system calls that a guest may make. Pure functions, any thread. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct bundle {
    const char *guest_id;
    const char *hostname;
    uint32_t mem_mib;  /* bounds what tmpfs mounts may hold */
    bool has_id_range; /* more than one ID is mapped */
    /* NULL, or what bundle_seccomp_program gave, for a runtime that takes a ready filter. */
    const char *seccomp_program;
};

/* Appends the config. Its paths are those of hearth-launch's private namespace. 0 or
 * HEARTH_ENOMEMORY. */
int bundle_config(struct buf *out, const struct bundle *bundle);

/* Appends the value of linux.seccomp. */
int bundle_seccomp(struct buf *out);

/* The same as a BPF program in base64, which crun takes instead: made once, not for each guest.
 * Gives a string the caller frees, or NULL. */
char *bundle_seccomp_program(void);

/* Appends text as a JSON string. */
int bundle_string(struct buf *out, const char *text);
