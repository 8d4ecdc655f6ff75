/* A secret's file_path over REST: a file of the daemon's host below one of the tenant's host_roots
 * (host_path.h), read by hearth-archive with the rights of the owner of the directory that it is
 * in. Loop thread. */
#pragma once

#include "supervisord/tenant.h"

struct supervisor;

/* value is NULL where error is not 0; it lies in locked memory and is wiped after the call. A
 * failure has no field: HEARTH_EINVALID `host_path_forbidden`, `host_path_unreadable`, `bad_secret`
 * (no text of 1 to SECRET_VALUE_MAX bytes). */
typedef void (*host_secret_done)(void *arg, int error, const struct hearth_failure *failure,
                                 const char *value);

/* Of a file of one line without the end of that line. done comes once, never before this returns.
 */
void host_secret_read(struct supervisor *supervisor, const struct principal *principal,
                      const char *path, host_secret_done done, void *arg);
