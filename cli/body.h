/* What is sent as a request's body: a file as it is, or a directory packed as a tar stream on the
 * way. Draws its progress where stderr is a terminal. */
#pragma once

#include "base/tar_pack.h"
#include "cli/progress.h"

struct body {
    struct tar_pack *pack; /* of a directory */
    int fd;                /* of a file */
    uint64_t done, total;  /* bytes read; total 0: unknown */
    struct progress progress;
    struct hearth_failure failure; /* why body_read gave up */
};

/* path and choice (of a directory) are borrowed until body_close. */
int body_open(struct body *ret_body, const char *path, const struct tar_pack_choice *choice,
              struct hearth_failure *failure);
/* An http_request's read, with the struct body as its argument. */
ssize_t body_read(void *arg, void *out, size_t size);
/* Clears the progress and says on stderr how many members were left out. */
void body_close(struct body *body);
