/* A patch put into a workspace, whole or not at all: parsed on a worker thread, the files that it
 * names read through the agent, the hunks applied on a worker, and what came of it put in place by
 * the agent in one step, unless a file was changed meanwhile. Counts as activity. Loop thread; done
 * exactly once, never before the call returns. */
#pragma once

#include "supervisord/workspace.h"

#define PATCH_TEXT_MAX ((size_t)8 << 20)
#define PATCH_FILE_MAX ((uint64_t)16 << 20)
#define PATCH_CONTENT_MAX ((uint64_t)128 << 20) /* of all files that are read */

struct patch_entry {
    const char *path;   /* relative to the workspace; not necessarily UTF-8 */
    const char *status; /* "added", "modified", "deleted" */
};
struct patch_result {
    const char *execution_mode;
    const struct patch_entry *entries;
    size_t count, added, modified, deleted;
    size_t binary_skipped; /* named by the patch as changed, without their content */
};
/* result is NULL on error; then nothing was changed. */
typedef void (*patch_done)(void *arg, int error, const struct hearth_failure *failure,
                           const struct patch_result *result);

void patch_apply(struct workspace *workspace, const struct principal *principal,
                 const char *request_id, const char *text, patch_done done, void *arg);
