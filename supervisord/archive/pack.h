/* A directory, or a file that is an archive already, from the host to descriptor 1, below a root
 * that no symlink leads out of. The process confines itself once it has opened it. One thread. */
#pragma once

/* The status to exit with: 0; 1 with a reason on stderr; ARCHIVE_LEADS_OUT where the path leads out
 * of the root. */
int pack_run(const char *root, const char *path);
