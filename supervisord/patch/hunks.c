#include "supervisord/patch/internal.h"

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTENT_MAX ((size_t)256 << 20)

struct applying {
    const struct patch *patch;
    const struct patch_file *file;
    const char *path;
    struct patch_content content;
    size_t done;    /* lines of the content that are in out */
    int64_t offset; /* how far the last hunk was from where it should be */
    bool carriage;  /* the content's lines end in CR LF */
    struct buf out;
    struct hearth_failure *failure;
};

static bool same(const struct patch_line *line, uint64_t hash,
                 const struct patch_content_line *other)
{
    return hash == other->hash && line->newline == other->newline &&
           line->length == other->length && memcmp(line->text, other->text, line->length) == 0;
}

/* Hashes of the hunk's old lines, in their order. */
struct old_lines {
    const struct patch_line **lines;
    uint64_t *hashes;
    size_t count;
};

static bool stands_at(const struct old_lines *old, const struct patch_content *content, size_t at)
{
    if (at > content->count || old->count > content->count - at)
        return false;
    for (size_t i = 0; i < old->count; i++)
        if (!same(old->lines[i], old->hashes[i], &content->lines[at + i]))
            return false;
    return true;
}

static int collect_old(const struct patch_hunk *hunk, struct old_lines *old)
{
    old->lines = calloc(hunk->count + 1, sizeof *old->lines);
    old->hashes = calloc(hunk->count + 1, sizeof *old->hashes);
    old->count = 0;
    if (!old->lines || !old->hashes)
        return HEARTH_ENOMEMORY;
    for (size_t i = 0; i < hunk->count; i++) {
        const struct patch_line *line = &hunk->lines[i];
        if (line->kind == '+')
            continue;
        old->hashes[old->count] = patch_hash(line->text, line->length);
        old->lines[old->count++] = line;
    }
    return 0;
}

/* The place nearest to where the hunk's head and the one before it say; never before that one. */
static bool find_place(const struct applying *applying, const struct patch_hunk *hunk,
                       const struct old_lines *old, size_t *ret_at)
{
    const struct patch_content *content = &applying->content;
    /* A hunk without old lines names the line that it comes after. */
    int64_t wanted = (int64_t)hunk->old_start - (hunk->old_count ? 1 : 0) + applying->offset;
    int64_t least = (int64_t)applying->done, most = (int64_t)content->count;
    if (wanted < least)
        wanted = least;
    if (wanted > most)
        wanted = most;
    if (!old->count) { /* nothing that could be found elsewhere */
        *ret_at = (size_t)wanted;
        return true;
    }
    for (int64_t distance = 0; wanted - distance >= least || wanted + distance <= most;
         distance++) {
        for (int side = 0; side < (distance ? 2 : 1); side++) {
            int64_t at = side ? wanted - distance : wanted + distance;
            if (at >= least && at <= most && stands_at(old, content, (size_t)at)) {
                *ret_at = (size_t)at;
                return true;
            }
        }
    }
    return false;
}

static bool has_carriage(const char *text, size_t length)
{
    return length && text[length - 1] == '\r';
}

/* The first old line that is not what stands at `at`. */
static void tell_difference(const struct applying *applying, const struct patch_hunk *hunk,
                            size_t at, char *out, size_t size)
{
    char wanted[100], found[100];
    for (size_t i = 0; i < hunk->count; i++) {
        const struct patch_line *line = &hunk->lines[i];
        if (line->kind == '+')
            continue;
        const struct patch_content_line *other =
            at < applying->content.count ? &applying->content.lines[at] : NULL;
        if (!other) {
            snprintf(out, size, "the file ends at line %zu, \"%s\" was expected", at,
                     patch_shown(wanted, line->text, line->length));
            return;
        }
        if (!same(line, patch_hash(line->text, line->length), other)) {
            snprintf(out, size, "line %zu is \"%s\"%s, \"%s\"%s was expected", at + 1,
                     patch_shown(found, other->text, other->length),
                     other->newline ? "" : " without a newline",
                     patch_shown(wanted, line->text, line->length),
                     line->newline ? "" : " without a newline");
            return;
        }
        at++;
    }
    snprintf(out, size, "its lines stand before the hunk that comes first");
}

