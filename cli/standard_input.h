/* What a command in a workspace gets as its stdin: ours, where it is a file or pipe. */
#pragma once

#include "base/buf.h"
#include "base/failure.h"

/* Reads stdin to its end into out. Leaves out empty where stdin is a terminal, a device or a
 * socket: nobody piped anything in. It travels inside a JSON text, so it must be UTF-8 without NUL
 * and of at most 4 MiB. */
int standard_input_read(struct buf *out, struct hearth_failure *failure);
