/* A stored tree put into a fresh guest's /workspace, exactly: what the environment itself has there
 * goes first, and what is there in the end is compared with what was stored. Loop thread. */
#pragma once

#include "supervisord/tree/work.h"

struct put_back;

struct put_back_totals {
    uint64_t entry_count, bytes;
};

/* The tree of root (copied; the caller keeps its reference until done) goes into sandbox, which is
 * booted and is the workspace's own or one lent to it. done once, never before the call returns;
 * failure->error is 0 where all went well. */
struct put_back *put_back_begin(struct workspace *workspace, struct sandbox *sandbox,
                                const struct store_hash *root,
                                void (*done)(void *arg, const struct hearth_failure *failure),
                                void *arg);
void put_back_totals(const struct put_back *put, struct put_back_totals *ret_totals);
/* After done: the workspace's other works on its tree go on. keep: what is known of its tree is
 * what was put; else what was known before. Frees it. */
void put_back_end(struct put_back *put, bool keep);
