/* A tree, one entry after the other: directories before what is in them, names in the order of
 * their bytes, no symlink followed below the top. What vanishes meanwhile is left out. It holds a
 * descriptor and the names of each directory on the way, and nothing else. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#define WALK_DEPTH_MAX 256
#define WALK_PATH_MAX 4096

struct walk;

struct walk_entry {
    int parent_fd;    /* borrowed until the next call */
    const char *name; /* in parent_fd */
    const char *path; /* from the root that the walk was opened in; borrowed as well */
    struct stat status;
};

/* Walks below path ("" is root_fd itself), which is a directory; its own entry is not given. The
 * paths given begin with path. 0 or a negative errno. */
int walk_open(struct walk **ret_walk, int root_fd, const char *path);
/* 1 with an entry, 0 at the end, or a negative errno: -ENAMETOOLONG where a path is longer than
 * WALK_PATH_MAX, -ELOOP where the tree is deeper than WALK_DEPTH_MAX. */
int walk_next(struct walk *walk, struct walk_entry *ret_entry);
/* The directory given last is not gone into. */
void walk_skip(struct walk *walk);
void walk_close(struct walk *walk);
