/* Removal of directories that a guest has filled: of any depth, with a bounded number of open
 * descriptors, never through a symlink. */
#pragma once

/* A path that is not there is no error. Any failure ends the process through launch_die. */
void remove_tree(const char *path);
