/* Bytes of the daemon's on their way into a file or to stdout. */
#pragma once

#include "cli/command.h"

#include <stdbool.h>
#include <stdint.h>

/* GETs path as bytes into the file output (NULL: stdout). Zeros are holes in a file where `sparse`.
 * What fails leaves no file that was not there. Gives the exit status; failures are told. */
int download(struct cli *cli, const char *path, const char *output, bool sparse,
             uint64_t *ret_bytes);
