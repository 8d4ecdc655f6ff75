/* What git calls a file's content: 40 hexadecimal digits and a NUL. HEARTH_EUNSUPPORTED
 * `library_missing`. Any thread. */
#pragma once

#include "base/failure.h"

#include <stddef.h>

int tree_blob_id(char out[41], const void *data, size_t length, struct hearth_failure *failure);
