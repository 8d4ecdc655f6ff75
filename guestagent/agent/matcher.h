/* What a line is held against: bytes, or a regular expression in PCRE2's syntax with bounds on its
 * steps and memory, so that none can hold the agent. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct matcher;

/* 0, or -EINVAL with what is wrong with the pattern in problem, or -ENOMEM. */
int matcher_new(struct matcher **ret_matcher, const char *pattern, bool regex, bool ignore_case,
                char *problem, size_t problem_size);
void matcher_free(struct matcher *matcher);

enum match { MATCH_NONE, MATCH_FOUND, MATCH_TOO_COSTLY };
/* The first match in a line (without its newline), as the offset of its first byte. */
enum match matcher_find(struct matcher *matcher, const char *line, size_t length,
                        size_t *ret_offset);
/* Where in data the line that holds the next match may begin: nothing before it matches. length
 * where none does. A cheap way past most of a file, exact for plain bytes. */
size_t matcher_skip(const struct matcher *matcher, const char *data, size_t length);
