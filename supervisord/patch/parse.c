#include "supervisord/patch/internal.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LINES_MAX 4000000 /* of one hunk */

bool patch_peek(const struct patch_text *text, const char **ret_line, size_t *ret_length)
{
    *ret_line = "";
    *ret_length = 0;
    if (text->at == text->end)
        return false;
    const char *newline = memchr(text->at, '\n', (size_t)(text->end - text->at));
    *ret_line = text->at;
    *ret_length = (size_t)((newline ? newline : text->end) - text->at);
    return true;
}

void patch_next(struct patch_text *text)
{
    const char *newline = memchr(text->at, '\n', (size_t)(text->end - text->at));
    text->at = newline ? newline + 1 : text->end;
    text->number++;
}

bool patch_line_is(const char *line, size_t length, const char *prefix)
{
    return length >= strlen(prefix) && memcmp(line, prefix, strlen(prefix)) == 0;
}

#define GROW(array, count, capacity, most)                                                         \
    ((count) < (capacity) ||                                                                       \
     ((count) < (most) && grow((void **)&(array), &(capacity), sizeof *(array))))

static bool grow(void **array, size_t *capacity, size_t size)
{
    size_t more = *capacity ? *capacity * 2 : 8;
    void *grown = reallocarray(*array, more, size);
    if (!grown)
        return false;
    *array = grown;
    *capacity = more;
    return true;
}

struct patch_file *patch_add_file(struct patch *patch)
{
    if (!GROW(patch->files, patch->count, patch->capacity, PATCH_FILES_MAX))
        return NULL;
    patch->files[patch->count] = (struct patch_file){0};
    return &patch->files[patch->count++];
}

struct patch_hunk *patch_add_hunk(struct patch_file *file)
{
    if (!GROW(file->hunks, file->count, file->capacity, PATCH_HUNKS_MAX))
        return NULL;
    file->hunks[file->count] = (struct patch_hunk){0};
    return &file->hunks[file->count++];
}

struct patch_line *patch_add_line(struct patch_hunk *hunk)
{
    if (!GROW(hunk->lines, hunk->count, hunk->capacity, LINES_MAX))
        return NULL;
    hunk->lines[hunk->count] = (struct patch_line){.newline = true};
    return &hunk->lines[hunk->count++];
}

void patch_free(struct patch *patch)
{
    for (size_t i = 0; i < patch->count; i++) {
        struct patch_file *file = &patch->files[i];
        for (size_t j = 0; j < file->count; j++) {
            free(file->hunks[j].lines);
            free(file->hunks[j].anchors);
        }
        free(file->hunks);
        free(file->old_name);
        free(file->new_name);
    }
    free(patch->files);
    *patch = (struct patch){0};
}

int patch_malformed(struct hearth_failure *failure, size_t line, const char *format, ...)
{
    char what[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    int error =
        hearth_fail(failure, HEARTH_EINVALID, "patch_malformed", "line %zu: %s", line, what);
    hearth_failure_field(failure, "/patch");
    hearth_failure_hint(failure,
                        "Send a unified diff as `git diff` makes it, or the *** Begin Patch form. "
                        "Nothing was changed.");
    return error;
}

int patch_out_of_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ETOOLARGE, "patch_too_large",
                       "the patch has too many files, hunks or lines");
}

int patch_out_of_room(struct hearth_failure *failure)
{
    int error = hearth_fail(failure, HEARTH_ETOOLARGE, "patch_too_large",
                            "what the patch makes is too large together");
    hearth_failure_field(failure, "/patch");
    return error;
}

/* Names. */

static int octal_digit(char c)
{
    return c >= '0' && c <= '7' ? c - '0' : -1;
}

