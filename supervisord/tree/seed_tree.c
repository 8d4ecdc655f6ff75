#include "supervisord/tree/seed_tree.h"

#include "base/log.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An upload on its way into the store. */
struct seed_tree {
    struct supervisor *supervisor;
    struct list link;    // supervisor::seed_trees
    struct list waiters; // finding::link
    char tenant_id[64], upload_id[ID_SIZE];
};

struct opening {
    struct supervisor *supervisor;
    char tenant_id[64], upload_id[ID_SIZE];
    void (*ready)(void *arg, struct ingest *ingest);
    void *arg;
};

struct finding {
    struct supervisor *supervisor;
    struct list link; // seed_tree::waiters
    char tenant_id[64], upload_id[ID_SIZE];
    void (*ready)(void *arg, const struct store_hash *root);
    void *arg;
};

static struct seed_tree *under_way(struct supervisor *supervisor, const char *upload_id)
{
    list_for_each(cursor, next, &supervisor->seed_trees)
    {
        struct seed_tree *tree = container_of(cursor, struct seed_tree, link);
        if (strcmp(tree->upload_id, upload_id) == 0)
            return tree;
    }
    return NULL;
}

static void told(void *arg)
{
    struct finding *finding = arg;
    const struct upload *upload =
        upload_find(finding->supervisor->uploads, finding->tenant_id, finding->upload_id);
    finding->ready(finding->arg, upload && upload->has_tree ? &upload->tree : NULL);
    free(finding);
}

static void ingested(void *arg, int error, const struct hearth_failure *failure,
                     const struct store_hash *root)
{
    struct seed_tree *tree = arg;
    struct supervisor *supervisor = tree->supervisor;
    if (error)
        log_warning("seed_not_stored", "upload=%s detail=\"%s\"", tree->upload_id, failure->detail);
    else if (!upload_set_tree(supervisor->uploads, tree->upload_id, root))
        stores_release(supervisor->stores, tree->tenant_id, root, 1, NULL);
    while (!list_empty(&tree->waiters)) {
        struct finding *finding = container_of(tree->waiters.next, struct finding, link);
        list_remove(&finding->link);
        told(finding);
    }
    list_remove(&tree->link);
    free(tree);
    supervisor->works--;
    supervisor_maybe_quiet(supervisor);
}

static void store_opened(void *arg, int error, const struct hearth_failure *failure,
                         const struct tenant_store *store)
{
    struct opening *opening = arg;
    struct supervisor *supervisor = opening->supervisor;
    const struct upload *upload =
        upload_find(supervisor->uploads, opening->tenant_id, opening->upload_id);
    struct ingest *ingest = NULL;
    (void)failure;
    if (!error && upload && !upload->has_tree && !under_way(supervisor, opening->upload_id)) {
        struct seed_tree *tree = calloc(1, sizeof *tree);
        if (!tree)
            abort();
        tree->supervisor = supervisor;
        memcpy(tree->tenant_id, opening->tenant_id, sizeof tree->tenant_id);
        memcpy(tree->upload_id, opening->upload_id, sizeof tree->upload_id);
        list_init(&tree->waiters);
        list_init(&tree->link);
        list_append(&supervisor->seed_trees, &tree->link);
        supervisor->works++;
        ingest = ingest_begin(supervisor->stores, store, ingested, tree);
    }
    opening->ready(opening->arg, ingest);
    free(opening);
}

void seed_tree_open(struct supervisor *supervisor, const char *tenant_id, const char *upload_id,
                    void (*ready)(void *arg, struct ingest *ingest), void *arg)
{
    struct opening *opening = calloc(1, sizeof *opening);
    if (!opening)
        abort();
    *opening = (struct opening){.supervisor = supervisor, .ready = ready, .arg = arg};
    snprintf(opening->tenant_id, sizeof opening->tenant_id, "%s", tenant_id);
    snprintf(opening->upload_id, sizeof opening->upload_id, "%s", upload_id);
    stores_use(supervisor->stores, tenant_id, store_opened, opening);
}

void seed_tree_find(struct supervisor *supervisor, const char *tenant_id, const char *upload_id,
                    void (*ready)(void *arg, const struct store_hash *root), void *arg)
{
    struct finding *finding = calloc(1, sizeof *finding);
    if (!finding)
        abort();
    *finding = (struct finding){.supervisor = supervisor, .ready = ready, .arg = arg};
    snprintf(finding->tenant_id, sizeof finding->tenant_id, "%s", tenant_id);
    snprintf(finding->upload_id, sizeof finding->upload_id, "%s", upload_id);
    list_init(&finding->link);
    struct seed_tree *tree = under_way(supervisor, upload_id);
    if (tree)
        list_append(&tree->waiters, &finding->link);
    else
        loop_defer(supervisor->loop, told, finding);
}