static int refuse(const struct applying *applying, size_t index)
{
    const struct patch_hunk *hunk = &applying->file->hunks[index];
    char what[280];
    size_t closest, held = patch_closest(hunk, &applying->content, &closest), old = 0;
    size_t wanted = hunk->old_start ? hunk->old_start - 1 : 0;
    for (size_t i = 0; i < hunk->count; i++)
        old += hunk->lines[i].kind != '+';
    tell_difference(applying, hunk, applying->patch->apply_patch ? closest : wanted, what,
                    sizeof what);
    int error = hearth_fail(applying->failure, HEARTH_ECONFLICT, "patch_does_not_apply",
                            "%.120s: hunk %zu (line %zu of the patch) does not apply: %s",
                            applying->path, index + 1, hunk->at_line, what);
    hearth_failure_field(applying->failure, "/patch");
    if (applying->carriage && hunk->count &&
        !has_carriage(hunk->lines[0].text, hunk->lines[0].length))
        hearth_failure_hint(applying->failure, "The file's lines end in CR LF, the patch's in LF. "
                                               "Nothing was changed.");
    else if (held)
        hearth_failure_hint(applying->failure,
                            "The closest place is line %zu: %zu of the hunk's %zu old lines stand "
                            "there. Read the file there and make the patch anew. Nothing was "
                            "changed.",
                            closest + 1, held, old);
    else
        hearth_failure_hint(applying->failure,
                            "None of the hunk's old lines stand in the file: read it and make the "
                            "patch anew. Nothing was changed.");
    return error;
}

/* What comes after a last line without a newline begins on a line of its own all the same. */
static int end_line(struct applying *applying)
{
    const struct buf *out = &applying->out;
    return out->length && out->data[out->length - 1] != '\n' ? buf_char(&applying->out, '\n') : 0;
}

/* Lines up to `until` as they are. */
static int copy_until(struct applying *applying, size_t until)
{
    for (; applying->done < until; applying->done++) {
        const struct patch_content_line *line = &applying->content.lines[applying->done];
        if (end_line(applying) ||
            buf_append(&applying->out, line->text, line->length + (line->newline ? 1 : 0)))
            return HEARTH_ENOMEMORY;
    }
    return 0;
}

static int add_line(struct applying *applying, const struct patch_line *line)
{
    bool carriage = applying->patch->apply_patch && applying->carriage &&
                    !has_carriage(line->text, line->length);
    int error = end_line(applying);
    if (!error)
        error = buf_append(&applying->out, line->text, line->length);
    if (!error && carriage)
        error = buf_char(&applying->out, '\r');
    if (!error && line->newline)
        error = buf_char(&applying->out, '\n');
    return error;
}

static int put_hunk(struct applying *applying, const struct patch_hunk *hunk, size_t at)
{
    int error = copy_until(applying, at);
    for (size_t i = 0; !error && i < hunk->count; i++) {
        if (hunk->lines[i].kind == '+')
            error = add_line(applying, &hunk->lines[i]);
        else if (hunk->lines[i].kind == '-')
            applying->done++;
        else
            error = copy_until(applying, applying->done + 1);
    }
    return error;
}

static int apply_one(struct applying *applying, size_t index)
{
    const struct patch_hunk *hunk = &applying->file->hunks[index];
    struct old_lines old = {0};
    size_t at = 0;
    bool found = false;
    int error = collect_old(hunk, &old);
    if (!error && applying->patch->apply_patch)
        found = patch_find_loosely(hunk, &applying->content, applying->done, &at) == 0;
    else if (!error)
        found = find_place(applying, hunk, &old, &at);
    free(old.lines);
    free(old.hashes);
    if (error)
        return error;
    if (!found)
        return refuse(applying, index);
    applying->offset = (int64_t)at + (hunk->old_count ? 1 : 0) - (int64_t)hunk->old_start;
    return put_hunk(applying, hunk, at);
}

int patch_apply_hunks(const struct patch *patch, const struct patch_file *file, const char *path,
                      const char *content, size_t length, char **ret_content, size_t *ret_length,
                      struct hearth_failure *failure)
{
    struct applying applying = {
        .patch = patch, .file = file, .path = path, .out.limit = CONTENT_MAX, .failure = failure};
    int error = patch_content_split(&applying.content, content, length);
    const struct patch_content *lines = &applying.content;
    applying.carriage =
        !error && lines->count && has_carriage(lines->lines[0].text, lines->lines[0].length);
    for (size_t i = 0; !error && i < file->count; i++)
        error = apply_one(&applying, i);
    if (!error)
        error = copy_until(&applying, lines->count);
    patch_content_free(&applying.content);
    if (!error) {
        *ret_length = applying.out.length;
        *ret_content = buf_steal(&applying.out);
        if (*ret_content)
            return 0;
        error = HEARTH_ENOMEMORY;
    }
    buf_free(&applying.out);
    if (error != HEARTH_ECONFLICT)
        hearth_fail(failure, (enum hearth_error)error, NULL, "no memory for %.200s", path);
    return error;
}