/* A name in git's quotes at line; gives it (the caller frees) and where it ends, or NULL. */
static char *unquote(const char *line, size_t length, size_t *ret_end)
{
    static const char from[] = "abtnvfr\"\\", to[] = "\a\b\t\n\v\f\r\"\\";
    char *out = malloc(length + 1);
    size_t used = 0, at = 1;
    while (out && at < length && line[at] != '"') {
        if (line[at] != '\\' || at + 1 >= length) {
            out[used++] = line[at++];
            continue;
        }
        const char *known = memchr(from, line[at + 1], sizeof from - 1);
        if (known) {
            out[used++] = to[known - from];
            at += 2;
        } else if (at + 3 < length && octal_digit(line[at + 1]) >= 0 &&
                   octal_digit(line[at + 2]) >= 0 && octal_digit(line[at + 3]) >= 0) {
            out[used++] = (char)(octal_digit(line[at + 1]) * 64 + octal_digit(line[at + 2]) * 8 +
                                 octal_digit(line[at + 3]));
            at += 4;
        } else {
            at = length;
        }
    }
    if (!out || at >= length || (used && memchr(out, 0, used))) {
        free(out);
        return NULL;
    }
    out[used] = '\0';
    *ret_end = at + 1;
    return out;
}

/* " 2024-01-31 …" that stands after a name without a tab. */
static size_t without_date(const char *name, size_t length)
{
    static const char form[] = " dddd-dd-dd dd:dd:dd";
    for (size_t at = 1; at + sizeof form - 1 <= length; at++) {
        size_t i = 0;
        while (i < sizeof form - 1 && (form[i] == 'd' ? isdigit((unsigned char)name[at + i]) != 0
                                                      : name[at + i] == form[i]))
            i++;
        if (i == sizeof form - 1)
            return at;
    }
    return length;
}

static bool is_epoch(const char *rest, size_t length)
{
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(length < 60 ? length : 60), rest);
    return strstr(text, "1970-01-01 00:00:00") || strstr(text, "1969-12-31 ");
}

/* The name of a "--- " or "+++ " line; *ret_name NULL for /dev/null. */
static int take_name(const char *line, size_t length, size_t number, char **ret_name,
                     bool *ret_epoch, struct hearth_failure *failure)
{
    size_t end;
    char *name;
    *ret_epoch = false;
    if (length < 4)
        return patch_malformed(failure, number, "there is no file's name");
    line += 4;
    length -= 4;
    if (length && line[length - 1] == '\r')
        length--;
    if (length && line[0] == '"') {
        name = unquote(line, length, &end);
    } else {
        const char *tab = memchr(line, '\t', length);
        size_t used = tab ? (size_t)(tab - line) : without_date(line, length);
        *ret_epoch = is_epoch(line + used, length - used);
        name = strndup(line, used);
    }
    if (!name || !*name) {
        free(name);
        return patch_malformed(failure, number, "there is no file's name");
    }
    if (strcmp(name, "/dev/null") == 0) {
        free(name);
        name = NULL;
    }
    free(*ret_name);
    *ret_name = name;
    return 0;
}

/* Hunks. */

bool patch_take_number(const char **at, const char *end, size_t *ret_value)
{
    size_t value = 0, digits = 0;
    for (; *at < end && isdigit((unsigned char)**at); (*at)++, digits++) {
        if (digits > 9)
            return false;
        value = value * 10 + (size_t)(**at - '0');
    }
    *ret_value = value;
    return digits > 0;
}

static bool take_range(const char **at, const char *end, size_t *ret_start, size_t *ret_count)
{
    if (!patch_take_number(at, end, ret_start))
        return false;
    *ret_count = 1;
    if (*at < end && **at == ',') {
        (*at)++;
        return patch_take_number(at, end, ret_count);
    }
    return true;
}

/* "@@ -1,2 +3,4 @@ …" */
static bool parse_hunk_head(const char *line, size_t length, struct patch_hunk *hunk)
{
    const char *at = line, *end = line + length;
    if (!patch_line_is(line, length, "@@ -"))
        return false;
    at += 4;
    if (!take_range(&at, end, &hunk->old_start, &hunk->old_count) || end - at < 2 || at[0] != ' ' ||
        at[1] != '+')
        return false;
    at += 2;
    return take_range(&at, end, &hunk->new_start, &hunk->new_count) && end - at >= 3 &&
           memcmp(at, " @@", 3) == 0;
}

/* "\ No newline at end of file", in whatever language. */
static void take_no_newline(struct patch_text *text, struct patch_hunk *hunk)
{
    const char *line;
    size_t length;
    if (hunk->count && patch_peek(text, &line, &length) && length && line[0] == '\\') {
        hunk->lines[hunk->count - 1].newline = false;
        patch_next(text);
    }
}

