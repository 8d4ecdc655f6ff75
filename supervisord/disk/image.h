/* A directory tree as one ext4 image: a sparse file with the tree's owners, modes, times, links,
 * holes and attributes, the same bytes for the same tree and seed. mke2fs writes it; what it takes
 * from the clock and from the host's own file system is put in order after. One thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define IMAGE_SEED_SIZE 32 /* bytes: for the identity of the file system and of its hashes */

/* Writes it to fd, a file that is empty and can be opened again through /proc. Gives its size;
 * durable then. 0 or a negative errno, with what went wrong in detail. */
int image_make(int fd, const char *tree, const unsigned char seed[IMAGE_SEED_SIZE],
               uint64_t *ret_bytes, char *detail, size_t detail_size);

/* Has e2fsck put in order what a guest that was killed has left half done in the image at fd; one
 * that is clean stays as it is. 0 or a negative errno. */
int image_repair(int fd, char *detail, size_t detail_size);
