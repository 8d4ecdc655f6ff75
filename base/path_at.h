/* File access below a directory that somebody else may be changing: every open goes through
 * openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, so that no name, `..` or symlink leaves
 * the directory, not even one that is swapped in between. What is checked is the descriptor that
 * was opened, never a name. The functions from path_write_all on are for paths of our own choosing
 * in directories that nobody else can change: they follow symlinks. Any thread. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Opens path (relative, "" or "." is the directory itself) below dir_fd; O_CLOEXEC is added. Gives
 * a descriptor, or a negative errno: EXDEV where the path leaves the directory, ELOOP for a magic
 * link. */
int path_open_beneath(int dir_fd, const char *path, int flags, mode_t mode);

/* As path_open_beneath without a mode, and no symlink is followed, not on the way and not at the
 * end: ELOOP. With O_PATH | O_NOFOLLOW in flags a symlink at the end is what is opened. */
int path_open_plain(int dir_fd, const char *path, int flags);
/* The same for path_open_parent: no directory of path may be a symlink. */
int path_open_plain_parent(int dir_fd, const char *path, const char **ret_name);

/* Makes path and what is missing above it, as directories with this mode. 0 or a negative errno. */
int path_make_directories(int dir_fd, const char *path, mode_t mode);

/* Opens the directory that holds the last component of path and gives that component's name as a
 * pointer into path. Fails with -EINVAL where the last component is empty, "." or "..", and with
 * -EXDEV where path is absolute. */
int path_open_parent(int dir_fd, const char *path, const char **ret_name);

/* Removes what path names below dir_fd with all below it, without following a symlink and without
 * crossing into another file system, however deep it is. 0 or a negative errno; a name that is not
 * there is no error. */
int path_remove_tree(int dir_fd, const char *path);

/* Opens the directory of this name, which may be no symlink. Gives a descriptor or a negative
 * errno.
 */
int path_open_directory(int parent, const char *name);

/* Writes all of data to a file or pipe that blocks. 0 or a negative errno, which errno is too. */
int path_write_all(int fd, const void *data, size_t length);

/* Reads from a file or pipe that blocks up to its end, at most size bytes. Gives how many, or a
 * negative errno, which errno is too. */
ssize_t path_read_all(int fd, void *out, size_t size);

/* As path_make_directories, for an absolute path or one below the working directory. What is made
 * has this mode (as the umask leaves it). */
int path_make_own_directories(const char *path, mode_t mode);

/* Reads a small file whole (at most size - 1 bytes) into out with a NUL. Gives its length or a
 * negative errno. */
ssize_t path_read_small(int dir_fd, const char *path, char *out, size_t size);

/* Writes a file atomically and durably: a temporary name in the same directory, fsync, rename,
 * fsync of the directory. 0 or a negative errno. */
int path_write_durable(int dir_fd, const char *path, const void *data, size_t length, mode_t mode);