static int parse_hunk(struct patch_text *text, struct patch_file *file,
                      struct hearth_failure *failure)
{
    const char *line;
    size_t length, old_left, new_left;
    struct patch_hunk *hunk = patch_add_hunk(file);
    if (!hunk)
        return patch_out_of_memory(failure);
    patch_peek(text, &line, &length);
    hunk->at_line = text->number + 1;
    if (!parse_hunk_head(line, length, hunk))
        return patch_malformed(failure, hunk->at_line, "a hunk's head reads @@ -1,2 +3,4 @@");
    patch_next(text);
    old_left = hunk->old_count;
    new_left = hunk->new_count;
    while (old_left || new_left) {
        bool there = patch_peek(text, &line, &length);
        /* An empty line is an empty line of context whose blank got lost. */
        char kind = !there ? '\0' : !length || line[0] == '\r' ? ' ' : line[0];
        bool good = (kind == ' ' && old_left && new_left) || (kind == '-' && old_left) ||
                    (kind == '+' && new_left);
        if (!good)
            return patch_malformed(
                failure, text->number + 1,
                "the hunk of line %zu ends before the %zu old and %zu new lines that its head "
                "promises: %zu and %zu are missing",
                hunk->at_line, hunk->old_count, hunk->new_count, old_left, new_left);
        struct patch_line *added = patch_add_line(hunk);
        if (!added)
            return patch_out_of_memory(failure);
        bool marked = length && line[0] == kind;
        added->kind = kind;
        added->text = line + (marked ? 1 : 0);
        added->length = length - (marked ? 1 : 0);
        old_left -= kind != '+';
        new_left -= kind != '-';
        patch_next(text);
        take_no_newline(text, hunk);
    }
    return 0;
}

static int parse_hunks(struct patch_text *text, struct patch_file *file,
                       struct hearth_failure *failure)
{
    const char *line;
    size_t length;
    int error = 0;
    while (!error && patch_peek(text, &line, &length) && patch_line_is(line, length, "@@ -"))
        error = parse_hunk(text, file, failure);
    /* More lines of a hunk are a head that counts wrong; "-- " is a mail's signature. */
    if (!error && file->count && patch_peek(text, &line, &length) && length &&
        (line[0] == '+' || line[0] == '-') && !patch_line_is(line, length, "--- ") &&
        !patch_line_is(line, length, "-- ") && !(length == 2 && memcmp(line, "--", 2) == 0))
        return patch_malformed(failure, text->number + 1,
                               "the hunk of line %zu has more lines than its head promises",
                               file->hunks[file->count - 1].at_line);
    return error;
}

/* Files. */

static bool is_prefix(const char *name)
{
    return name && name[0] && strchr("abciwo12", name[0]) && name[1] == '/' && name[2];
}

static void strip_one(char *name)
{
    if (name)
        memmove(name, name + 2, strlen(name + 2) + 1);
}

static void settle_kind(struct patch_file *file)
{
    if (file->kind != PATCH_MODIFY)
        return;
    if (!file->old_name)
        file->kind = PATCH_ADD;
    else if (!file->new_name)
        file->kind = PATCH_DELETE;
}

/* a/ and b/, or what git has in their place: only where both sides that are there have one. */
static bool has_prefixes(const struct patch_file *file)
{
    if (file->old_name && file->new_name)
        return is_prefix(file->old_name) && is_prefix(file->new_name) &&
               file->old_name[0] != file->new_name[0];
    return is_prefix(file->old_name) || is_prefix(file->new_name);
}

/* old/x and new/x, as `diff -r old new` writes them. */
static bool from_two_trees(const struct patch_file *file)
{
    const char *old = file->old_name ? strchr(file->old_name, '/') : NULL;
    const char *new = file->new_name ? strchr(file->new_name, '/') : NULL;
    return old && new &&strcmp(old, new) == 0 && strcmp(file->old_name, file->new_name) != 0;
}

