/* The disk of a stopped workspace, without booting it: listed, read, and exported as one raw ext4
 * image. All of it is done by hearth-disk, a child that is confined to that disk; what it says is
 * a stranger's, bounded and checked here. Paths are the guest's own, absolute or below /workspace.
 * None of it is activity. While a job runs the workspace cannot be started; a delete ends it.
 * Loop thread; completions exactly once, never before the call returns.
 *
 * Failures: HEARTH_ECONFLICT `workspace_not_stopped`, `workspace_busy`, `wrong_file_type`;
 * HEARTH_EINVALID `bad_path`; HEARTH_ENOTFOUND `file_not_found`; HEARTH_EUNAVAILABLE
 * `too_many_disk_jobs`; HEARTH_ENOSPACE; HEARTH_ETIMEDOUT `disk_timed_out`; HEARTH_EIO
 * `disk_unreadable`. */
#pragma once

#include "supervisord/files.h"

#define DISK_ENTRIES_MAX 10000 /* of a listing */

/* A job, borrowed until its completion. */
struct disk_job;
/* Ends it without its completion. */
void disk_cancel(struct disk_job *job);

/* more: there is more below path than was listed. */
typedef void (*disk_listed)(void *arg, int error, const struct hearth_failure *failure,
                            const char *path, const struct file_entry *entries, size_t count,
                            bool more);
void disk_list(struct workspace *workspace, const char *path, bool recursive, unsigned limit,
               disk_listed done, void *arg, struct disk_job **ret_job);

/* content is length bytes from offset, of a file of size bytes. */
typedef void (*disk_read_done)(void *arg, int error, const struct hearth_failure *failure,
                               const char *path, uint64_t size, const char *content, size_t length);
void disk_read(struct workspace *workspace, const char *path, uint64_t offset, size_t max_bytes,
               disk_read_done done, void *arg, struct disk_job **ret_job);

struct disk_export_events {
    void (*on_size)(void *arg, uint64_t size); /* once, first: the bytes that follow */
    void (*on_data)(void *arg, const void *data, size_t length);
    void (*on_end)(void *arg, int error, const struct hearth_failure *failure);
};
void disk_export(struct workspace *workspace, const struct disk_export_events *events, void *arg,
                 struct disk_job **ret_job);
/* Of an export whose reader is full. */
void disk_pause(struct disk_job *job, bool paused);

/* Pure: the one absolute form of a path in the guest. */
int disk_path_normalize(const char *path, char out[4096], struct hearth_failure *failure);
