/* What hearth-disk says on descriptor 1, for a reader that trusts none of it. A listing is records
 * that end in two NULs' texts: "TYPE MODE SIZE SECONDS.NANOSECONDS PATH\0TARGET\0", and last
 * "end 0\0" or, where there was more than the limit, "end 1\0". A file is "good SIZE LENGTH\n" and
 * LENGTH bytes; an image "good SIZE\n" and SIZE bytes. Anything else is "refused CODE DETAIL\n". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ANSWER_LIST_MAX ((size_t)4 << 20) /* bytes of a whole listing */

struct answer_entry {
    const char *path, *target; /* target "" but for a symlink */
    mode_t mode;               /* with the type */
    uint64_t size;
    int64_t seconds;
    uint32_t nanoseconds;
};

struct answer_list {
    unsigned left; /* entries */
    size_t bytes;
    bool more;
};

/* False where there is no room for it: the listing ends there. */
bool answer_add(struct answer_list *list, const struct answer_entry *entry);
void answer_end(const struct answer_list *list);

/* Ends the process. */
void answer_refuse(const char *code, const char *detail) __attribute__((noreturn));
/* The same for an errno. */
void answer_refuse_errno(int error) __attribute__((noreturn));

/* Writes all of it, or ends the process: nobody takes it any more. */
void answer_bytes(const void *data, size_t length);
