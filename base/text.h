/* Small helpers over text: UTF-8 and the names a tenant may choose. Pure functions, any thread. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* Length in bytes (1..4) of the well-formed UTF-8 sequence at data (RFC 3629), or 0 where there is
 * none. */
size_t utf8_sequence(const char *data, size_t length);
bool utf8_valid(const char *data, size_t length);

/* Appends data to out with every ill-formed byte replaced by U+FFFD. 0 or as buf_append. */
int utf8_repair(struct buf *out, const char *data, size_t length);

/* The value of a hexadecimal digit of either case, -1 of anything else. */
int text_hex_digit(char digit);

bool text_starts_with(const char *text, const char *prefix);

/* Gives a copy of text, or NULL (text NULL or out of memory); the caller frees it. */
char *text_copy(const char *text);
