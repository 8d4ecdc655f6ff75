#include "supervisord/patch/tree.h"

#include "supervisord/patch/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRIPS_MAX 4 /* -p0 to -p3 */
#define TYPE_BITS 0170000u
#define LINK_BITS 0120000u

static int refuse_name(struct hearth_failure *failure, const struct patch_file *file,
                       const char *name)
{
    int error =
        hearth_fail(failure, HEARTH_EINVALID, "path_outside_workspace",
                    "line %zu: the path %.200s leads out of the workspace", file->at_line, name);
    hearth_failure_field(failure, "/patch");
    return error;
}

/* Name without `strip` leading components, relative and clean, in out; false where nothing is left.
 */
static bool strip_name(const char *name, unsigned strip, char out[4096])
{
    size_t used = 0;
    if (strncmp(name, "/workspace/", 11) == 0) {
        name += 11;
        strip = 0;
    }
    for (; strip; strip--) {
        const char *slash = strchr(name, '/');
        if (!slash)
            return false;
        name = slash + 1;
    }
    while (*name) {
        size_t length = strcspn(name, "/");
        if (length && !(length == 1 && name[0] == '.')) {
            if (used + length + 2 > 4096)
                return false;
            if (used)
                out[used++] = '/';
            memcpy(out + used, name, length);
            used += length;
        }
        name += length + (name[length] == '/');
    }
    out[used] = '\0';
    return used > 0;
}

static bool leads_out(const char *name)
{
    if (name[0] == '/' && strncmp(name, "/workspace/", 11) != 0)
        return true;
    for (const char *at = name; *at; at += strcspn(at, "/"), at += *at == '/')
        if (at[0] == '.' && at[1] == '.' && (at[2] == '/' || !at[2]))
            return true;
    return false;
}

static struct patch_node *add_node(struct patch_tree *tree, const char *path)
{
    struct patch_node *node = patch_tree_find(tree, path);
    if (node)
        return node;
    node = calloc(1, sizeof *node);
    if (!node || !(node->path = strdup(path)) ||
        map_insert(&tree->nodes, &node->entry, node->path)) {
        if (node)
            free(node->path);
        free(node);
        return NULL;
    }
    if (tree->last)
        tree->last->next = node;
    else
        tree->first = node;
    tree->last = node;
    return node;
}

static int add_name(struct patch_tree *tree, const struct patch_file *file, const char *name,
                    struct hearth_failure *failure)
{
    char path[4096];
    if (!name)
        return 0;
    if (leads_out(name))
        return refuse_name(failure, file, name);
    for (unsigned strip = 0; strip < (file->final_names ? 1 : STRIPS_MAX); strip++)
        if (strip_name(name, strip, path) && !add_node(tree, path))
            return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    return 0;
}

int patch_tree_begin(struct patch_tree *tree, const struct patch *patch,
                     struct hearth_failure *failure)
{
    int error = 0;
    *tree = (struct patch_tree){0};
    for (size_t i = 0; !error && i < patch->count; i++) {
        error = add_name(tree, &patch->files[i], patch->files[i].old_name, failure);
        if (!error)
            error = add_name(tree, &patch->files[i], patch->files[i].new_name, failure);
    }
    return error;
}

struct patch_node *patch_tree_find(const struct patch_tree *tree, const char *path)
{
    struct map_entry *entry = map_find(&tree->nodes, path);
    return entry ? (struct patch_node *)(void *)entry : NULL;
}

static void state_clear(struct patch_state *state)
{
    free(state->content);
    *state = (struct patch_state){0};
}

void patch_tree_free(struct patch_tree *tree)
{
    for (struct patch_node *node = tree->first, *next; node; node = next) {
        next = node->next;
        state_clear(&node->base);
        state_clear(&node->now);
        free(node->path);
        free(node);
    }
    map_free(&tree->nodes);
    *tree = (struct patch_tree){0};
}

/* How much is to be stripped. */

