/* Paths as a process in the guest means them: a symlink to an absolute path below the workspace is
 * followed too. Every open is beneath the workspace all the same, so that nothing that changes
 * meanwhile leads out of it. */
#pragma once

#include "guestagent/agent/agent.h"

#define INSIDE_PATH_MAX 4096

/* What path (relative to the workspace, "" is the workspace) names once all symlinks on the way are
 * followed, the last one too where follow says so; relative to the workspace, "" or without "." and
 * "..". What is not there yet is taken as it is written. 0, -EXDEV where it leads out, -ELOOP,
 * -ENAMETOOLONG. */
int inside_resolve(const struct agent *agent, const char *path, bool follow,
                   char out[INSIDE_PATH_MAX]);

/* path_open_beneath and path_open_parent by that. */
int inside_open(const struct agent *agent, const char *path, int flags);
int inside_open_parent(const struct agent *agent, const char *path, const char **ret_name);

/* Where the workspace's directory was removed and made anew (`rm -rf /workspace && git clone …`),
 * root_fd leads to the new one from now on; where none was made, to an empty one. A symlink in its
 * place is not followed. root_fd keeps its number: what runs on another thread sees one or the
 * other. */
void inside_find_root(const struct agent *agent);
