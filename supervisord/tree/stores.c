#include "supervisord/tree/stores.h"

#include "base/list.h"
#include "base/log.h"
#include "base/path_at.h"
#include "base/text.h"
#include "supervisord/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORKERS 2

enum slot_state { SLOT_CLOSED, SLOT_OPENING, SLOT_OPEN };

struct slot {
    struct stores *stores;
    struct list link;    // stores::slots
    struct list waiters; // waiter::link
    enum slot_state state;
    struct tenant_store store;
    /* While it is opened. */
    struct store_hash *roots;
    size_t root_count;
    bool out_of_memory;
    struct hearth_failure failure;
    char tenant_id[];
};

struct waiter {
    struct list link; // slot::waiters
    store_ready ready;
    void *arg;
};

struct stores {
    struct loop *loop;
    struct worker_pool *workers;
    int dir_fd; /* STATE_DIR/store */
    stores_each_root each_root;
    void *arg;
    struct list slots;
};

int stores_new(struct stores **ret_stores, struct loop *loop, const char *state_dir,
               stores_each_root each_root, void *arg, struct hearth_failure *failure)
{
    char path[4096];
    struct stores *stores = calloc(1, sizeof *stores);
    if (!stores)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    *stores = (struct stores){.loop = loop, .dir_fd = -1, .each_root = each_root, .arg = arg};
    list_init(&stores->slots);
    snprintf(path, sizeof path, "%s/store", state_dir);
    mkdir(path, 0700); /* the open says whether it is there */
    stores->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = worker_pool_new(&stores->workers, loop, WORKERS, failure);
    if (!error && stores->dir_fd < 0)
        error = hearth_fail_errno(failure, errno, "state_dir_unusable",
                                  "cannot use the directory of stores");
    if (error) {
        stores_free(stores);
        return error;
    }
    *ret_stores = stores;
    return 0;
}

static void slot_free(struct slot *slot)
{
    list_for_each(waiting, following, &slot->waiters)
        free(container_of(waiting, struct waiter, link));
    store_close(slot->store.store);
    cleanup_close(&slot->store.dir_fd);
    free(slot->roots);
    free(slot);
}

void stores_free(struct stores *stores)
{
    if (!stores)
        return;
    worker_pool_free(stores->workers);
    list_for_each(cursor, next, &stores->slots)
    {
        slot_free(container_of(cursor, struct slot, link));
    }
    cleanup_close(&stores->dir_fd);
    free(stores);
}

void stores_submit(struct stores *stores, void (*run)(void *arg), void (*done)(void *arg),
                   void *arg)
{
    worker_submit(stores->workers, run, done, arg);
}

/* Opening. */

static void note_root(void *arg, const struct store_hash *root)
{
    struct slot *slot = arg;
    struct store_hash *roots = realloc(slot->roots, (slot->root_count + 1) * sizeof *roots);
    if (!roots) {
        slot->out_of_memory = true;
        return;
    }
    slot->roots = roots;
    roots[slot->root_count++] = *root;
}

