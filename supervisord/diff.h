/* What has become of a workspace's files since its baseline. Loop thread. */
#pragma once

#include "supervisord/files.h"

#include <stddef.h>

struct diff_spec {
    const char *const *paths; /* as a tenant writes them; count 0: everything */
    size_t path_count;
    unsigned context;
    bool stat_only; /* no patch: contents are read only where nothing else decides */
    bool binary;    /* what is no text as git's binary patches */
    size_t max_patch_bytes, max_entries;
};

enum diff_status { DIFF_ADDED, DIFF_MODIFIED, DIFF_DELETED, DIFF_TYPE_CHANGED };
/* Why an entry has no patch of its own. */
enum diff_patch {
    DIFF_PATCH_TEXT,    /* it has one */
    DIFF_PATCH_NONE,    /* nothing that a patch can tell: a directory, other mode bits, stat_only */
    DIFF_PATCH_NO_TEXT, /* not UTF-8, or with NULs */
    DIFF_PATCH_TOO_LARGE, /* the file */
    DIFF_PATCH_LEFT_OUT,  /* max_patch_bytes is used up */
    DIFF_PATCH_RENAMED,   /* it is in the other entry of the rename */
};

struct diff_entry {
    const char *path; /* relative; bytes, not necessarily UTF-8 */
    enum diff_status status;
    enum file_type type;         /* now; of what was deleted, before */
    uint32_t old_mode, new_mode; /* 07777; 0 where there is none */
    bool has_old, has_new;
    const char *renamed_from, *renamed_to; /* NULL */
    int similarity;
    enum diff_patch patch_kind;
    const char *patch; /* text of patch_length bytes, or NULL */
    size_t patch_length;
};

struct diff_result {
    uint64_t total, added, modified, deleted, type_changed; /* whatever was left out */
    uint64_t text_patched, non_text;
    const struct diff_entry *entries;
    size_t entry_count; /* at most max_entries */
    const char *patch;
    size_t patch_length;
    uint64_t patches_left_out;
};

/* result is NULL on error and borrowed for the call. HEARTH_ECONFLICT `baseline_missing`,
 * HEARTH_EINVALID for a path (field "/paths"), and what a scan says. */
typedef void (*diff_done)(void *arg, int error, const struct hearth_failure *failure,
                          const struct diff_result *result);
void workspace_diff(struct workspace *workspace, const struct diff_spec *spec, diff_done done,
                    void *arg);
