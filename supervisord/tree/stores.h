/* The stores of all tenants, each opened when it is first needed, on workers of their own: what
 * they do never holds up guests. Loop thread, but for what runs on the workers. */
#pragma once

#include "storage/store.h"
#include "supervisord/loop.h"

struct stores;

struct tenant_store {
    struct store *store; /* any thread */
    int dir_fd;          /* where known trees are kept too */
};

/* Names every root of the tenant's, for the counting at the opening. */
typedef void (*stores_each_root)(void *arg, const char *tenant_id,
                                 void (*visit)(void *visit_arg, const struct store_hash *root),
                                 void *visit_arg);

int stores_new(struct stores **ret_stores, struct loop *loop, const char *state_dir,
               stores_each_root each_root, void *arg, struct hearth_failure *failure);
void stores_free(struct stores *stores);

/* ready once, never before this returns; store is NULL on error. It stays until stores_free. */
typedef void (*store_ready)(void *arg, int error, const struct hearth_failure *failure,
                            const struct tenant_store *store);
void stores_use(struct stores *stores, const char *tenant_id, store_ready ready, void *arg);
/* run(arg) on a worker, then done(arg) on the loop. */
void stores_submit(struct stores *stores, void (*run)(void *arg), void (*done)(void *arg),
                   void *arg);
/* Gives roots back, when the database does not name them any more, and removes the file of a known
 * tree (NULL: none). Nobody waits for it. */
void stores_release(struct stores *stores, const char *tenant_id, const struct store_hash *roots,
                    size_t count, const char *known_name);
/* The same of one root, and fn(arg) once that counts for who looks into the store. Never before
 * this returns. */
void stores_release_then(struct stores *stores, const char *tenant_id,
                         const struct store_hash *root, void (*fn)(void *arg), void *arg);
/* After the start: opens the store of each tenant that has one, so that what a crash left is
 * dropped, and removes known trees that keep() does not want. */
void stores_tidy(struct stores *stores, bool (*keep)(void *arg, const char *known_name), void *arg);
