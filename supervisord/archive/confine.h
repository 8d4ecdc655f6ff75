/* The sandboxes of the programs that read what strangers made (hearth-archive, hearth-disk), each
 * entered before the first byte of it is read. */
#pragma once

#include <sys/types.h>

/* For what reads descriptor 0 and writes descriptors 1 and 2: no user anybody else is, no network,
 * no new descriptors, processes or files. Exits with a line on stderr where that cannot be had. */
void confine_reader(void);

/* For what makes files in a directory, which becomes its root: the same, but that it may make them
 * there, and whose they are. input_fd (a file or directory) stays readable. */
void confine_unpacker(const char *directory, int input_fd);

/* For what reads a directory tree and writes descriptors 1 and 2, where the process is root of a
 * user namespace and has a mount namespace of its own: the tree becomes its root, nothing can be
 * changed, and permissions do not matter to it. */
void confine_walker(const char *directory);

/* For what reads the tree of this directory, whosever it is, and writes descriptors 1 and 2: no
 * path outside of it is opened, and nothing is changed. */
void confine_packer(int directory_fd);

/* For what reads descriptor 0 and makes files in this directory, which nobody may have opened for
 * it in vain: it becomes the directory's owner, and no path outside of it is opened. */
void confine_writer(int directory_fd);

/* For what opens one file below root_fd and writes descriptors 1 and 2: it becomes the owner of the
 * directory that the file is in, and no path outside of the root is opened. */
void confine_opener(int root_fd, int directory_fd);

/* The same as confine_walker for what runs mke2fs on such a tree, or e2fsck, and may change the one
 * file that image_fd is. */
void confine_image_maker(int image_fd);
/* Before it, where there is no user namespace: root becomes this user, without network. */
void confine_user(uid_t uid);
