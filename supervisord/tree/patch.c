#include "supervisord/tree/patch.h"

#include "base/text.h"
#include "supervisord/tree/blob_id.h"

#include <dlfcn.h>
#include <git2.h>
#include <git2/sys/hashsig.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define ID_SHORT 7

/* libgit2 is loaded for the first diff: with what it needs itself it takes as much memory as the
 * rest of an idle daemon's libraries. */
static struct {
    bool loaded;
    char problem[200];
#define FUNCTION(name) __typeof__(git_##name) *name;
#define FUNCTIONS                                                                                  \
    FUNCTION(libgit2_init)                                                                         \
    FUNCTION(odb_hash)                                                                             \
    FUNCTION(oid_fmt)                                                                              \
    FUNCTION(diff_options_init)                                                                    \
    FUNCTION(patch_from_buffers)                                                                   \
    FUNCTION(patch_print)                                                                          \
    FUNCTION(patch_free)                                                                           \
    FUNCTION(hashsig_create)                                                                       \
    FUNCTION(hashsig_compare)                                                                      \
    FUNCTION(hashsig_free)
    FUNCTIONS
#undef FUNCTION
} git;

static bool find(void *library, const char *name, void *ret_function)
{
    void *found = dlsym(library, name);
    memcpy(ret_function, &found, sizeof found);
    return found != NULL;
}

static void load_library(void)
{
    void *library = dlopen(LIBGIT2_SONAME, RTLD_NOW | RTLD_LOCAL);
    bool whole = library != NULL;
#define FUNCTION(name) whole = whole && find(library, "git_" #name, &git.name);
    FUNCTIONS
#undef FUNCTION
    if (!whole) {
        const char *problem = dlerror();
        snprintf(git.problem, sizeof git.problem, "%s", problem ? problem : LIBGIT2_SONAME);
        return;
    }
    git.loaded = git.libgit2_init() > 0;
}

int patch_init(struct hearth_failure *failure)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_library);
    return git.loaded ? 0
                      : hearth_fail(failure, HEARTH_EUNSUPPORTED, "library_missing",
                                    "diffs need libgit2, which cannot be loaded: %s", git.problem);
}

bool patch_is_text(const void *data, size_t length)
{
    return !length || (!memchr(data, 0, length) && utf8_valid(data, length));
}

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a diff");
}

/* Names, as git quotes them: bytes that are not plain ASCII in octal. A blank at the end of a
 * component is quoted too: git cannot tell where such a name ends in a header that stands alone. */

static bool needs_quotes(const char *path)
{
    for (; *path; path++)
        if ((unsigned char)*path < 0x20 || (unsigned char)*path >= 0x7f || *path == '"' ||
            *path == '\\' || (*path == ' ' && (path[1] == '/' || !path[1])))
            return true;
    return false;
}

static int quote_byte(struct buf *out, unsigned char byte)
{
    static const char plain[] = "\a\b\t\n\v\f\r\"\\", letters[] = "abtnvfr\"\\";
    const char *found = byte ? strchr(plain, byte) : NULL;
    if (found)
        return buf_printf(out, "\\%c", letters[found - plain]);
    if (byte < 0x20 || byte >= 0x7f)
        return buf_printf(out, "\\%03o", byte);
    return buf_char(out, (char)byte);
}

static int put_name(struct buf *out, const char *prefix, const char *path)
{
    if (!needs_quotes(path))
        return buf_printf(out, "%s%s", prefix, path);
    int error = buf_printf(out, "\"%s", prefix);
    for (; !error && *path; path++)
        error = quote_byte(out, (unsigned char)*path);
    return error ? error : buf_char(out, '"');
}

/* A line with one name. git ends it with a tab where the name has blanks, so that it is told from a
 * date. */
static int put_name_line(struct buf *out, const char *lead, const char *prefix, const char *path,
                         bool dated)
{
    int error = buf_text(out, lead);
    if (!error && path)
        error = put_name(out, prefix, path);
    else if (!error)
        error = buf_text(out, "/dev/null");
    if (!error && dated && path && strchr(path, ' ') && !needs_quotes(path))
        error = buf_char(out, '\t');
    return error ? error : buf_char(out, '\n');
}

/* Headers. */

static void blob_id(char out[GIT_OID_HEXSZ + 1], const struct patch_side *side, int length)
{
    git_oid id;
    memset(out, '0', GIT_OID_HEXSZ);
    if (side->path && git.odb_hash(&id, side->data, side->length, GIT_OBJECT_BLOB) == 0)
        git.oid_fmt(out, &id);
    out[length] = '\0';
}

int tree_blob_id(char out[41], const void *data, size_t length, struct hearth_failure *failure)
{
    const struct patch_side side = {.path = "", .data = data, .length = length};
    int error = patch_init(failure);
    if (!error)
        blob_id(out, &side, GIT_OID_HEXSZ);
    return error;
}

