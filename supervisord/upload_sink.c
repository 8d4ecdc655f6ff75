#include "supervisord/supervisor_internal.h"
#include "supervisord/upload_internal.h"

#include "base/id.h"
#include "base/path_at.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An upload on its way in: a file ID.part that is written on the loop (into the page cache), then
 * made durable on the worker, checked in a child, given its name on the worker, and put into the
 * database. After upload_finish it belongs to the step under way, which leads to the next or to
 * `end`. */
struct upload_sink {
    struct list link;        /* uploads::sinks */
    struct uploads *uploads; /* NULL: they are gone; the step under way is the last */
    struct upload_entry *entry;
    int fd, dir_fd; /* dir_fd: a copy, for the worker */
    crypto_hash_sha256_state hash;
    struct child *child;
    bool finishing;
    struct principal principal;
    char request_id[68];
    int step_errno; /* what a worker's step came to */
    upload_done done;
    void *arg;
    struct hearth_failure failure;
};

static void part_name(const struct upload_sink *sink, char out[ID_SIZE + 8])
{
    snprintf(out, ID_SIZE + 8, "%s.part", sink->entry->public.upload_id);
}

static void sink_free(struct upload_sink *sink)
{
    list_remove(&sink->link);
    cleanup_close(&sink->fd);
    cleanup_close(&sink->dir_fd);
    upload_entry_free(sink->entry);
    free(sink);
}

static struct upload_sink *sink_new(struct uploads *uploads, struct tenant *tenant)
{
    struct upload_sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return NULL;
    list_init(&sink->link);
    sink->uploads = uploads;
    sink->fd = -1;
    sink->dir_fd = fcntl(uploads->dir_fd, F_DUPFD_CLOEXEC, 3);
    sink->entry = calloc(1, sizeof *sink->entry);
    if (sink->entry)
        sink->entry->tenant = tenant;
    if (sink->dir_fd < 0 || !sink->entry) {
        sink_free(sink);
        return NULL;
    }
    sink->entry->public.tenant_id = tenant->tenant_id;
    list_append(&uploads->sinks, &sink->link);
    crypto_hash_sha256_init(&sink->hash);
    return sink;
}