/* A root that is not whole is told and passed over: the others are as good as they were. */
static void run_open(void *arg)
{
    struct slot *slot = arg;
    struct store *store = NULL;
    slot->failure = HEARTH_FAILURE_NONE;
    if (slot->out_of_memory) { /* opening without all roots would drop what is needed */
        hearth_fail(&slot->failure, HEARTH_ENOMEMORY, NULL, "out of memory for the store");
        return;
    }
    if (store_open(&store, slot->stores->dir_fd, slot->tenant_id, &slot->failure))
        return;
    bool whole = true;
    for (size_t i = 0; i < slot->root_count; i++) {
        struct hearth_failure failure;
        if (store_keep(store, &slot->roots[i], &failure)) {
            log_error("store_root_damaged", "tenant=%s detail=\"%s\"", slot->tenant_id,
                      failure.detail);
            whole = false;
        }
    }
    /* What is damaged may yet be mended from what else is there: nothing is dropped then. */
    if (whole && store_collect(store, false, &slot->failure))
        log_warning("store_not_tidied", "tenant=%s detail=\"%s\"", slot->tenant_id,
                    slot->failure.detail);
    slot->failure = HEARTH_FAILURE_NONE;
    slot->store.store = store;
    slot->store.dir_fd = openat(slot->stores->dir_fd, slot->tenant_id,
                                O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static void tell(struct slot *slot)
{
    bool open = slot->state == SLOT_OPEN;
    struct hearth_failure failure = slot->failure;
    struct list taken;
    list_init(&taken);
    while (!list_empty(&slot->waiters)) {
        struct list *first = slot->waiters.next;
        list_remove(first);
        list_append(&taken, first);
    }
    while (!list_empty(&taken)) {
        struct waiter *waiter = container_of(taken.next, struct waiter, link);
        list_remove(&waiter->link);
        waiter->ready(waiter->arg, open ? 0 : (int)failure.error, &failure,
                      open ? &slot->store : NULL);
        free(waiter);
    }
}

static void opened(void *arg)
{
    struct slot *slot = arg;
    free(steal_pointer(slot->roots));
    slot->root_count = 0;
    slot->state = slot->store.store ? SLOT_OPEN : SLOT_CLOSED;
    if (!slot->store.store)
        log_error("store_not_opened", "tenant=%s detail=\"%s\"", slot->tenant_id,
                  slot->failure.detail);
    tell(slot);
}

static void tell_open(void *arg)
{
    tell(arg);
}

static struct slot *slot_of(struct stores *stores, const char *tenant_id)
{
    list_for_each(cursor, next, &stores->slots)
    {
        struct slot *slot = container_of(cursor, struct slot, link);
        if (strcmp(slot->tenant_id, tenant_id) == 0)
            return slot;
    }
    size_t length = strlen(tenant_id) + 1;
    struct slot *slot = calloc(1, sizeof *slot + length);
    if (!slot)
        abort();
    slot->stores = stores;
    slot->store.dir_fd = -1;
    memcpy(slot->tenant_id, tenant_id, length);
    list_init(&slot->waiters);
    list_append(&stores->slots, &slot->link);
    return slot;
}

void stores_use(struct stores *stores, const char *tenant_id, store_ready ready, void *arg)
{
    struct slot *slot = slot_of(stores, tenant_id);
    struct waiter *waiter = malloc(sizeof *waiter);
    if (!waiter)
        abort();
    *waiter = (struct waiter){.ready = ready, .arg = arg};
    list_init(&waiter->link);
    list_append(&slot->waiters, &waiter->link);
    if (slot->state == SLOT_OPEN) {
        loop_defer(stores->loop, tell_open, slot);
    } else if (slot->state == SLOT_CLOSED) {
        slot->state = SLOT_OPENING;
        slot->out_of_memory = false;
        stores->each_root(stores->arg, tenant_id, note_root, slot);
        worker_submit(stores->workers, run_open, opened, slot);
    }
}

/* Giving back. */

struct release {
    struct stores *stores;
    const struct tenant_store *store;
    char known_name[64];
    void (*then)(void *arg); /* NULL: nobody waits */
    void *arg;
    size_t count;
    struct store_hash roots[];
};

static void run_release(void *arg)
{
    struct release *release = arg;
    struct hearth_failure failure;
    for (size_t i = 0; i < release->count; i++)
        store_release(release->store->store, &release->roots[i]);
    if (*release->known_name)
        unlinkat(release->store->dir_fd, release->known_name, 0);
    if (release->count && store_collect(release->store->store, false, &failure))
        log_warning("store_not_tidied", "detail=\"%s\"", failure.detail);
}

static void released(void *arg)
{
    auto_free struct release *release = arg;
    if (release->then)
        release->then(release->arg);
}

static void release_ready(void *arg, int error, const struct hearth_failure *failure,
                          const struct tenant_store *store)
{
    struct release *release = arg;
    (void)failure;
    release->store = store;
    if (error) /* the next start counts anew */
        released(release);
    else
        worker_submit(release->stores->workers, run_release, released, release);
}

static struct release *release_new(struct stores *stores, const struct store_hash *roots,
                                   size_t count)
{
    struct release *release = calloc(1, sizeof *release + count * sizeof *roots);
    if (!release)
        return NULL;
    release->stores = stores;
    release->count = count;
    if (count)
        memcpy(release->roots, roots, count * sizeof *roots);
    return release;
}

static void begin_release(struct release *release, const char *tenant_id)
{
    /* A store that is not open yet is opened without them: then they are as good as given back. */
    if (slot_of(release->stores, tenant_id)->state == SLOT_CLOSED)
        release->count = 0;
    stores_use(release->stores, tenant_id, release_ready, release);
}

void stores_release(struct stores *stores, const char *tenant_id, const struct store_hash *roots,
                    size_t count, const char *known_name)
{
    if (!count && !known_name)
        return;
    struct release *release = release_new(stores, roots, count);
    if (!release)
        return; /* the next start counts anew */
    snprintf(release->known_name, sizeof release->known_name, "%s", known_name ? known_name : "");
    begin_release(release, tenant_id);
}

void stores_release_then(struct stores *stores, const char *tenant_id,
                         const struct store_hash *root, void (*fn)(void *arg), void *arg)
{
    struct release *release = release_new(stores, root, 1);
    if (!release)
        abort();
    release->then = fn;
    release->arg = arg;
    begin_release(release, tenant_id);
}

static void tidied(void *arg, int error, const struct hearth_failure *failure,
                   const struct tenant_store *store)
{
    (void)arg;
    (void)error;
    (void)failure;
    (void)store;
}

static void tidy_tenant(struct stores *stores, const char *tenant_id,
                        bool (*keep)(void *arg, const char *known_name), void *arg)
{
    int fd = openat(stores->dir_fd, tenant_id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    auto_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        cleanup_close(&fd);
        return;
    }
    for (struct dirent *file; (file = readdir(directory));)
        if (text_starts_with(file->d_name, "known-") && !keep(arg, file->d_name))
            unlinkat(fd, file->d_name, 0);
    stores_use(stores, tenant_id, tidied, NULL);
}

/* Part of the start: reads the directories in place, before anything is served. */
void stores_tidy(struct stores *stores, bool (*keep)(void *arg, const char *known_name), void *arg)
{
    int fd = openat(stores->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory)
        cleanup_close(&fd);
    for (struct dirent *file; directory && (file = readdir(directory));)
        if (file->d_name[0] != '.')
            tidy_tenant(stores, file->d_name, keep, arg);
}
