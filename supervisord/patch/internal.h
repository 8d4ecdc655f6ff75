/* What the files about patches share. */
#pragma once

#include "supervisord/patch/patch.h"

/* The patch's text, line by line. */
struct patch_text {
    const char *at, *end;
    size_t number; /* of the line given last, from 1 */
};

/* The next line without its newline, without moving on; false at the end. */
bool patch_peek(const struct patch_text *text, const char **ret_line, size_t *ret_length);
void patch_next(struct patch_text *text);
bool patch_line_is(const char *line, size_t length, const char *prefix);

/* Give the new element, zeroed; NULL where there are too many or memory is short. */
struct patch_file *patch_add_file(struct patch *patch);
struct patch_hunk *patch_add_hunk(struct patch_file *file);
struct patch_line *patch_add_line(struct patch_hunk *hunk);

int patch_malformed(struct hearth_failure *failure, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int patch_out_of_memory(struct hearth_failure *failure);
/* What the patch would make is too large. */
int patch_out_of_room(struct hearth_failure *failure);
/* A decimal number of at most ten digits; false where there is none. */
bool patch_take_number(const char **at, const char *end, size_t *ret_value);

/* binary.c: text stands at "GIT binary patch". */
int patch_parse_binary(struct patch_file *file, struct patch_text *text,
                       struct hearth_failure *failure);

/* v4a.c: text stands at "*** Begin Patch". */
int patch_parse_apply_patch(struct patch *patch, struct patch_text *text,
                            struct hearth_failure *failure);

/* lines.c: a file's content as lines. */
struct patch_content_line {
    const char *text;
    size_t length;
    bool newline;
    uint64_t hash; /* of the text */
};
struct patch_content {
    struct patch_content_line *lines; /* owned */
    size_t count;
};
int patch_content_split(struct patch_content *ret_content, const char *bytes, size_t length);
void patch_content_free(struct patch_content *content);
uint64_t patch_hash(const char *text, size_t length);
/* A line as it may be told: short, printable. */
const char *patch_shown(char out[100], const char *text, size_t length);

/* place.c: apply_patch's way to find a hunk. */
int patch_find_loosely(const struct patch_hunk *hunk, const struct patch_content *content,
                       size_t from, size_t *ret_at);
/* The place where most of the hunk's old lines stand: at is from 0; gives how many do. */
size_t patch_closest(const struct patch_hunk *hunk, const struct patch_content *content,
                     size_t *ret_at);