static bool is_there(const struct patch_tree *tree, const char *name, unsigned strip)
{
    char path[4096];
    if (!name || !strip_name(name, strip, path))
        return false;
    const struct patch_node *node = patch_tree_find(tree, path);
    return node && node->base.type != PATCH_NOTHING;
}

/* Are the files that the patch changes there? strict: those that may be new as well. */
static bool strip_fits(const struct patch_tree *tree, const struct patch *patch, unsigned strip,
                       bool strict)
{
    for (size_t i = 0; i < patch->count; i++) {
        const struct patch_file *file = &patch->files[i];
        if (!file->final_names && file->kind != PATCH_ADD && (strict || !file->may_add) &&
            !is_there(tree, file->old_name, strip) && !is_there(tree, file->new_name, strip))
            return false;
    }
    return true;
}

static unsigned choose_strip(const struct patch_tree *tree, const struct patch *patch)
{
    bool prefixed = true;
    for (size_t i = 0; i < patch->count; i++)
        prefixed = prefixed && (patch->files[i].final_names || patch->files[i].prefixed);
    if (prefixed)
        return !strip_fits(tree, patch, 1, false) && strip_fits(tree, patch, 0, true) ? 0 : 1;
    for (int strict = 1; strict >= 0; strict--)
        for (unsigned strip = 0; strip < STRIPS_MAX; strip++)
            if (strip_fits(tree, patch, strip, strict))
                return strip;
    return 0;
}

/* One file. */

static int fail_file(struct hearth_failure *failure, enum hearth_error error, const char *code,
                     const struct patch_file *file, const char *path, const char *what)
{
    hearth_fail(failure, error, code, "%.200s (line %zu of the patch): %s", path, file->at_line,
                what);
    hearth_failure_field(failure, "/patch");
    hearth_failure_hint(failure, "Nothing was changed. workspace_file_list tells what is there.");
    return (int)error;
}

/* Is there a file above it that the patch takes away? */
static bool above_leaves(const struct patch_tree *tree, const char *path)
{
    char above[4096];
    for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
        snprintf(above, sizeof above, "%.*s", (int)(slash - path), path);
        const struct patch_node *node = patch_tree_find(tree, above);
        if (node && node->base.type != PATCH_NOTHING &&
            (node->leaves || node->now.type == PATCH_NOTHING))
            return true;
    }
    return false;
}

/* Does the patch take away what is in this directory? Whether that is all of it, the guest says. */
static bool below_leaves(const struct patch_tree *tree, const char *path)
{
    size_t length = strlen(path);
    for (const struct patch_node *node = tree->first; node; node = node->next)
        if (strncmp(node->path, path, length) == 0 && node->path[length] == '/' &&
            node->base.type != PATCH_NOTHING && (node->leaves || node->now.type == PATCH_NOTHING))
            return true;
    return false;
}

static int check_node(const struct patch_tree *tree, const struct patch_node *node,
                      const struct patch_file *file, struct hearth_failure *failure)
{
    if (node->behind_link && !above_leaves(tree, node->path))
        return fail_file(failure, HEARTH_EINVALID, "path_outside_workspace", file, node->path,
                         "a directory of the path is a symlink or a file");
    if (node->too_large)
        return fail_file(failure, HEARTH_ETOOLARGE, "patch_too_large", file, node->path,
                         "the file is too large to be patched");
    return 0;
}

static struct patch_node *node_of(const struct patch_tree *tree, const char *name, unsigned strip)
{
    char path[4096];
    return name && strip_name(name, strip, path) ? patch_tree_find(tree, path) : NULL;
}

