#include "supervisord/upload_internal.h"

#include "base/id.h"
#include "base/path_at.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void upload_entry_free(struct upload_entry *entry)
{
    if (!entry)
        return;
    entry->tenant->upload_bytes -= entry->public.size_bytes;
    free(entry);
}

static int64_t expires_at(const struct upload_entry *entry)
{
    return entry->public.last_used_at + UPLOAD_LIFETIME_US;
}

/* The list is in the order of use, so its head is the next to go. */
static void set_expiry(struct uploads *uploads)
{
    if (list_empty(&uploads->entries)) {
        timer_unset(&uploads->expiry);
        return;
    }
    const struct upload_entry *first =
        container_of(uploads->entries.next, struct upload_entry, link);
    timer_set(&uploads->expiry,
              clock_monotonic_us() + (expires_at(first) - clock_wall_us()) + US_PER_MS);
}

struct removal {
    int dir_fd;
    char name[ID_SIZE + 8];
};

static void run_removal(void *arg)
{
    const struct removal *removal = arg;
    (void)path_remove_tree(removal->dir_fd, removal->name);
}

void upload_remove_file(struct uploads *uploads, const char *name)
{
    struct removal *removal = malloc(sizeof *removal);
    if (!removal)
        return; /* the next start removes what has no row */
    removal->dir_fd = uploads->dir_fd;
    snprintf(removal->name, sizeof removal->name, "%s", name);
    worker_submit(uploads->workers, run_removal, free, removal);
}

static void forget(struct uploads *uploads, struct upload_entry *entry)
{
    struct change *change = change_new();
    change_delete_upload(change, entry->public.upload_id);
    change_commit(change, uploads->writer, NULL, NULL);
    upload_remove_file(uploads, entry->public.upload_id);
    if (entry->public.has_tree && uploads->forgotten)
        uploads->forgotten(uploads->forgotten_arg, &entry->public);
    list_remove(&entry->link);
    map_remove(&uploads->map, &entry->map_entry);
    upload_entry_free(entry);
}

static void on_expiry(void *arg)
{
    struct uploads *uploads = arg;
    int64_t now = clock_wall_us();
    list_for_each(cursor, following, &uploads->entries)
    {
        struct upload_entry *entry = container_of(cursor, struct upload_entry, link);
        if (expires_at(entry) > now)
            break;
        forget(uploads, entry);
    }
    set_expiry(uploads);
}

int uploads_new(struct uploads **ret_uploads, struct loop *loop, struct writer *writer,
                const char *state_dir, const char *node_tag, const struct upload_limits *limits,
                struct hearth_failure *failure)
{
    char path[4096];
    struct uploads *uploads = calloc(1, sizeof *uploads);
    if (!uploads)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    *uploads = (struct uploads){
        .loop = loop, .writer = writer, .dir_fd = -1, .node_tag = node_tag, .limits = *limits};
    list_init(&uploads->entries);
    list_init(&uploads->sinks);
    timer_init(&uploads->expiry, loop, on_expiry, uploads);
    int error = worker_pool_new(&uploads->workers, loop, 1, failure);
    if (!error) {
        snprintf(path, sizeof path, "%s/uploads", state_dir);
        mkdir(path, 0700); /* the open says whether it is there */
        uploads->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (uploads->dir_fd < 0)
            error = hearth_fail_errno(failure, errno, "state_dir_unusable",
                                      "cannot use the directory of uploads");
    }
    if (error) {
        uploads_free(uploads);
        return error;
    }
    *ret_uploads = uploads;
    return 0;
}

void uploads_free(struct uploads *uploads)
{
    if (!uploads)
        return;
    upload_sinks_orphan(uploads);
    worker_pool_free(uploads->workers);
    timer_free(&uploads->expiry);
    list_for_each(cursor, following, &uploads->entries)
        upload_entry_free(container_of(cursor, struct upload_entry, link));
    map_free(&uploads->map);
    cleanup_close(&uploads->dir_fd);
    free(uploads);
}

int upload_keep(struct uploads *uploads, struct upload_entry *entry)
{
    int error = map_insert(&uploads->map, &entry->map_entry, entry->public.upload_id);
    if (error)
        return error;
    list_append(&uploads->entries, &entry->link);
    set_expiry(uploads);
    return 0;
}

void upload_put_row(const struct upload_entry *entry, struct change *change)
{
    const struct upload *upload = &entry->public;
    change_put_upload(change, &(struct row_upload){
                                  .upload_id = upload->upload_id,
                                  .tenant_id = upload->tenant_id,
                                  .size_bytes = upload->size_bytes,
                                  .entry_count = upload->entry_count,
                                  .content_bytes = upload->content_bytes,
                                  .sha256 = upload->sha256,
                                  .compression = entry->compression,
                                  .created_at = upload->created_at,
                                  .last_used_at = upload->last_used_at,
                              });
}

/* Rows come in the order of creation; the list is kept in that of use. */
static void insert_by_use(struct uploads *uploads, struct upload_entry *entry)
{
    struct list *after = uploads->entries.previous;
    while (after != &uploads->entries &&
           container_of(after, struct upload_entry, link)->public.last_used_at >
               entry->public.last_used_at)
        after = after->previous;
    list_insert(after->next, &entry->link);
}

