/* A staged tree put into a directory of the workspace: all of it or nothing. What can be refused is
 * found before the first name changes; what fails later (a full disk, a guest that changes things
 * meanwhile) is undone. Any thread. */
#pragma once

#include <stddef.h>

struct tree_commit {
    int staged_fd; /* the tree; borrowed */
    int aside_fd;  /* an empty directory on the same file system: what is replaced; borrowed */
    int root_fd;   /* the workspace; borrowed */
    const char *destination; /* below it, symlinks resolved; "" is the workspace */
    /* Where it fails: a sentence that names the member to blame, and how many members remain of a
     * commit that could not be undone. */
    char problem[400];
    size_t remaining;
};

/* 0 or a negative errno; EXDEV where a member would be written through a symlink. */
int tree_commit(struct tree_commit *commit);