static int apply_to(struct patch_tree *tree, const struct patch *patch,
                    const struct patch_file *file, const char *path, const struct patch_state *from,
                    struct patch_state *ret_state, struct hearth_failure *failure)
{
    struct patch_state state = {.type = from->type, .mode = from->mode};
    const char *content = from->content ? from->content : "";
    int error = file->binary.kind ? patch_apply_binary(file, path, content, from->length,
                                                       PATCH_MADE_MAX - tree->made, &state.content,
                                                       &state.length, failure)
                                  : patch_apply_hunks(patch, file, path, content, from->length,
                                                      &state.content, &state.length, failure);
    if (error)
        return error;
    if (state.length > PATCH_MADE_MAX - tree->made) {
        state_clear(&state);
        return patch_out_of_room(failure);
    }
    tree->made += state.length;
    if (file->new_mode & TYPE_BITS)
        state.type = (file->new_mode & TYPE_BITS) == LINK_BITS ? PATCH_SYMLINK : PATCH_FILE;
    if (file->new_mode)
        state.mode = file->new_mode & 0777;
    *ret_state = state;
    return 0;
}

/* git's files may come in any order: what is there already may be what a later one takes away. */
static int check_target(const struct patch_tree *tree, struct patch_node *target,
                        const struct patch_file *file, struct hearth_failure *failure)
{
    if (target->now.type == PATCH_NOTHING ||
        (target->now.type == PATCH_DIRECTORY && below_leaves(tree, target->path)))
        return 0;
    if (target->leaves && !target->early) {
        target->early = true;
        return 0;
    }
    return fail_file(failure, HEARTH_ECONFLICT, "already_exists", file, target->path,
                     "the patch makes it, and it is there already");
}

static int add(struct patch_tree *tree, const struct patch *patch, const struct patch_file *file,
               struct patch_node *target, struct hearth_failure *failure)
{
    struct patch_state nothing = {.type = PATCH_FILE, .mode = 0644}, state;
    int error = check_target(tree, target, file, failure);
    if (!error)
        error = apply_to(tree, patch, file, target->path, &nothing, &state, failure);
    if (error)
        return error;
    state_clear(&target->now);
    target->now = state;
    return 0;
}

static int check_source(const struct patch_state *from, const struct patch_file *file,
                        const char *path, struct hearth_failure *failure)
{
    if (from->type == PATCH_NOTHING)
        return fail_file(failure, HEARTH_ENOTFOUND, "file_not_found", file, path,
                         "there is no such file");
    bool link = (file->old_mode & TYPE_BITS) == LINK_BITS;
    if (from->type == PATCH_OTHER || from->type == PATCH_DIRECTORY ||
        ((file->old_mode & TYPE_BITS) && link != (from->type == PATCH_SYMLINK)))
        return fail_file(failure, HEARTH_ECONFLICT, "wrong_file_type", file, path,
                         "it is not of the type that the patch says");
    return 0;
}

/* It has what it had before the patch no longer. */
static void leave(struct patch_node *source)
{
    if (!source->early)
        state_clear(&source->now);
    source->leaves = source->early = false;
}

static int delete_(struct patch_tree *tree, const struct patch *patch,
                   const struct patch_file *file, struct patch_node *source,
                   struct hearth_failure *failure)
{
    const struct patch_state *from = source->early ? &source->base : &source->now;
    struct patch_state state = {0};
    int error = check_source(from, file, source->path, failure);
    if (!error && !patch->apply_patch) {
        error = apply_to(tree, patch, file, source->path, from, &state, failure);
        if (!error && state.length)
            error = fail_file(failure, HEARTH_ECONFLICT, "patch_does_not_apply", file, source->path,
                              "it is to be deleted, but has more than the patch takes away");
        free(state.content);
    }
    if (!error)
        leave(source);
    return error;
}

static int modify(struct patch_tree *tree, const struct patch *patch, const struct patch_file *file,
                  struct patch_node *source, struct hearth_failure *failure)
{
    struct patch_state state;
    int error = check_source(&source->now, file, source->path, failure);
    if (!error)
        error = apply_to(tree, patch, file, source->path, &source->now, &state, failure);
    if (error)
        return error;
    state_clear(&source->now);
    if (file->deletes && !state.length)
        state_clear(&state);
    source->now = state;
    return 0;
}