static int put_header(struct buf *out, const struct patch_side *old, const struct patch_side *new,
                      int similarity, bool changed, bool full_ids)
{
    const char *old_path = old->path ? old->path : new->path;
    const char *new_path = new->path ? new->path : old->path;
    char old_id[GIT_OID_HEXSZ + 1], new_id[GIT_OID_HEXSZ + 1];
    int error = buf_text(out, "diff --git ");
    if (!error)
        error = put_name(out, "a/", old_path);
    if (!error)
        error = buf_char(out, ' ');
    if (!error)
        error = put_name_line(out, "", "b/", new_path, false);
    if (!error && !old->path)
        error = buf_printf(out, "new file mode %06o\n", new->mode);
    if (!error && !new->path)
        error = buf_printf(out, "deleted file mode %06o\n", old->mode);
    if (!error && old->path && new->path && old->mode != new->mode)
        error = buf_printf(out, "old mode %06o\nnew mode %06o\n", old->mode, new->mode);
    if (!error && strcmp(old_path, new_path) != 0) {
        error = buf_printf(out, "similarity index %d%%\n", similarity);
        if (!error)
            error = put_name_line(out, "rename from ", "", old_path, false);
        if (!error)
            error = put_name_line(out, "rename to ", "", new_path, false);
    }
    if (error || !changed)
        return error;
    blob_id(old_id, old, full_ids ? GIT_OID_HEXSZ : ID_SHORT);
    blob_id(new_id, new, full_ids ? GIT_OID_HEXSZ : ID_SHORT);
    error = buf_printf(out, "index %s..%s", old_id, new_id);
    if (!error && old->path && new->path && old->mode == new->mode)
        error = buf_printf(out, " %06o", new->mode);
    return error ? error : buf_char(out, '\n');
}

/* Bodies, by libgit2. */

struct printing {
    struct buf *out;
    int error;
};

static int print_line(const git_diff_delta *delta, const git_diff_hunk *hunk,
                      const git_diff_line *line, void *arg)
{
    struct printing *printing = arg;
    int error = 0;
    (void)delta;
    (void)hunk;
    if (line->origin == GIT_DIFF_LINE_FILE_HDR)
        return 0;
    if (line->origin == GIT_DIFF_LINE_CONTEXT || line->origin == GIT_DIFF_LINE_ADDITION ||
        line->origin == GIT_DIFF_LINE_DELETION)
        error = buf_char(printing->out, line->origin);
    if (!error)
        error = buf_append(printing->out, line->content, line->content_len);
    printing->error = error;
    return error;
}

static int put_body(struct buf *out, const struct patch_side *old, const struct patch_side *new,
                    unsigned context, bool binary, struct hearth_failure *failure)
{
    git_diff_options options;
    git_patch *patch = NULL;
    struct printing printing = {.out = out};
    git.diff_options_init(&options, GIT_DIFF_OPTIONS_VERSION);
    options.context_lines = context;
    options.interhunk_lines = 0;
    options.flags |= binary ? GIT_DIFF_SHOW_BINARY | GIT_DIFF_FORCE_BINARY : GIT_DIFF_FORCE_TEXT;
    int error = git.patch_from_buffers(&patch, old->path ? old->data : NULL, old->length,
                                       old->path ? "x" : NULL, new->path ? new->data : NULL,
                                       new->length, new->path ? "x" : NULL, &options);
    if (!error)
        error = git.patch_print(patch, print_line, &printing);
    git.patch_free(patch);
    if (printing.error)
        return hearth_fail(failure, (enum hearth_error)printing.error, NULL,
                           "the diff is too large");
    return error ? hearth_fail(failure, HEARTH_EINTERNAL, NULL, "the diff could not be made") : 0;
}

/* After an empty line: right after a header without hunks `git apply` would take the marker for a
 * part of that file's change, and refuse all of it. */
static int put_marker(struct buf *out, const struct patch_side *old, const struct patch_side *new)
{
    int error = buf_text(out, out->length ? "\nBinary files " : "Binary files ");
    if (!error)
        error = old->path ? put_name(out, "a/", old->path) : buf_text(out, "/dev/null");
    if (!error)
        error = buf_text(out, " and ");
    if (!error)
        error = new->path ? put_name(out, "b/", new->path) : buf_text(out, "/dev/null");
    return error ? error : buf_text(out, " differ\n");
}

int patch_append(struct buf *out, const struct patch_side *old, const struct patch_side *new,
                 const struct patch_options *options, int similarity, enum patch_kind *ret_kind,
                 struct hearth_failure *failure)
{
    bool changed = old->length != new->length ||
                   (old->length && memcmp(old->data, new->data, old->length) != 0);
    bool text = patch_is_text(old->data, old->length) && patch_is_text(new->data, new->length);
    *ret_kind = text || !changed ? PATCH_TEXT : options->binary ? PATCH_BINARY : PATCH_MARKER;
    if (*ret_kind == PATCH_MARKER)
        return put_marker(out, old, new) ? no_memory(failure) : 0;
    bool binary = *ret_kind == PATCH_BINARY;
    if (put_header(out, old, new, similarity, changed || !old->path || !new->path, binary))
        return no_memory(failure);
    if (!changed)
        return 0; /* an empty file, a mode or a name: the header tells all */
    if (!binary && (put_name_line(out, "--- ", "a/", old->path, true) ||
                    put_name_line(out, "+++ ", "b/", new->path, true)))
        return no_memory(failure);
    return put_body(out, old, new, options->context, binary, failure);
}

/* Similarity. */

struct patch_signature *patch_sign(const void *data, size_t length)
{
    git_hashsig *signature = NULL;
    if (git.hashsig_create(&signature, data, length, GIT_HASHSIG_ALLOW_SMALL_FILES) < 0)
        return NULL;
    return (struct patch_signature *)signature;
}

int patch_similarity(const struct patch_signature *left, const struct patch_signature *right)
{
    int percent = git.hashsig_compare((const git_hashsig *)left, (const git_hashsig *)right);
    return percent < 0 ? 0 : percent > 99 ? 99 : percent;
}

void patch_signature_free(struct patch_signature *signature)
{
    if (signature)
        git.hashsig_free((git_hashsig *)signature);
}
