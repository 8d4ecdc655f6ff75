/* What the files disk*.c share. Loop thread. */
#pragma once

#include "supervisord/disk.h"
#include "supervisord/supervisor_internal.h"

enum disk_kind { DISK_LIST, DISK_READ, DISK_EXPORT };

struct disk_job {
    struct list link;            // workspace::disk_jobs, until its completion
    struct workspace *workspace; /* NULL once told */
    struct supervisor *supervisor;
    enum disk_kind kind;
    struct child *child; /* NULL: it could not be started */
    struct hearth_failure failure;
    char path[4096];
    size_t max_bytes;
    union {
        disk_listed listed;
        disk_read_done read;
        const struct disk_export_events *export;
    } done;
    void *arg;
    /* export */
    int fd;
    struct watch watch;
    bool watching, paused, sized, exited;
    char head[64];
    size_t head_length;
    uint64_t size, left;
};

/* disk_answer.c, pure. What hearth-disk has said (answer.h), checked: false where it is nothing
 * that it says. Entries point into output, which is NUL-terminated; freed by the caller. */
bool disk_parse_list(char *output, size_t length, struct file_entry **ret_entries,
                     size_t *ret_count, bool *ret_more);
bool disk_parse_read(const char *output, size_t length, size_t max_bytes, uint64_t *ret_size,
                     const char **ret_content, size_t *ret_length);
bool disk_parse_size(const char *line, uint64_t *ret_size);
/* "refused CODE DETAIL", or what else there is to say of a child that failed. */
void disk_parse_refusal(const char *output, const char *errors, struct hearth_failure *failure);
