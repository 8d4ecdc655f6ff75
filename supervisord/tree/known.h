/* What the last scan of a workspace's guest saw, with the hashes of the contents: by it a later one
 * tells what is unchanged without reading it. Also a file beside the tenant's packs, for after a
 * restart; losing it costs time and nothing else. For workers. */
#pragma once

#include "supervisord/tree/entries.h"

#define KNOWN_SCAN_ID_SIZE 40

struct known {
    struct tree_list list;
    char scan_id[KNOWN_SCAN_ID_SIZE]; /* the agent's name for it; "" */
    bool has_root, has_clean;
    struct store_hash root;  /* of the manifest of just this list */
    struct store_hash clean; /* of a manifest from which it does not differ to the eye of a diff */
};

void known_free(struct known *known);
/* Into dir_fd as name, atomically but not durably: a damaged one is told by its hash. */
void known_save(const struct known *known, int dir_fd, const char *name);
/* False, and empty, where there is none that can be used. */
bool known_load(struct known *known, int dir_fd, const char *name);