static int parse_plain(struct patch *patch, struct patch_text *text, struct hearth_failure *failure)
{
    const char *line;
    size_t length;
    bool old_epoch = false, new_epoch = false;
    struct patch_file *file = patch_add_file(patch);
    if (!file)
        return patch_out_of_memory(failure);
    file->at_line = text->number + 1;
    patch_peek(text, &line, &length);
    int error = take_name(line, length, text->number + 1, &file->old_name, &old_epoch, failure);
    patch_next(text);
    if (!error && patch_peek(text, &line, &length))
        error = take_name(line, length, text->number + 1, &file->new_name, &new_epoch, failure);
    patch_next(text);
    if (!error && !file->old_name && !file->new_name)
        error = patch_malformed(failure, file->at_line, "both sides are /dev/null");
    if (!error)
        error = parse_hunks(text, file, failure);
    if (error)
        return error;
    if (!file->count)
        return patch_malformed(failure, text->number + 1, "a hunk was expected after +++");
    settle_kind(file);
    file->prefixed = has_prefixes(file) || from_two_trees(file);
    const struct patch_hunk *first = &file->hunks[0];
    file->may_add = file->count == 1 && first->old_start == 0 && first->old_count == 0;
    file->deletes = new_epoch && file->count == 1 && first->new_start == 0 && first->new_count == 0;
    return 0;
}

/* Both names of "diff --git A B", which git writes alike but for their prefixes. */
static int take_git_names(struct patch_file *file, const char *line, size_t length, size_t number,
                          struct hearth_failure *failure)
{
    size_t end = 0, second = 0;
    static const char head[] = "diff --git ";
    if (!patch_line_is(line, length, head))
        return patch_malformed(failure, number, "diff --git was expected");
    line += strlen(head);
    length -= strlen(head);
    if (length && line[length - 1] == '\r')
        length--;
    if (length && line[0] == '"') {
        file->old_name = unquote(line, length, &end);
        second = end + 1;
    } else {
        for (size_t at = 0; at + 1 < length && !second; at++) {
            size_t left = at, right = length - at - 1;
            const char *other = line + at + 1;
            bool quoted = other[0] == '"';
            bool alike = left == right && (memcmp(line, other, left) == 0 ||
                                           (left > 2 && line[1] == '/' && other[1] == '/' &&
                                            memcmp(line + 2, other + 2, left - 2) == 0));
            if (line[at] == ' ' && (quoted || alike))
                second = at + 1;
        }
        if (!second) { /* a rename: its own lines have the names */
            const char *blank = memchr(line, ' ', length);
            second = blank ? (size_t)(blank - line) + 1 : length;
        }
        file->old_name = strndup(line, second ? second - 1 : 0);
    }
    if (second < length)
        file->new_name = line[second] == '"' ? unquote(line + second, length - second, &end)
                                             : strndup(line + second, length - second);
    if (!file->old_name || !file->new_name || !*file->old_name || !*file->new_name)
        return patch_malformed(failure, number, "diff --git has no two names");
    return 0;
}

static int take_mode(const char *line, size_t length, size_t skip, uint32_t *ret_mode,
                     size_t number, struct hearth_failure *failure)
{
    char text[16];
    snprintf(text, sizeof text, "%.*s", (int)(length - skip < 12 ? length - skip : 12),
             line + skip);
    *ret_mode = (uint32_t)strtoul(text, NULL, 8);
    uint32_t type = *ret_mode & S_IFMT; /* a submodule has one of its own */
    return !type || type == S_IFREG || type == S_IFLNK
               ? 0
               : patch_malformed(failure, number, "%s is the mode of no file or symlink", text);
}

/* "1a2b3c..4d5e6f 100644"; what is not of that form is left out. */
static void take_ids(struct patch_file *file, const char *line, size_t length, size_t skip)
{
    static const char digits[] = "0123456789abcdef";
    char text[160];
    snprintf(text, sizeof text, "%.*s", (int)(length - skip < 150 ? length - skip : 150),
             line + skip);
    size_t old_length = strspn(text, digits);
    const char *other = text + old_length + 2;
    if (old_length >= sizeof file->old_id || strncmp(text + old_length, "..", 2) != 0)
        return;
    size_t new_length = strspn(other, digits);
    if (new_length >= sizeof file->new_id)
        return;
    snprintf(file->old_id, sizeof file->old_id, "%.*s", (int)old_length, text);
    snprintf(file->new_id, sizeof file->new_id, "%.*s", (int)new_length, other);
}

