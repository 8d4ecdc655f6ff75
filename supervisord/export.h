/* Export: what is in a workspace as a tar stream, with the members in the order of their names, so
 * that the same tree gives the same bytes. Symlinks stay symlinks, hard links hard links; sockets,
 * pipes and devices are left out. Names are relative: a directory's are those below it, with "./"
 * for itself; a file's or symlink's is its own. The guest's word is taken for nothing: names are
 * checked, and a file has the bytes that its header says or the stream ends as broken. Does not
 * count as activity. Loop thread. */
#pragma once

#include "supervisord/files.h"

struct export;

struct export_result {
    enum file_type type;                 /* of what was asked for */
    uint64_t entry_count, bytes_written; /* members; content of files */
    uint64_t skipped;                    /* sockets, pipes and devices */
    uint64_t changed; /* files that changed while they were read: a directory's archive ends with a
                         comment that names them */
};

struct export_events {
    /* Once, first, where there is something to export. */
    void (*on_begin)(void *arg, enum file_type type);
    /* Bytes of the tar; a reader that is full calls export_pause. */
    void (*on_data)(void *arg, const void *data, size_t length);
    /* The end, once. result is NULL on error. */
    void (*on_end)(void *arg, int error, const struct hearth_failure *failure,
                   const struct export_result *result);
};

/* Gives an export borrowed until on_end. */
void export_start(struct workspace *workspace, const char *path, const struct export_events *events,
                  void *arg, struct export **ret_export);
void export_pause(struct export *export, bool paused);
/* Ends it without on_end. */
void export_abort(struct export *export);
