/* The digits of whole numbers in JSON texts: a double holds no more than 2^53 of them, and an ID
 * that a client counts in nanoseconds is to come back as it was. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What stands behind the names of path (NULL-terminated), one object in the other, in a text that
 * is one JSON object. Gives where the number is, borrowed from the text; false where there is none,
 * or one that has more than digits and a sign. The text may be anything. */
bool json_digits(const char *text, size_t length, const char *const *path, const char **ret_digits,
                 size_t *ret_length);
