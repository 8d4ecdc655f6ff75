/* A stored tree as what the agent puts in place (agent_put). For workers. */
#pragma once

#include "base/buf.h"
#include "supervisord/tree/content.h"
#include "supervisord/tree/entries.h"

/* Zero-initialised with these two it begins at the first entry. */
struct restore {
    struct store *store;
    const struct tree_list *list; /* borrowed */
    size_t at;
    bool reading; /* the content of the entry at `at` */
    struct content_reader reader;
    unsigned char *scratch;
};

/* Some more messages; see struct agent_put_events. */
int restore_fill(struct restore *restore, struct buf *out, bool *ret_end,
                 struct hearth_failure *failure);
void restore_free(struct restore *restore);
