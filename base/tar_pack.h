/* A directory as a tar stream (ustar, with pax headers where a name or size needs them), made as it
 * is read: nothing is held but one open file and the directories above it. Names are sorted, so the
 * same tree gives the same bytes. Symlinks are kept as they are and never followed, hard links are
 * kept, modes keep the permission bits, owners are left out; sockets, pipes and devices are passed
 * over. Everything is opened relative to its directory's descriptor. One thread. */
#pragma once

#include "base/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tar_pack;

#define TAR_PACK_DEPTH_MAX 64

struct tar_pack_stats {
    uint64_t entries, bytes; /* members given so far, and the bytes of their files */
    uint64_t skipped;        /* sockets, pipes, devices */
};

/* What is left out: excludes are patterns as glob_match_path has them; with gitignore also what the
 * .gitignore files in the directory say. Borrowed until tar_pack_close. */
struct tar_pack_choice {
    const char *const *excludes;
    size_t exclude_count;
    bool gitignore;
};
int tar_pack_open(struct tar_pack **ret_pack, const char *directory,
                  const struct tar_pack_choice *choice, struct hearth_failure *failure);
/* The same of an open directory, which is taken, also where it fails. */
int tar_pack_open_fd(struct tar_pack **ret_pack, int fd, const struct tar_pack_choice *choice,
                     struct hearth_failure *failure);

/* Gives bytes read, 0 at the end of the archive, or negative with the failure filled. */
ssize_t tar_pack_read(struct tar_pack *pack, void *out, size_t size,
                      struct hearth_failure *failure);
void tar_pack_stats(const struct tar_pack *pack, struct tar_pack_stats *ret_stats);
void tar_pack_close(struct tar_pack *pack);
