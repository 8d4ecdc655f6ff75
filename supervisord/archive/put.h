/* What comes on descriptor 0 as one new file, directory or symlink of the host, below a root that
 * no symlink leads out of. It is made beside its place and given its name at the end, so that what
 * was cut short leaves nothing. The process confines itself once it has opened the directory. One
 * thread.
 *
 * Gives the status to exit with: 0 with "good ENTRIES BYTES TYPE" on 1; 1 with "refused CODE
 * DETAIL" there (`output_exists`, `cannot_write`, `bad_reply`); ARCHIVE_LEADS_OUT where the
 * path leads out of the root. */
#pragma once

/* A tar as the daemon makes them. */
int put_tree(const char *root, const char *path);
/* "SIZE\n", and so many bytes; blocks of zeroes become holes. */
int put_file(const char *root, const char *path);
