/* Small helpers over text: UTF-8 and the names a tenant may choose. Pure functions, any thread. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length in bytes (1..4) of the well-formed UTF-8 sequence at data (RFC 3629), or 0 where there is
 * none. */
size_t utf8_sequence(const char *data, size_t length);
bool utf8_valid(const char *data, size_t length);

/* How many bytes at data's end (0..3) begin a character that what follows may complete. */
size_t utf8_begun(const char *data, size_t length);

/* Appends data to out with every ill-formed byte replaced by U+FFFD. 0 or as buf_append. */
int utf8_repair(struct buf *out, const char *data, size_t length);

/* Characters in well-formed UTF-8. */
size_t utf8_length(const char *data, size_t length);

/* Where the character begins that is so many on from the one at `at`, in well-formed UTF-8; length
 * where there are fewer. */
size_t utf8_skip(const char *data, size_t length, size_t at, uint64_t characters);

/* The value of a hexadecimal digit of either case, -1 of anything else. */
int text_hex_digit(char digit);

/* JSON pointer (RFC 6901) of the member `name` of what base points to, into size bytes; a
 * stranger's name is cut and escaped. */
void text_pointer(char *out, size_t size, const char *base, const char *name);

bool text_starts_with(const char *text, const char *prefix);

/* The length of a file's text without the end of its line, where it is one line that an editor or
 * `echo` has ended; of several lines the last keeps its own, which some programs insist on. */
size_t text_without_end(const char *text, size_t length);

/* The one of these literals that text is, the last where it is none of them; NULL ends the list. */
const char *text_literal(const char *const *list, const char *text);

/* Gives a copy of text, or NULL (text NULL or out of memory); the caller frees it. */
char *text_copy(const char *text);
