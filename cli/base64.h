/* RFC 4648 base64, padded, as JSON carries bytes. */
#pragma once

#include "base/buf.h"

/* Appends what text decodes to. 0, HEARTH_EINVALID, or as buf_append. */
int base64_decode(struct buf *out, const char *text);
