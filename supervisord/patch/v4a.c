/* OpenAI's apply_patch format: files are named in "*** " lines, a hunk begins with "@@" and is
 * found by its lines, not by numbers. */
#include "supervisord/patch/internal.h"

#include "base/cleanup.h"

#include <stdlib.h>
#include <string.h>

#define ANCHORS_MAX 64

static char *name_after(const char *line, size_t length, const char *prefix)
{
    size_t skip = strlen(prefix);
    while (skip < length && line[skip] == ' ')
        skip++;
    while (length > skip && (line[length - 1] == '\r' || line[length - 1] == ' '))
        length--;
    return length > skip ? strndup(line + skip, length - skip) : NULL;
}

static bool is_section(const char *line, size_t length)
{
    return patch_line_is(line, length, "*** ") && !patch_line_is(line, length, "*** End of File");
}

static int take_line(struct patch_hunk *hunk, char kind, const char *line, size_t length)
{
    struct patch_line *added = patch_add_line(hunk);
    if (!added)
        return HEARTH_ENOMEMORY;
    added->kind = kind;
    added->text = line;
    added->length = length;
    return 0;
}

static int parse_added(struct patch_file *file, struct patch_text *text,
                       struct hearth_failure *failure)
{
    const char *line;
    size_t length;
    struct patch_hunk *hunk = patch_add_hunk(file);
    if (!hunk)
        return patch_out_of_memory(failure);
    hunk->at_line = text->number + 1;
    while (patch_peek(text, &line, &length) && !is_section(line, length)) {
        if (!length || line[0] != '+')
            return patch_malformed(failure, text->number + 1,
                                   "each line of an added file begins with +");
        if (take_line(hunk, '+', line + 1, length - 1))
            return patch_out_of_memory(failure);
        patch_next(text);
    }
    return 0;
}

static int add_anchor(struct patch_hunk *hunk, const char *line, size_t length)
{
    if (hunk->anchor_count == ANCHORS_MAX)
        return HEARTH_ENOMEMORY;
    struct patch_line *grown =
        reallocarray(hunk->anchors, hunk->anchor_count + 1, sizeof *hunk->anchors);
    if (!grown)
        return HEARTH_ENOMEMORY;
    hunk->anchors = grown;
    hunk->anchors[hunk->anchor_count++] =
        (struct patch_line){.text = line, .length = length, .newline = true};
    return 0;
}

/* "@@" alone, or "@@ a line to be found first"; several stand one below the other. */
static int parse_anchors(struct patch_hunk *hunk, struct patch_text *text,
                         struct hearth_failure *failure)
{
    const char *line;
    size_t length;
    while (patch_peek(text, &line, &length) && patch_line_is(line, length, "@@")) {
        size_t skip = 2 + (length > 2 && line[2] == ' ');
        while (length > skip && line[length - 1] == '\r')
            length--;
        if (length > skip && add_anchor(hunk, line + skip, length - skip))
            return patch_out_of_memory(failure);
        patch_next(text);
    }
    return 0;
}

static int parse_chunk(struct patch_file *file, struct patch_text *text,
                       struct hearth_failure *failure)
{
    const char *line;
    size_t length;
    struct patch_hunk *hunk = patch_add_hunk(file);
    if (!hunk)
        return patch_out_of_memory(failure);
    hunk->at_line = text->number + 1;
    int error = parse_anchors(hunk, text, failure);
    while (!error && patch_peek(text, &line, &length) && !is_section(line, length) &&
           !patch_line_is(line, length, "@@")) {
        if (patch_line_is(line, length, "*** End of File")) {
            hunk->end_of_file = true;
            patch_next(text);
            break;
        }
        char kind = length ? line[0] : ' ';
        if (kind != ' ' && kind != '+' && kind != '-')
            return patch_malformed(failure, text->number + 1,
                                   "a line of a hunk begins with a blank, + or -");
        if (take_line(hunk, kind, line + (length ? 1 : 0), length - (length ? 1 : 0)))
            return patch_out_of_memory(failure);
        patch_next(text);
    }
    if (!error && !hunk->count)
        error = patch_malformed(failure, hunk->at_line, "the hunk has no lines");
    return error;
}

static int parse_update(struct patch_file *file, struct patch_text *text,
                        struct hearth_failure *failure)
{
    static const char move[] = "*** Move to:";
    const char *line;
    size_t length;
    if (patch_peek(text, &line, &length) && patch_line_is(line, length, move)) {
        free(file->new_name);
        file->new_name = name_after(line, length, move);
        file->kind = PATCH_RENAME;
        if (!file->new_name)
            return patch_malformed(failure, text->number + 1, "there is no file's name");
        patch_next(text);
    }
    int error = 0;
    while (!error && patch_peek(text, &line, &length) && !is_section(line, length))
        error = parse_chunk(file, text, failure);
    if (!error && !file->count && file->kind == PATCH_MODIFY)
        error = patch_malformed(failure, file->at_line, "the update changes nothing");
    return error;
}

static int parse_section(struct patch *patch, struct patch_text *text,
                         struct hearth_failure *failure)
{
    static const struct {
        const char *prefix;
        enum patch_kind kind;
    } known[] = {{"*** Add File:", PATCH_ADD},
                 {"*** Delete File:", PATCH_DELETE},
                 {"*** Update File:", PATCH_MODIFY}};
    const char *line;
    size_t length, i = 0;
    patch_peek(text, &line, &length);
    while (i < 3 && !patch_line_is(line, length, known[i].prefix))
        i++;
    if (i == 3)
        return patch_malformed(failure, text->number + 1,
                               "*** Add File:, *** Delete File:, *** Update File: or *** End Patch "
                               "was expected");
    struct patch_file *file = patch_add_file(patch);
    if (!file)
        return patch_out_of_memory(failure);
    *file = (struct patch_file){
        .kind = known[i].kind, .final_names = true, .at_line = text->number + 1};
    if (file->kind != PATCH_ADD)
        file->old_name = name_after(line, length, known[i].prefix);
    if (file->kind != PATCH_DELETE)
        file->new_name = name_after(line, length, known[i].prefix);
    if ((file->kind != PATCH_ADD && !file->old_name) ||
        (file->kind != PATCH_DELETE && !file->new_name))
        return patch_malformed(failure, file->at_line, "there is no file's name");
    patch_next(text);
    return file->kind == PATCH_ADD      ? parse_added(file, text, failure)
           : file->kind == PATCH_MODIFY ? parse_update(file, text, failure)
                                        : 0;
}

int patch_parse_apply_patch(struct patch *patch, struct patch_text *text,
                            struct hearth_failure *failure)
{
    const char *line;
    size_t length;
    patch->apply_patch = true;
    patch_next(text);
    while (patch_peek(text, &line, &length)) {
        if (patch_line_is(line, length, "*** End Patch")) {
            text->at = text->end;
            return 0;
        }
        int error = parse_section(patch, text, failure);
        if (error)
            return error;
    }
    return patch_malformed(failure, text->number, "*** End Patch is missing");
}