static int take_exact_name(const char *line, size_t length, size_t skip, char **ret_name,
                           size_t number, struct hearth_failure *failure)
{
    size_t end;
    line += skip;
    length -= skip;
    if (length && line[length - 1] == '\r')
        length--;
    char *name = length && line[0] == '"' ? unquote(line, length, &end) : strndup(line, length);
    if (!name || !*name) {
        free(name);
        return patch_malformed(failure, number, "there is no file's name");
    }
    free(*ret_name);
    *ret_name = name;
    return 0;
}

/* One of git's own lines; *ret_known false where it is none. */
static int take_extended(struct patch_file *file, const char *line, size_t length, size_t number,
                         bool *ret_known, struct hearth_failure *failure)
{
    static const struct {
        const char *prefix;
        enum { OLD_MODE, NEW_MODE, ADDED, DELETED, FROM, TO, IDS, OTHER } what;
        enum patch_kind kind;
    } known[] = {
        {"old mode ", OLD_MODE, PATCH_MODIFY},
        {"new mode ", NEW_MODE, PATCH_MODIFY},
        {"new file mode ", ADDED, PATCH_ADD},
        {"deleted file mode ", DELETED, PATCH_DELETE},
        {"rename from ", FROM, PATCH_RENAME},
        {"rename to ", TO, PATCH_RENAME},
        {"copy from ", FROM, PATCH_COPY},
        {"copy to ", TO, PATCH_COPY},
        {"similarity index ", OTHER, PATCH_MODIFY},
        {"dissimilarity index ", OTHER, PATCH_MODIFY},
        {"index ", IDS, PATCH_MODIFY},
    };
    size_t i = 0, count = sizeof known / sizeof known[0];
    while (i < count && !patch_line_is(line, length, known[i].prefix))
        i++;
    *ret_known = i < count;
    if (i == count)
        return 0;
    size_t skip = strlen(known[i].prefix);
    if (known[i].kind != PATCH_MODIFY)
        file->kind = known[i].kind;
    switch (known[i].what) {
    case OLD_MODE:
    case DELETED:
        return take_mode(line, length, skip, &file->old_mode, number, failure);
    case NEW_MODE:
    case ADDED:
        return take_mode(line, length, skip, &file->new_mode, number, failure);
    case FROM:
        return take_exact_name(line, length, skip, &file->old_name, number, failure);
    case TO:
        return take_exact_name(line, length, skip, &file->new_name, number, failure);
    case IDS:
        take_ids(file, line, length, skip);
        return 0;
    case OTHER:
        break;
    }
    return 0;
}

static int refuse_binary(const char *name, size_t number, struct hearth_failure *failure)
{
    int error = hearth_fail(failure, HEARTH_EINVALID, "patch_binary",
                            "line %zu: %.200s is binary, and its content is not in the patch",
                            number, name ? name : "a file");
    hearth_failure_field(failure, "/patch");
    hearth_failure_hint(failure,
                        "Make the patch with `git diff --binary` (workspace_diff: binary), write "
                        "the file with workspace_file_write, or push it.");
    return error;
}

/* These are not to be split at a blank: they say better what the files are. */
static void take_sides(struct patch_file *file, char **old_name, char **new_name)
{
    struct patch_file sides = {.old_name = *old_name, .new_name = *new_name};
    if (has_prefixes(&sides)) {
        strip_one(sides.old_name);
        strip_one(sides.new_name);
    }
    if (*old_name) {
        free(file->old_name);
        file->old_name = steal_pointer(*old_name);
    }
    if (*new_name) {
        free(file->new_name);
        file->new_name = steal_pointer(*new_name);
    }
}

static int parse_git_sides(struct patch_file *file, struct patch_text *text,
                           struct hearth_failure *failure)
{
    const char *line;
    size_t length;
    bool epoch;
    char *old_name = NULL, *new_name = NULL;
    int error = 0;
    if (!patch_peek(text, &line, &length) || !patch_line_is(line, length, "--- "))
        return 0;
    error = take_name(line, length, text->number + 1, &old_name, &epoch, failure);
    patch_next(text);
    if (!error && patch_peek(text, &line, &length) && patch_line_is(line, length, "+++ ")) {
        error = take_name(line, length, text->number + 1, &new_name, &epoch, failure);
        patch_next(text);
    } else if (!error) {
        error = patch_malformed(failure, text->number + 1, "+++ was expected after ---");
    }
    if (!error && file->kind == PATCH_MODIFY)
        file->kind = !old_name ? PATCH_ADD : !new_name ? PATCH_DELETE : PATCH_MODIFY;
    if (!error && file->kind != PATCH_RENAME && file->kind != PATCH_COPY)
        take_sides(file, &old_name, &new_name);
    free(old_name);
    free(new_name);
    return error ? error : parse_hunks(text, file, failure);
}