static bool file_is_there(struct uploads *uploads, const struct row_upload *row)
{
    struct stat status;
    return id_valid(row->upload_id, "up") &&
           fstatat(uploads->dir_fd, row->upload_id, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(status.st_mode) && (uint64_t)status.st_size == row->size_bytes;
}

int uploads_load(struct uploads *uploads, struct tenant *tenant, const struct row_upload *row)
{
    if (!tenant || !file_is_there(uploads, row)) {
        struct change *change = change_new();
        change_delete_upload(change, row->upload_id);
        change_commit(change, uploads->writer, NULL, NULL);
        return 0;
    }
    struct upload_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return HEARTH_ENOMEMORY;
    entry->tenant = tenant;
    tenant->upload_bytes += row->size_bytes;
    entry->public = (struct upload){.tenant_id = tenant->tenant_id,
                                    .size_bytes = row->size_bytes,
                                    .entry_count = row->entry_count,
                                    .content_bytes = row->content_bytes,
                                    .created_at = row->created_at,
                                    .last_used_at = row->last_used_at};
    snprintf(entry->public.upload_id, sizeof entry->public.upload_id, "%s", row->upload_id);
    snprintf(entry->public.sha256, sizeof entry->public.sha256, "%s", row->sha256);
    snprintf(entry->compression, sizeof entry->compression, "%s",
             row->compression ? row->compression : "");
    if (map_insert(&uploads->map, &entry->map_entry, entry->public.upload_id)) {
        upload_entry_free(entry);
        return HEARTH_ENOMEMORY;
    }
    insert_by_use(uploads, entry);
    return 0;
}

/* Part of the start: reads the directory in place, before anything is served. */
void uploads_loaded(struct uploads *uploads)
{
    int fd = openat(uploads->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_closedir DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory)
        cleanup_close(&fd);
    for (struct dirent *file; directory && (file = readdir(directory));)
        if (text_starts_with(file->d_name, "up_") && !map_find(&uploads->map, file->d_name))
            upload_remove_file(uploads, file->d_name);
    set_expiry(uploads);
}

static struct upload_entry *find(const struct uploads *uploads, const char *upload_id)
{
    struct map_entry *entry = map_find(&uploads->map, upload_id);
    return entry ? container_of(entry, struct upload_entry, map_entry) : NULL;
}

const struct upload *upload_find(struct uploads *uploads, const char *tenant_id,
                                 const char *upload_id)
{
    const struct upload_entry *entry = id_valid(upload_id, "up") ? find(uploads, upload_id) : NULL;
    if (!entry || strcmp(entry->tenant->tenant_id, tenant_id) != 0 ||
        expires_at(entry) <= clock_wall_us())
        return NULL;
    return &entry->public;
}

bool upload_set_tree(struct uploads *uploads, const char *upload_id, const struct store_hash *tree)
{
    struct upload_entry *entry = find(uploads, upload_id);
    if (!entry)
        return false;
    entry->public.has_tree = true;
    entry->public.tree = *tree;
    return true;
}

void uploads_on_forget(struct uploads *uploads,
                       void (*forgotten)(void *arg, const struct upload *upload), void *arg)
{
    uploads->forgotten = forgotten;
    uploads->forgotten_arg = arg;
}

static void note_use(struct uploads *uploads, const char *upload_id)
{
    struct upload_entry *entry = find(uploads, upload_id);
    if (!entry)
        return;
    entry->public.last_used_at = clock_wall_us();
    list_remove(&entry->link);
    list_append(&uploads->entries, &entry->link);
    set_expiry(uploads);
    struct change *change = change_new();
    upload_put_row(entry, change);
    change_commit(change, uploads->writer, NULL, NULL);
}

struct tree_reader {
    void (*done)(void *arg, int error, const struct hearth_failure *failure);
    void *arg;
};

static void on_tree_end(void *arg, int error, const struct hearth_failure *failure,
                        const struct archive_verdict *verdict)
{
    (void)verdict;
    struct tree_reader *reader = arg;
    reader->done(reader->arg, error, failure);
    free(reader);
}

int upload_open_tree(struct uploads *uploads, const struct upload *upload, int *ret_fd,
                     void (*done)(void *arg, int error, const struct hearth_failure *failure),
                     void *arg, struct hearth_failure *failure)
{
    int ends[2];
    struct archive_limits limits = {.max_entries = uploads->limits.max_entries,
                                    .max_bytes = uploads->limits.max_content_bytes};
    auto_close int fd = path_open_beneath(uploads->dir_fd, upload->upload_id, O_RDONLY, 0);
    if (fd < 0)
        return hearth_fail_errno(failure, -fd, "upload_lost", "cannot read the upload");
    auto_free struct tree_reader *reader = malloc(sizeof *reader);
    if (!reader || pipe2(ends, O_CLOEXEC) < 0)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "no memory for a pipe");
    *reader = (struct tree_reader){.done = done, .arg = arg};
    auto_close int from = ends[0], to = ends[1];
    int error =
        archive_child_start(NULL, uploads->loop, fd, to, &limits, on_tree_end, reader, failure);
    if (error)
        return error;
    (void)steal_pointer(reader);
    *ret_fd = steal_fd(&from);
    note_use(uploads, upload->upload_id);
    return 0;
}
