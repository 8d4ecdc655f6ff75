/* One file's change in git's format, so that `git apply` takes it: text as hunks, what is no text
 * as a marker line or, where asked for, as a binary patch. Pure; any thread, after patch_init. */
#pragma once

#include "base/buf.h"
#include "base/failure.h"

#include <stdbool.h>
#include <stdint.h>

/* A side of the change; path NULL: there is nothing on it. */
struct patch_side {
    const char *path;
    uint32_t mode; /* git's: 0100644, 0100755, 0120000 */
    const void *data;
    size_t length;
};

struct patch_options {
    unsigned context;
    bool binary;
};

enum patch_kind {
    PATCH_TEXT,   /* hunks, or a header alone that tells all */
    PATCH_BINARY, /* a binary patch */
    PATCH_MARKER, /* one line that says that they differ */
};

/* HEARTH_EUNSUPPORTED `library_missing`. */
int patch_init(struct hearth_failure *failure);
/* UTF-8 without a NUL: what can be told as text. */
bool patch_is_text(const void *data, size_t length);
/* Appends the change; old and new are regular files both, or symlinks both, or one of them is not
 * there. similarity is told where the paths differ. HEARTH_ENOMEMORY. */
int patch_append(struct buf *out, const struct patch_side *old, const struct patch_side *new,
                 const struct patch_options *options, int similarity, enum patch_kind *ret_kind,
                 struct hearth_failure *failure);

/* How much of the lines of two files is the same, in percent. */
struct patch_signature;
struct patch_signature *patch_sign(const void *data, size_t length); /* NULL: none can be made */
int patch_similarity(const struct patch_signature *left, const struct patch_signature *right);
void patch_signature_free(struct patch_signature *signature);