/* git's renames and copies are of what was there before the patch, whatever their order. */
static int carry(struct patch_tree *tree, const struct patch *patch, const struct patch_file *file,
                 struct patch_node *source, struct patch_node *target,
                 struct hearth_failure *failure)
{
    const struct patch_state *from =
        source->base.type != PATCH_NOTHING && !patch->apply_patch ? &source->base : &source->now;
    struct patch_state state;
    int error = check_source(from, file, source->path, failure);
    if (!error && target != source)
        error = check_target(tree, target, file, failure);
    if (!error)
        error = apply_to(tree, patch, file, source->path, from, &state, failure);
    if (error)
        return error;
    if (file->kind == PATCH_RENAME || target == source)
        leave(source);
    state_clear(&target->now);
    target->now = state;
    return 0;
}

static int apply_file(struct patch_tree *tree, const struct patch *patch,
                      const struct patch_file *file, unsigned strip, struct hearth_failure *failure)
{
    strip = file->final_names ? 0 : strip;
    struct patch_node *source = node_of(tree, file->old_name, strip);
    struct patch_node *target = node_of(tree, file->new_name, strip);
    if ((file->old_name && !source) || (file->new_name && !target))
        return fail_file(failure, HEARTH_EINVALID, "bad_path", file,
                         file->new_name ? file->new_name : file->old_name, "it is no path");
    int error = source ? check_node(tree, source, file, failure) : 0;
    if (!error && target)
        error = check_node(tree, target, file, failure);
    if (error)
        return error;
    switch (file->kind) {
    case PATCH_ADD:
        return add(tree, patch, file, target, failure);
    case PATCH_DELETE:
        return delete_(tree, patch, file, source, failure);
    case PATCH_RENAME:
    case PATCH_COPY:
        return carry(tree, patch, file, source, target, failure);
    case PATCH_MODIFY:
        break;
    }
    /* A plain patch's names may differ (x.orig, x): the one that is there is meant. */
    bool there = target->now.type != PATCH_NOTHING;
    if (!there && source->now.type == PATCH_NOTHING && file->may_add)
        return add(tree, patch, file, target, failure);
    return modify(tree, patch, file, there ? target : source, failure);
}

static int copy_state(struct patch_state *to, const struct patch_state *from)
{
    *to = *from;
    to->content = NULL;
    if (!from->content)
        return 0;
    to->content = malloc(from->length + 1);
    if (!to->content)
        return HEARTH_ENOMEMORY;
    memcpy(to->content, from->content, from->length);
    to->content[from->length] = '\0';
    return 0;
}

static void mark_leaving(struct patch_tree *tree, const struct patch *patch)
{
    for (size_t i = 0; i < patch->count; i++) {
        const struct patch_file *file = &patch->files[i];
        struct patch_node *source =
            file->final_names && !patch->apply_patch ? node_of(tree, file->old_name, 0) : NULL;
        if (source && (file->kind == PATCH_DELETE || file->kind == PATCH_RENAME) &&
            source != node_of(tree, file->new_name, 0))
            source->leaves = source->base.type != PATCH_NOTHING;
    }
}

int patch_tree_apply(struct patch_tree *tree, const struct patch *patch,
                     struct hearth_failure *failure)
{
    int error = 0;
    for (struct patch_node *node = tree->first; !error && node; node = node->next)
        error = copy_state(&node->now, &node->base);
    if (error)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    unsigned strip = choose_strip(tree, patch);
    mark_leaving(tree, patch);
    for (size_t i = 0; !error && i < patch->count; i++)
        error = apply_file(tree, patch, &patch->files[i], strip, failure);
    return error;
}

enum patch_status patch_node_status(const struct patch_node *node)
{
    const struct patch_state *base = &node->base, *now = &node->now;
    if (base->type == PATCH_NOTHING || base->type == PATCH_DIRECTORY)
        return now->type == base->type ? PATCH_SAME : PATCH_ADDED;
    if (now->type == PATCH_NOTHING)
        return PATCH_DELETED;
    bool same = base->type == now->type && base->length == now->length &&
                (now->type == PATCH_SYMLINK || base->mode == now->mode) &&
                (!now->length || memcmp(base->content, now->content, now->length) == 0);
    return same ? PATCH_SAME : PATCH_MODIFIED;
}
