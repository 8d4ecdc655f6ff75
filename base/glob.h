/* Patterns over paths, in time that is bounded by the product of both lengths: `?` is any character
 * and `*` any run of them but a slash, `**` a run with slashes, `[a-z]` and `[!a-z]` a set, a
 * backslash takes the next character as it is. "**" and a slash also stand for nothing, so that
 * "src/" with them and "x.c" names src/x.c too. Bytes, not characters. Pure, any thread. */
#pragma once

#include <stdbool.h>

bool glob_match(const char *pattern, const char *path);
/* A pattern without a slash is held against the last component, one with a slash against the whole
 * path; a slash at its start is not part of it. */
bool glob_match_path(const char *pattern, const char *path);
