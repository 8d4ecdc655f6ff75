#define PCRE2_CODE_UNIT_WIDTH 8

#include "guestagent/agent/matcher.h"

#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On one line. A sensible expression takes some hundred steps; this many take about a millisecond.
 */
#define STEPS_MAX 100000
#define DEPTH_MAX 10000
#define HEAP_MAX_KIB 4096
#define PATTERN_MAX 4096

struct matcher {
    char *bytes; /* plain bytes, NULL: the expression */
    size_t length;
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

static int compile(struct matcher *matcher, const char *pattern, uint32_t options, char *problem,
                   size_t problem_size)
{
    int number;
    PCRE2_SIZE offset;
    unsigned char text[160] = "";
    /* Guests' files are not always UTF-8: what is not matches nothing but itself. */
    options |= PCRE2_UTF | PCRE2_MATCH_INVALID_UTF;
    matcher->code =
        pcre2_compile((PCRE2_SPTR)pattern, strlen(pattern), options, &number, &offset, NULL);
    if (!matcher->code) {
        pcre2_get_error_message(number, text, sizeof text);
        snprintf(problem, problem_size, "at character %zu: %s", (size_t)offset + 1, text);
        return -EINVAL;
    }
    matcher->data = pcre2_match_data_create(1, NULL);
    matcher->context = pcre2_match_context_create(NULL);
    if (!matcher->data || !matcher->context)
        return -ENOMEM;
    pcre2_set_match_limit(matcher->context, STEPS_MAX);
    pcre2_set_depth_limit(matcher->context, DEPTH_MAX);
    pcre2_set_heap_limit(matcher->context, HEAP_MAX_KIB);
    return 0;
}

int matcher_new(struct matcher **ret_matcher, const char *pattern, bool regex, bool ignore_case,
                char *problem, size_t problem_size)
{
    size_t length = strlen(pattern);
    if (!length || length > PATTERN_MAX || strchr(pattern, '\n')) {
        snprintf(problem, problem_size, "a pattern has 1 to %d bytes and no newline", PATTERN_MAX);
        return -EINVAL;
    }
    struct matcher *matcher = calloc(1, sizeof *matcher);
    if (!matcher)
        return -ENOMEM;
    int error = 0;
    if (regex || ignore_case) {
        uint32_t options = ignore_case ? PCRE2_CASELESS : 0;
        error =
            compile(matcher, pattern, options | (regex ? PCRE2_NEVER_BACKSLASH_C : PCRE2_LITERAL),
                    problem, problem_size);
    } else {
        matcher->bytes = strdup(pattern);
        matcher->length = length;
        error = matcher->bytes ? 0 : -ENOMEM;
    }
    if (error) {
        matcher_free(matcher);
        return error;
    }
    *ret_matcher = matcher;
    return 0;
}

void matcher_free(struct matcher *matcher)
{
    if (!matcher)
        return;
    free(matcher->bytes);
    pcre2_code_free(matcher->code);
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    free(matcher);
}

enum match matcher_find(struct matcher *matcher, const char *line, size_t length,
                        size_t *ret_offset)
{
    if (matcher->bytes) {
        const char *found = memmem(line, length, matcher->bytes, matcher->length);
        if (!found)
            return MATCH_NONE;
        *ret_offset = (size_t)(found - line);
        return MATCH_FOUND;
    }
    int result =
        pcre2_match(matcher->code, (PCRE2_SPTR)line, length, 0, 0, matcher->data, matcher->context);
    if (result == PCRE2_ERROR_NOMATCH)
        return MATCH_NONE;
    if (result < 0)
        return MATCH_TOO_COSTLY;
    *ret_offset = pcre2_get_ovector_pointer(matcher->data)[0];
    return MATCH_FOUND;
}

size_t matcher_skip(const struct matcher *matcher, const char *data, size_t length)
{
    if (!matcher->bytes)
        return 0;
    const char *found = memmem(data, length, matcher->bytes, matcher->length);
    const char *newline = found ? memrchr(data, '\n', (size_t)(found - data)) : NULL;
    return !found ? length : newline ? (size_t)(newline + 1 - data) : 0;
}
