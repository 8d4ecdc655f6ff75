#include "supervisord/patch/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a: only tells lines apart; what it says is alike is compared. */
uint64_t patch_hash(const char *text, size_t length)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    return hash;
}

static size_t count_lines(const char *bytes, size_t length)
{
    size_t count = 0;
    const char *end = bytes + length;
    while (bytes < end) {
        const char *newline = memchr(bytes, '\n', (size_t)(end - bytes));
        count++;
        bytes = newline ? newline + 1 : end;
    }
    return count;
}

int patch_content_split(struct patch_content *ret_content, const char *bytes, size_t length)
{
    size_t count = count_lines(bytes, length);
    struct patch_content_line *lines = calloc(count + 1, sizeof *lines);
    if (!lines)
        return HEARTH_ENOMEMORY;
    const char *at = bytes, *end = bytes + length;
    for (size_t i = 0; i < count; i++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t size = (size_t)((newline ? newline : end) - at);
        lines[i] = (struct patch_content_line){
            .text = at, .length = size, .newline = newline, .hash = patch_hash(at, size)};
        at += size + 1;
    }
    *ret_content = (struct patch_content){.lines = lines, .count = count};
    return 0;
}

void patch_content_free(struct patch_content *content)
{
    free(content->lines);
    *content = (struct patch_content){0};
}

const char *patch_shown(char out[100], const char *text, size_t length)
{
    size_t used = 0;
    for (size_t i = 0; i < length && used < 80; i++)
        out[used++] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    if (length > 80) {
        while (used && ((unsigned char)out[used - 1] & 0xc0) == 0x80)
            used--; /* not in the middle of a character */
        if (used && (unsigned char)out[used - 1] >= 0xc0)
            used--;
        memcpy(out + used, "...", 3);
        used += 3;
    }
    out[used] = '\0';
    return out;
}
