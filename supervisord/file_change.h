/* Files of a workspace made, moved, removed and searched, each in one call of the agent. Paths as
 * in files.h. Making, moving and removing count as activity, a search does not. Loop thread;
 * completions exactly once, never before the call returns. */
#pragma once

#include "supervisord/files.h"

struct file_asker {
    const struct principal *principal;
    const char *request_id;
};

/* path is where it is now (absolute), type what it is; NULL and FILE_OTHER after a removal. */
typedef void (*file_changed)(void *arg, int error, const struct hearth_failure *failure,
                             const char *path, enum file_type type);

/* mode 0: 0755. With parents one that is there already is no error. */
void file_make_directory(struct workspace *workspace, const struct file_asker *asker,
                         const char *path, bool parents, uint32_t mode, file_changed done,
                         void *arg);
void file_move(struct workspace *workspace, const struct file_asker *asker, const char *path,
               const char *to, bool replace, bool create_parents, file_changed done, void *arg);
/* A directory that is not empty goes with recursive alone. */
void file_remove(struct workspace *workspace, const struct file_asker *asker, const char *path,
                 bool recursive, file_changed done, void *arg);

struct file_search_spec {
    const char *path, *pattern;
    bool regex, ignore_case;
    const char *const *include, *const *exclude;
    size_t include_count, exclude_count;
    unsigned limit;
};
struct file_match {
    const char *path; /* absolute; borrowed for the call */
    uint64_t line, column, text_column;
    const char *text;
    size_t length;
};
struct file_search_result {
    const struct file_match *matches;
    size_t count;
    uint64_t files_searched, files_binary, files_large, files_unreadable, lines_too_costly;
    bool more, timed_out;
};
typedef void (*file_searched)(void *arg, int error, const struct hearth_failure *failure,
                              const struct file_search_result *result);
/* HEARTH_EINVALID `bad_pattern`, field "/pattern". */
void file_search(struct workspace *workspace, const struct file_search_spec *spec,
                 file_searched done, void *arg);
