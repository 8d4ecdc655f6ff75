/* Files of a workspace, all of it done by the agent in the guest: a path is relative to /workspace
 * (a leading /workspace/ is taken off) and never leaves it. Reads never bump last_activity_at;
 * writes do. Loop thread; completions exactly once, never before the call returns. */
#pragma once

#include "supervisord/workspace.h"

struct file_transfer;

enum file_type { FILE_OTHER, FILE_REGULAR, FILE_DIRECTORY, FILE_SYMLINK };
const char *file_type_name(enum file_type type); /* "file", "directory", "symlink", "other" */

struct file_entry {
    const char *path; /* absolute in the guest: /workspace/… ; not necessarily UTF-8 */
    enum file_type type;
    uint64_t size;
    uint32_t mode;
    int64_t mtime_us;
    const char *link_target; /* NULL but for a symlink */
};

typedef void (*files_listed)(void *arg, int error, const struct hearth_failure *failure,
                             const struct file_entry *entries, size_t count,
                             const char *next_cursor /* or NULL */);
void files_list(struct workspace *workspace, const char *path, bool recursive, unsigned limit,
                const char *cursor, files_listed done, void *arg);

#define FILES_ABSOLUTE_SIZE (sizeof "/workspace/" + 4096)

struct file_read_events {
    /* Once, first: what the file is. */
    void (*on_entry)(void *arg, const struct file_entry *entry);
    /* Each piece; a reader that is full calls file_transfer_pause. */
    void (*on_data)(void *arg, const void *data, size_t length);
    /* The end, once. */
    void (*on_end)(void *arg, int error, const struct hearth_failure *failure);
};
/* Reads length bytes (0: to the end) from offset. Gives a transfer borrowed until on_end. */
void files_read(struct workspace *workspace, const char *path, uint64_t offset, uint64_t length,
                const struct file_read_events *events, void *arg,
                struct file_transfer **ret_transfer);

struct file_written {
    uint64_t size, bytes_written;
    const char *path;
    bool created;
};
typedef void (*files_written)(void *arg, int error, const struct hearth_failure *failure,
                              const struct file_written *written);
struct file_write_spec {
    const char *path;
    uint32_t mode; /* permissions and S_IFREG; 0: keep, or 0644 */
    bool create_parents;
    const char *request_id;
};
/* Opens a write; then any number of file_write_data, then file_write_commit; done comes once, after
 * the commit or at an early error (data after it is ignored). on_writable (may be NULL) says that
 * there is room again after file_write_data gave false. Nothing is seen in the guest before the
 * commit. */
void files_write(struct workspace *workspace, const struct principal *principal,
                 const struct file_write_spec *spec, void (*on_writable)(void *arg),
                 files_written done, void *arg, struct file_transfer **ret_transfer);
bool file_write_data(struct file_transfer *transfer, const void *data, size_t length);
void file_write_commit(struct file_transfer *transfer);

void file_transfer_pause(struct file_transfer *transfer, bool paused);
/* Ends it without its last callback; a write leaves nothing. */
void file_transfer_abort(struct file_transfer *transfer);

/* Normalises a tenant's path into one relative to the workspace ("" is /workspace itself) in out.
 * HEARTH_EINVALID `path_outside_workspace` / `bad_path`, field "/path". Pure. */
int files_normalize(const char *path, char out[4096], struct hearth_failure *failure);
/* The same as an absolute path in the guest; of one that files_normalize refuses, /workspace. */
void files_absolute(const char *path, char out[FILES_ABSOLUTE_SIZE]);
