/* Named files of an image: an OCI layout as a directory or a tar, or a docker archive. One is open
 * at a time. What is read is hashed on the way. One thread. */
#pragma once

#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct archive;

struct image_source {
    int fd; /* borrowed: of the directory, or of the tar, which must be seekable */
    bool is_directory;
};

struct image_file {
    int fd;                  /* in a directory; else -1 */
    struct archive *archive; /* at the member */
    const void *block;       /* what is left of the last block read of it */
    size_t block_length;
    uint64_t size, offset;
    crypto_hash_sha256_state hash;
};

/* 0, or a negative errno (ENOENT; EBADMSG where the tar cannot be read). A tar is searched from its
 * start. */
int image_file_open(struct image_file *ret_file, const struct image_source *source,
                    const char *name);
/* As read(2), with file as arg. */
ssize_t image_file_read(void *file, void *data, size_t size);
/* Reads what is left and gives the SHA-256 of the whole, hex. 0 or a negative errno. */
int image_file_digest(struct image_file *file, char out[65]);
void image_file_close(struct image_file *file);

/* A whole small file, NUL-terminated (freed by the caller), with its digest; NULL where it is not
 * there or larger than limit. */
char *image_file_text(const struct image_source *source, const char *name, size_t limit,
                      char digest[65]);
