/* A directory beside the workspace, on its file system, where what is to be put into it all at once
 * is kept until then. Nobody's listing, export or diff shows it; one that a killed agent left is
 * found at the next start. One thread. */
#pragma once

#include <stdbool.h>

struct stage {
    int parent_fd, fd; /* -1: not open */
    char name[40];
};

#define STAGE_NONE ((struct stage){.parent_fd = -1, .fd = -1})

/* 0 or a negative errno. root_fd is the workspace. */
int stage_open(struct stage *stage, int root_fd);
/* Removes it with all that is in it. */
void stage_close(struct stage *stage);

/* Agent's start: finish is called for each one that was left, then it is removed. */
void stage_recover(int root_fd, void (*finish)(int root_fd, const struct stage *stage));
