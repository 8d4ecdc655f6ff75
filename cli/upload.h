/* A directory (packed here) or a tar file, streamed to POST /v1/uploads. */
#pragma once

#include "base/tar_pack.h"
#include "cli/command.h"

/* Uploads without a word on failure: it is given, and ret_reply holds the daemon's problem where
 * there is one. choice may be NULL. */
int upload_path(struct http *http, const char *path, const struct tar_pack_choice *choice,
                char *ret_id, size_t ret_size, struct buf *ret_reply,
                struct hearth_failure *failure);

/* 0 with the upload's ID in ret_id (ret_size bytes), or 1 with the failure told. */
int upload_seed(struct cli *cli, const char *path, const struct tar_pack_choice *choice,
                char *ret_id, size_t ret_size);