int upload_begin(struct upload_sink **ret_sink, struct uploads *uploads, struct tenant *tenant,
                 struct hearth_failure *failure)
{
    char name[ID_SIZE + 8];
    struct upload_sink *sink = sink_new(uploads, tenant);
    if (!sink)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    id_make(sink->entry->public.upload_id, "up", uploads->node_tag);
    part_name(sink, name);
    sink->fd = openat(sink->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (sink->fd < 0) {
        int error = hearth_fail_errno(failure, errno, "upload_failed", "cannot make a file");
        sink_free(sink);
        return error;
    }
    *ret_sink = sink;
    return 0;
}

int upload_write(struct upload_sink *sink, const void *data, size_t length,
                 struct hearth_failure *failure)
{
    struct upload *upload = &sink->entry->public;
    uint64_t most = sink->uploads->limits.max_bytes;
    if (length > most - upload->size_bytes)
        return hearth_fail(failure, HEARTH_ETOOLARGE, "upload_too_large",
                           "an upload may have at most %llu bytes", (unsigned long long)most);
    struct tenant *tenant = sink->entry->tenant;
    if (tenant->upload_bytes + length > tenant->max_kept_upload_bytes) {
        hearth_fail(failure, HEARTH_EQUOTA, "quota_uploads",
                    "the tenant's uploads may have %llu bytes together",
                    (unsigned long long)tenant->max_kept_upload_bytes);
        hearth_failure_hint(failure, "Uploads go an hour after their last use; or have the quota "
                                     "raised.");
        return HEARTH_EQUOTA;
    }
    crypto_hash_sha256_update(&sink->hash, data, length);
    upload->size_bytes += length;
    tenant->upload_bytes += length;
    int error = path_write_all(sink->fd, data, length);
    return error ? hearth_fail_errno(failure, -error, "upload_failed", "cannot write the upload")
                 : 0;
}

void upload_abort(struct upload_sink *sink)
{
    char name[ID_SIZE + 8];
    part_name(sink, name);
    upload_remove_file(sink->uploads, name);
    sink_free(sink);
}

/* The one way out after upload_finish. */
static void end(struct upload_sink *sink, int error)
{
    struct upload_entry *entry = steal_pointer(sink->entry);
    char part[ID_SIZE + 8];
    snprintf(part, sizeof part, "%s.part", entry->public.upload_id);
    if (sink->uploads && !error && upload_keep(sink->uploads, entry))
        error = hearth_fail(&sink->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (sink->uploads && error) {
        upload_remove_file(sink->uploads, part);
        upload_remove_file(sink->uploads, entry->public.upload_id);
    }
    if (sink->uploads)
        sink->done(sink->arg, error, error ? &sink->failure : NULL, error ? NULL : &entry->public);
    if (!sink->uploads || error)
        upload_entry_free(entry);
    sink_free(sink);
}

static void on_row(void *arg, int error, const struct hearth_failure *failure)
{
    struct upload_sink *sink = arg;
    if (error)
        sink->failure = *failure;
    end(sink, error);
}

static void run_rename(void *arg)
{
    struct upload_sink *sink = arg;
    char part[ID_SIZE + 8];
    part_name(sink, part);
    if (renameat(sink->dir_fd, part, sink->dir_fd, sink->entry->public.upload_id) < 0 ||
        fsync(sink->dir_fd) < 0)
        sink->step_errno = errno;
}

static void on_renamed(void *arg)
{
    struct upload_sink *sink = arg;
    if (!sink->uploads || sink->step_errno) {
        end(sink, hearth_fail_errno(&sink->failure, sink->step_errno, "upload_failed",
                                    "cannot keep the upload"));
        return;
    }
    struct upload *upload = &sink->entry->public;
    upload->created_at = upload->last_used_at = clock_wall_us();
    struct change *change = change_new();
    upload_put_row(sink->entry, change);
    supervisor_audit_row(change, &sink->principal, sink->request_id, "upload_create",
                         upload->upload_id, "ok");
    change_commit(change, sink->uploads->writer, on_row, sink);
}

static void on_checked(void *arg, int error, const struct hearth_failure *failure,
                       const struct archive_verdict *verdict)
{
    struct upload_sink *sink = arg;
    sink->child = NULL;
    if (error)
        sink->failure = *failure;
    if (!sink->uploads || error) {
        end(sink, error);
        return;
    }
    sink->entry->public.entry_count = verdict->entry_count;
    sink->entry->public.content_bytes = verdict->content_bytes;
    memcpy(sink->entry->compression, verdict->compression, sizeof sink->entry->compression);
    worker_submit(sink->uploads->workers, run_rename, on_renamed, sink);
}

static void run_sync(void *arg)
{
    struct upload_sink *sink = arg;
    if (fdatasync(sink->fd) < 0)
        sink->step_errno = errno;
}

static void on_synced(void *arg)
{
    struct upload_sink *sink = arg;
    int error = 0;
    if (!sink->uploads || sink->step_errno) {
        error = hearth_fail_errno(&sink->failure, sink->step_errno, "upload_failed",
                                  "cannot store the upload");
    } else {
        struct archive_limits limits = {.max_entries = sink->uploads->limits.max_entries,
                                        .max_bytes = sink->uploads->limits.max_content_bytes};
        lseek(sink->fd, 0, SEEK_SET);
        error = archive_child_start(&sink->child, sink->uploads->loop, sink->fd, -1, &limits,
                                    on_checked, sink, &sink->failure);
    }
    if (error)
        end(sink, error);
}

void upload_finish(struct upload_sink *sink, const struct principal *principal,
                   const char *request_id, upload_done done, void *arg)
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&sink->hash, digest);
    sodium_bin2hex(sink->entry->public.sha256, sizeof sink->entry->public.sha256, digest,
                   sizeof digest);
    sink->principal = *principal;
    snprintf(sink->request_id, sizeof sink->request_id, "%s", request_id);
    sink->done = done;
    sink->arg = arg;
    sink->finishing = true;
    worker_submit(sink->uploads->workers, run_sync, on_synced, sink);
}

void upload_sinks_orphan(struct uploads *uploads)
{
    list_for_each(cursor, following, &uploads->sinks)
    {
        struct upload_sink *sink = container_of(cursor, struct upload_sink, link);
        if (!sink->finishing) {
            upload_abort(sink);
            continue;
        }
        list_remove(&sink->link);
        sink->uploads = NULL;
        if (sink->child)
            child_kill(sink->child);
    }
}
