/* Takes what must not be shown out of an answer: of its texts, never of its names and numbers, so
 * that it stays the JSON that it was. */
#pragma once

#include "base/buf.h"
#include "base/redact.h"

/* body is JSON as json_write.h writes it. 0, or as buf_append: body is then as it was. */
int json_redact(struct redact_values *values, struct buf *body);
