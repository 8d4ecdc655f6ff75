#include "base/glob.h"

#include <string.h>

/* Does the set at pattern (after its '[') hold character? Gives where the pattern goes on, or NULL
 * where the set has no end and the '[' stands for itself. */
static const char *match_set(const char *pattern, char character, bool *ret_held)
{
    bool inverted = *pattern == '!' || *pattern == '^', held = false;
    const char *at = pattern + inverted;
    for (bool first = true; *at && (first || *at != ']'); first = false) {
        if (*at == '\\' && at[1])
            at++;
        unsigned char low = (unsigned char)*at++, high = low;
        if (*at == '-' && at[1] && at[1] != ']') {
            at++;
            if (*at == '\\' && at[1])
                at++;
            high = (unsigned char)*at++;
        }
        held = held || ((unsigned char)character >= low && (unsigned char)character <= high);
    }
    if (*at != ']')
        return NULL;
    *ret_held = held != inverted && character != '/';
    return at + 1;
}

/* One character against one element that is no star; NULL where they do not fit. */
static const char *match_one(const char *pattern, char character)
{
    bool held;
    const char *rest;
    switch (*pattern) {
    case '\0':
        return NULL;
    case '?':
        return character != '/' ? pattern + 1 : NULL;
    case '[':
        rest = match_set(pattern + 1, character, &held);
        if (rest)
            return held ? rest : NULL;
        break;
    case '\\':
        if (pattern[1])
            pattern++;
        break;
    default:
        break;
    }
    return *pattern == character ? pattern + 1 : NULL;
}

/* Where to go on when what follows a star does not fit: it takes one character more. */
struct retry {
    const char *pattern, *path; /* pattern NULL: no such star yet */
};

bool glob_match(const char *pattern, const char *path)
{
    struct retry star = {0}, deep = {0};
    const char *begin = pattern;
    while (*path || *pattern) {
        if (pattern[0] == '*' && pattern[1] == '*') {
            bool components = pattern == begin || pattern[-1] == '/';
            pattern += strspn(pattern, "*");
            deep = (struct retry){pattern, path};
            star.pattern = NULL;
            if (components && *pattern == '/')
                pattern++; /* first as nothing; a retry takes it as a run of components */
            continue;
        }
        if (*pattern == '*') {
            star = (struct retry){++pattern, path};
            continue;
        }
        const char *next = *path ? match_one(pattern, *path) : NULL;
        if (next) {
            pattern = next;
            path++;
        } else if (star.pattern && *star.path && *star.path != '/') {
            pattern = star.pattern;
            path = ++star.path;
        } else if (deep.pattern && *deep.path) {
            star.pattern = NULL;
            pattern = deep.pattern;
            path = ++deep.path;
        } else {
            return false;
        }
    }
    return true;
}

bool glob_match_path(const char *pattern, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!strchr(pattern, '/'))
        return glob_match(pattern, slash ? slash + 1 : path);
    return glob_match(pattern[0] == '/' ? pattern + 1 : pattern, path);
}
