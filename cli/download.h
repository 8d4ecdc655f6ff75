/* Bytes of the daemon's on their way into a file or to stdout. */
#pragma once

#include "cli/command.h"

#include <stdbool.h>
#include <stdint.h>

/* GETs path as bytes into the file output (NULL: stdout). range is a Range header's value, NULL for
 * all. Of an image zeros are holes, and it is never written over something that is there. What
 * fails leaves no file that was not there. Gives the exit status; failures are told. */
int download(struct cli *cli, const char *path, const char *range, const char *output, bool image,
             uint64_t *ret_bytes);
