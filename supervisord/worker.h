/* A small pool of threads for file-system work that would block the loop: trees removed,
 * directories made, hashes. */
#pragma once

#include "supervisord/loop.h"

struct worker_pool;

int worker_pool_new(struct worker_pool **ret_pool, struct loop *loop, unsigned threads,
                    struct hearth_failure *failure);
/* Finishes what is queued, joins. What is done is still told on the loop: loop_settle before this
 * where the completions speak to what is freed. */
void worker_pool_free(struct worker_pool *pool);

/* run(arg) on a worker, then done(arg) on the loop. Borrows arg until done. */
void worker_submit(struct worker_pool *pool, void (*run)(void *arg), void (*done)(void *arg),
                   void *arg);
