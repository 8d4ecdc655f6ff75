/* Paths of the daemon's own host that requests name (seed_path, source_path, output_path over
 * REST): read and written only below the host_roots that an administrator gave the tenant, none by
 * default, and only by hearth-archive, in a sandbox of its own. What is read becomes an upload of
 * the tenant: from then on it is one, with its limits, quota and checks. Loop thread. */
#pragma once

#include "supervisord/upload.h"

#include <limits.h>

struct supervisor;

#define HOST_ROOTS_MAX 16

/* Checks roots (absolute, without `..`) and joins them with newlines; the caller frees. At most
 * HOST_ROOTS_MAX. HEARTH_EINVALID `bad_host_root`, field "/host_roots". */
int host_roots_join(const char *const *roots, size_t count, char **ret_roots,
                    struct hearth_failure *failure);

/* The root that path is below, and what is below it ("." for the root itself). False where there is
 * none. */
bool host_roots_find(const char *roots, const char *path, char root[PATH_MAX],
                     const char **ret_below);

/* A directory, or a file that is a tar. The roots' own symlinks are followed, those below only as
 * far as they stay below. done comes once, never before this returns, with an upload or a failure
 * without a field: HEARTH_EINVALID `host_path_forbidden`, `host_path_unreadable`, or an upload's.
 */
void host_path_upload(struct supervisor *supervisor, const struct principal *principal,
                      const char *request_id, const char *path, upload_done done, void *arg);
