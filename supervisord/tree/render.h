/* The worker's part of a diff: what has to be read, and then the entries and the patch. */
#pragma once

#include "supervisord/diff.h"
#include "supervisord/tree/compare.h"
#include "supervisord/tree/work.h"

struct render {
    struct diff_spec spec; /* paths normalised */
    struct store *store;
    struct store_hash baseline;
    struct tree_list old;
    struct buf *kept; /* of the paths that are read, those whose text may be wanted */
    bool *keep;
    size_t kept_count, kept_bytes;
    struct diff_entry *entries;
    struct buf patch;
};

/* Loads the baseline and notes in work what must be read to tell what is changed and how. */
int render_plan(struct render *render, const struct tree_list *now, struct tree_work *work,
                struct hearth_failure *failure);
/* A piece of the file at index of what work names. */
int render_keep(struct render *render, size_t index, const void *data, size_t length,
                struct hearth_failure *failure);
/* When all is read. The result points into render, now and the baseline's list. */
int render_conclude(struct render *render, const struct tree_list *now, const char *const *paths,
                    size_t path_count, struct diff_result *ret_result,
                    struct hearth_failure *failure);
void render_free(struct render *render);
