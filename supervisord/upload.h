/* Uploads: a tar (plain, gzip, zstd) streamed to disk, checked by libarchive in a sandboxed child
 * (hearth-archive), kept for an hour after its last use, and put into any number of guests. The
 * daemon never parses an archive. */
#pragma once

#include "storage/store.h"
#include "supervisord/loop.h"

#include <stddef.h>
#include <stdint.h>

struct uploads;
struct upload_sink;
struct writer;

#define UPLOAD_LIFETIME_US (INT64_C(3600) * US_PER_S)

struct upload {
    char upload_id[24];
    const char *tenant_id;
    uint64_t size_bytes;    /* of the archive as sent */
    uint64_t entry_count;   /* members */
    uint64_t content_bytes; /* of all files unpacked */
    char sha256[65];        /* of the archive as sent */
    int64_t created_at, last_used_at;
    bool has_tree;          /* its content is in the tenant's store … */
    struct store_hash tree; /* … under this root, which the upload holds while it is there */
};

struct upload_limits {
    uint64_t max_bytes;         /* as sent: 413 */
    uint64_t max_content_bytes; /* unpacked */
    uint64_t max_entries;
};

int uploads_new(struct uploads **ret_uploads, struct loop *loop, struct writer *writer,
                const char *state_dir, const char *node_tag, const struct upload_limits *limits,
                struct hearth_failure *failure);
void uploads_free(struct uploads *uploads);
/* Start-up: what the database knows (struct row_upload); files without a row are removed after. */
struct row_upload;
struct tenant; /* NULL: unknown, the row is dropped */
int uploads_load(struct uploads *uploads, struct tenant *tenant, const struct row_upload *row);
void uploads_loaded(struct uploads *uploads);

typedef void (*upload_done)(void *arg, int error, const struct hearth_failure *failure,
                            const struct upload *upload);

struct principal;
/* A body on its way in. write gives 0, or HEARTH_ETOOLARGE / HEARTH_EQUOTA / HEARTH_ENOSPACE /
 * HEARTH_EIO with the failure; the caller then aborts. The bytes go to the page cache at once;
 * finish makes them durable, checks them in the child, writes the row and calls done once. */
int upload_begin(struct upload_sink **ret_sink, struct uploads *uploads, struct tenant *tenant,
                 struct hearth_failure *failure);
int upload_write(struct upload_sink *sink, const void *data, size_t length,
                 struct hearth_failure *failure);
/* The audit row, of who asks by which request, is written with the upload's. */
void upload_finish(struct upload_sink *sink, const struct principal *principal,
                   const char *request_id, upload_done done, void *arg);
void upload_abort(struct upload_sink *sink);

/* NULL where this tenant has none such, or it has expired. Borrowed until the loop's next turn. */
const struct upload *upload_find(struct uploads *uploads, const char *tenant_id,
                                 const char *upload_id);
/* Notes the root; false where the upload is gone. */
bool upload_set_tree(struct uploads *uploads, const char *upload_id, const struct store_hash *tree);
/* Called when an upload that holds a tree is forgotten. */
void uploads_on_forget(struct uploads *uploads,
                       void (*forgotten)(void *arg, const struct upload *upload), void *arg);
/* Starts the child that turns the archive into TreeItem messages for the agent: each is a 4-byte
 * big-endian length and that many bytes of protobuf, on *ret_fd (given to the caller; a pipe).
 * Counts as use. The child's verdict comes through done after the end of the stream. */
int upload_open_tree(struct uploads *uploads, const struct upload *upload, int *ret_fd,
                     void (*done)(void *arg, int error, const struct hearth_failure *failure),
                     void *arg, struct hearth_failure *failure);
