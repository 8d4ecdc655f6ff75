/* The kernel of virtual machines: Debian's, fetched as a package by its name as environments are
 * built (the same sources, package cache and lock) and unpacked as far as it is needed:
 *
 *   IMAGE_DIR/kernels/DIGEST/tree/vmlinuz          the bzImage
 *   IMAGE_DIR/kernels/DIGEST/tree/modules/NN-…ko   what the agent loads, in this order
 *   IMAGE_DIR/kernels/current                      "DIGEST VERSION"
 *
 * Loop thread. */
#pragma once

#include "supervisord/environment.h"

typedef void (*environment_kernel_done)(void *arg, int error, const struct hearth_failure *failure);

/* Is there one? Reads a small file. */
bool environment_kernel_present(const struct environments *environments);
/* Fetches it unless it is there; joins what is under way. done comes once, never before this
 * returns. HEARTH_EUNSUPPORTED `image_dir_read_only`, HEARTH_EUNAVAILABLE `kernel_fetch_failed`. */
void environment_ensure_kernel(struct environments *environments, environment_kernel_done done,
                               void *arg);
