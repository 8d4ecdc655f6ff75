/* Patches as text and as structure: unified ones by git, diff and people, with prose around them,
 * and OpenAI's apply_patch format ("*** Begin Patch"). Parsing is apart from applying. What a
 * struct points to lies in the text that was parsed, unless it says otherwise. Pure, any thread. */
#pragma once

#include "base/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATCH_FILES_MAX 10000
#define PATCH_HUNKS_MAX 100000 /* of one file */

struct patch_line {
    char kind;        /* ' ', '+' or '-' */
    bool newline;     /* false: the file's last line, without one */
    const char *text; /* without the newline */
    size_t length;
};

struct patch_hunk {
    struct patch_line *lines; /* owned */
    size_t count, capacity;
    size_t old_start, old_count, new_start, new_count; /* of a unified hunk */
    size_t at_line;                                    /* in the patch, from 1 */
    /* Of an apply_patch hunk. */
    struct patch_line *anchors; /* owned: lines to be found first, one after the other */
    size_t anchor_count;
    bool end_of_file;
};

/* One way of a "GIT binary patch". */
struct patch_binary {
    enum { PATCH_NOT_BINARY, PATCH_LITERAL, PATCH_DELTA } kind;
    size_t size;      /* inflated */
    const char *text; /* its lines of base85 */
    size_t length;
};

enum patch_kind { PATCH_MODIFY, PATCH_ADD, PATCH_DELETE, PATCH_RENAME, PATCH_COPY };

struct patch_file {
    enum patch_kind kind;
    char *old_name, *new_name;   /* owned; NULL where there is none (/dev/null) */
    bool final_names;            /* nothing is to be stripped off them */
    bool prefixed;               /* they begin with a/ and b/, or two trees' names */
    bool may_add;                /* an empty old side: where no file is, it is a new one */
    bool deletes;                /* the new side is nothing of the epoch: an emptied file goes */
    uint32_t old_mode, new_mode; /* with the type's bits, 0: not said */
    struct patch_hunk *hunks;    /* owned */
    size_t count, capacity;
    struct patch_binary binary;  /* in place of hunks */
    char old_id[65], new_id[65]; /* of the index line: hexadecimal, or "" */
    size_t at_line;
};

struct patch {
    bool apply_patch; /* of OpenAI's format: hunks are found by their lines alone */
    struct patch_file *files;
    size_t count, capacity;
    size_t binary_markers; /* lines "Binary files … differ" that belong to none of the files */
};

/* HEARTH_EINVALID: `patch_malformed`, `patch_binary`; field "/patch", the detail names the line. */
int patch_parse(struct patch *ret_patch, const char *text, size_t length,
                struct hearth_failure *failure);
void patch_free(struct patch *patch);

/* The content of a file with the file's hunks put in; *ret_content is the caller's.
 * HEARTH_ECONFLICT `patch_does_not_apply`: which hunk, where it should be, what is there, and the
 * closest place. */
int patch_apply_hunks(const struct patch *patch, const struct patch_file *file, const char *path,
                      const char *content, size_t length, char **ret_content, size_t *ret_length,
                      struct hearth_failure *failure);
/* The same for one with a binary part; what it gives is at most room bytes. HEARTH_EINVALID
 * `patch_malformed`, `patch_binary`; HEARTH_ECONFLICT `patch_does_not_apply` where the content is
 * not what the index line says; HEARTH_ETOOLARGE `patch_too_large`. */
int patch_apply_binary(const struct patch_file *file, const char *path, const char *content,
                       size_t length, size_t room, char **ret_content, size_t *ret_length,
                       struct hearth_failure *failure);