static int parse_git(struct patch *patch, struct patch_text *text, struct hearth_failure *failure)
{
    const char *line;
    size_t length;
    struct patch_file *file = patch_add_file(patch);
    if (!file)
        return patch_out_of_memory(failure);
    file->at_line = text->number + 1;
    patch_peek(text, &line, &length);
    int error = take_git_names(file, line, length, text->number + 1, failure);
    if (!error && has_prefixes(file)) {
        strip_one(file->old_name);
        strip_one(file->new_name);
    }
    file->final_names = true;
    patch_next(text);
    for (bool known = true; !error && known && patch_peek(text, &line, &length);) {
        if (patch_line_is(line, length, "GIT binary patch")) {
            error = patch_parse_binary(file, text, failure);
            break;
        }
        if (patch_line_is(line, length, "Binary files "))
            return refuse_binary(file->new_name ? file->new_name : file->old_name, text->number + 1,
                                 failure);
        error = take_extended(file, line, length, text->number + 1, &known, failure);
        if (!error && known)
            patch_next(text);
    }
    if (!error && !file->binary.kind)
        error = parse_git_sides(file, text, failure);
    if (!error && file->kind == PATCH_MODIFY && strcmp(file->old_name, file->new_name) != 0)
        error = patch_malformed(failure, file->at_line, "the names differ, and it is no rename");
    if (error)
        return error;
    if (file->kind == PATCH_ADD)
        free(steal_pointer(file->old_name));
    else if (file->kind == PATCH_DELETE)
        free(steal_pointer(file->new_name));
    return 0;
}

/* The text. */

static bool plain_begins(const struct patch_text *text)
{
    struct patch_text ahead = *text;
    const char *line;
    size_t length;
    if (!patch_peek(&ahead, &line, &length) || !patch_line_is(line, length, "--- "))
        return false;
    patch_next(&ahead);
    if (!patch_peek(&ahead, &line, &length) || !patch_line_is(line, length, "+++ "))
        return false;
    patch_next(&ahead);
    return patch_peek(&ahead, &line, &length) && patch_line_is(line, length, "@@ -");
}

static int parse_all(struct patch *patch, struct patch_text *text, struct hearth_failure *failure)
{
    const char *line;
    size_t length, marked_at = 0;
    int error = 0;
    while (!error && patch_peek(text, &line, &length)) {
        if (!patch->count && patch_line_is(line, length, "*** Begin Patch"))
            return patch_parse_apply_patch(patch, text, failure);
        if (patch_line_is(line, length, "diff --git "))
            error = parse_git(patch, text, failure);
        else if (plain_begins(text))
            error = parse_plain(patch, text, failure);
        else if (patch_line_is(line, length, "@@ -"))
            error = patch_malformed(failure, text->number + 1,
                                    "a hunk without --- and +++ lines before it");
        else {
            /* Prose. A marker among it names a change that cannot be made of this text: it is
             * passed over, as git and patch do, and counted; alone it is nothing to apply. */
            if (patch_line_is(line, length, "Binary files ") && memmem(line, length, "differ", 6) &&
                !patch->binary_markers++)
                marked_at = text->number + 1;
            patch_next(text);
        }
    }
    return !error && !patch->count && marked_at ? refuse_binary(NULL, marked_at, failure) : error;
}

int patch_parse(struct patch *ret_patch, const char *bytes, size_t length,
                struct hearth_failure *failure)
{
    struct patch patch = {0};
    struct patch_text text = {.at = bytes, .end = bytes + length};
    int error = parse_all(&patch, &text, failure);
    if (!error && !patch.count)
        error = patch_malformed(failure, text.number ? text.number : 1,
                                "there is no change in the text");
    if (error) {
        patch_free(&patch);
        return error;
    }
    *ret_patch = patch;
    return 0;
}
