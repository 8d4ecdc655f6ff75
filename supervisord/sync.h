/* Sync push: a tree put into a workspace, additively, whole or not at all. An archive that comes as
 * a stream passes through: from the caller to the sandboxed reader, from there to the agent, which
 * keeps it aside until the reader has found all of it good. Nothing of it is kept on this side.
 * Loop thread; completions exactly once, never before the call returns. */
#pragma once

#include "supervisord/workspace.h"

struct sync_push;

struct sync_spec {
    const char *destination; /* a path of the workspace */
    const char *source_path; /* what the client packed, told back; NULL */
    const char *upload_id;   /* NULL: a stream */
    const char *request_id;
};

struct sync_result {
    const char *workspace_id, *execution_mode;
    const char *mode; /* "directory" where source_path is known, else "tar_archive" */
    const char *source_path, *destination;
    uint64_t entry_count, bytes_written;
};
/* result is NULL on error; then nothing of the tree is there. */
typedef void (*sync_done)(void *arg, int error, const struct hearth_failure *failure,
                          const struct sync_result *result);

/* With an upload: done follows. */
void sync_upload(struct workspace *workspace, const struct principal *principal,
                 const struct sync_spec *spec, sync_done done, void *arg);

/* With a stream: any number of sync_write, then sync_finish, or sync_abort, which calls done too
 * (HEARTH_ECANCELLED). Where it fails before the end, what is still written is dropped and done
 * waits for the end. on_room says that there is room again after sync_write gave false. Gives a
 * push borrowed until done. */
void sync_stream(struct workspace *workspace, const struct principal *principal,
                 const struct sync_spec *spec, void (*on_room)(void *arg), sync_done done,
                 void *arg, struct sync_push **ret_push);
bool sync_write(struct sync_push *push, const void *data, size_t length);
void sync_finish(struct sync_push *push);
void sync_abort(struct sync_push *push);
