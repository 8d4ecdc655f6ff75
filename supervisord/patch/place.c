/* Where a hunk's lines stand, when numbers do not say it: apply_patch's steps of strictness, and
 * the closest place for a hint. */
#include "supervisord/patch/internal.h"

#include <string.h>

#define COMPARISONS_MAX ((size_t)20 << 20) /* about a tenth of a second */

enum strictness { EXACT, NO_TRAILING_BLANKS, NO_BLANKS, STRICTNESS_MAX };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void trim(const char **text, size_t *length, enum strictness strictness)
{
    if (strictness == EXACT)
        return;
    while (*length && is_blank((*text)[*length - 1]))
        (*length)--;
    while (strictness == NO_BLANKS && *length && is_blank(**text)) {
        (*text)++;
        (*length)--;
    }
}

static bool alike(const struct patch_line *line, const struct patch_content_line *other,
                  enum strictness strictness)
{
    const char *left = line->text, *right = other->text;
    size_t left_length = line->length, right_length = other->length;
    trim(&left, &left_length, strictness);
    trim(&right, &right_length, strictness);
    return left_length == right_length && memcmp(left, right, left_length) == 0;
}

static bool stands_at(const struct patch_hunk *hunk, const struct patch_content *content, size_t at,
                      enum strictness strictness)
{
    for (size_t i = 0; i < hunk->count; i++) {
        if (hunk->lines[i].kind == '+')
            continue;
        if (at >= content->count || !alike(&hunk->lines[i], &content->lines[at++], strictness))
            return false;
    }
    return true;
}

static size_t old_count(const struct patch_hunk *hunk)
{
    size_t count = 0;
    for (size_t i = 0; i < hunk->count; i++)
        count += hunk->lines[i].kind != '+';
    return count;
}

/* After the anchors: each is the first line from there on that is it. */
static bool pass_anchors(const struct patch_hunk *hunk, const struct patch_content *content,
                         size_t *at)
{
    for (size_t i = 0; i < hunk->anchor_count; i++) {
        size_t found = content->count;
        for (int step = EXACT; step < STRICTNESS_MAX && found == content->count; step++)
            for (found = *at;
                 found < content->count && !alike(&hunk->anchors[i], &content->lines[found], step);)
                found++;
        if (found == content->count)
            return false;
        *at = found + 1;
    }
    return true;
}

int patch_find_loosely(const struct patch_hunk *hunk, const struct patch_content *content,
                       size_t from, size_t *ret_at)
{
    size_t old = old_count(hunk), budget = COMPARISONS_MAX;
    if (!pass_anchors(hunk, content, &from))
        return HEARTH_ENOTFOUND;
    if (!old) { /* an insertion alone: after the anchor, or at the end */
        *ret_at = hunk->anchor_count && !hunk->end_of_file ? from : content->count;
        return 0;
    }
    for (int step = EXACT; step < STRICTNESS_MAX; step++) {
        size_t end = content->count >= old ? content->count - old : 0;
        if (hunk->end_of_file && end >= from && stands_at(hunk, content, end, step)) {
            *ret_at = end;
            return 0;
        }
        for (size_t at = from; at + old <= content->count && budget; at++, budget--)
            if (stands_at(hunk, content, at, step)) {
                *ret_at = at;
                return 0;
            }
    }
    return HEARTH_ENOTFOUND;
}

size_t patch_closest(const struct patch_hunk *hunk, const struct patch_content *content,
                     size_t *ret_at)
{
    size_t old = old_count(hunk), best = 0;
    *ret_at = 0;
    if (!old || content->count > COMPARISONS_MAX / old)
        return 0;
    for (size_t at = 0; at < content->count; at++) {
        size_t held = 0, offset = 0;
        for (size_t i = 0; i < hunk->count && at + offset < content->count; i++)
            if (hunk->lines[i].kind != '+')
                held += alike(&hunk->lines[i], &content->lines[at + offset++], NO_BLANKS);
        if (held > best) {
            best = held;
            *ret_at = at;
        }
    }
    return best;
}
