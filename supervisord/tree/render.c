#include "supervisord/tree/render.h"

#include "supervisord/tree/content.h"
#include "supervisord/tree/manifest.h"
#include "supervisord/tree/patch.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((uint64_t)4 << 20) /* of a file that is looked into */
#define KEPT_MAX ((size_t)64 << 20)  /* of all of them */
#define SIMILAR_PAIRS_MAX 20000u /* deleted times added files that are held against each other */
#define SIMILAR_MIN 50           /* percent: as git has it */
#define SIMILAR_BYTES_MAX ((uint64_t)1 << 20)

/* A change on its way to an entry. */
struct item {
    struct tree_change *change;
    struct buf old; /* the content before, where it was needed */
    bool old_read;
    const struct buf *new;
};

struct rendering {
    struct render *render;
    const char *const *paths; /* that were read, sorted */
    size_t path_count;
    struct tree_changes changes;
    struct item *items;
    void *scratch;
    struct hearth_failure *failure;
};

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a diff");
}

/* What must be read. */

/* The large files that are gone: one that is new and as large may be one of them by another name.
 * No more is read to find out than was there. */
struct gone {
    uint64_t *sizes; /* sorted */
    size_t count;
    uint64_t bytes;
};

static int compare_sizes(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static int find_gone(const struct tree_changes *changes, struct gone *gone)
{
    gone->sizes = calloc(changes->count + 1, sizeof *gone->sizes);
    if (!gone->sizes)
        return HEARTH_ENOMEMORY;
    for (size_t i = 0; i < changes->count; i++) {
        const struct tree_change *change = &changes->changes[i];
        if (change->status != CHANGE_DELETED || change->old->type != TREE_FILE ||
            change->old->size <= TEXT_MAX)
            continue;
        gone->sizes[gone->count++] = change->old->size;
        gone->bytes += change->old->size;
    }
    qsort(gone->sizes, gone->count, sizeof *gone->sizes, compare_sizes);
    return 0;
}

static bool may_be_moved(struct gone *gone, uint64_t size)
{
    if (size > gone->bytes ||
        !bsearch(&size, gone->sizes, gone->count, sizeof *gone->sizes, compare_sizes))
        return false;
    gone->bytes -= size;
    return true;
}

static bool worth_reading(const struct render *render, const struct tree_change *change,
                          struct gone *gone, bool *ret_keep)
{
    const struct tree_entry *entry = change->new;
    *ret_keep = false;
    if (!entry || entry->type != TREE_FILE || !change->content)
        return false;
    *ret_keep = !render->spec.stat_only && entry->size <= TEXT_MAX &&
                (!change->old || change->old->type != TREE_FILE || change->old->size <= TEXT_MAX);
    /* One that is new is read for its hash too: it may be another's by a new name. */
    return *ret_keep || !change->known ||
           (!entry->hashed && change->status == CHANGE_ADDED &&
            (entry->size <= TEXT_MAX || may_be_moved(gone, entry->size)));
}

static int note(struct render *render, struct tree_work *work, const struct tree_change *change,
                struct gone *gone, size_t room)
{
    bool keep;
    if (!worth_reading(render, change, gone, &keep))
        return 0;
    if (!work->paths) {
        work->paths = calloc(room, sizeof *work->paths);
        work->indexes = calloc(room, sizeof *work->indexes);
        render->kept = calloc(room, sizeof *render->kept);
        render->keep = calloc(room, sizeof *render->keep);
        if (!work->paths || !work->indexes || !render->kept || !render->keep)
            return HEARTH_ENOMEMORY;
    }
    render->keep[work->path_count] = keep;
    work->paths[work->path_count] = change->new->path;
    work->indexes[work->path_count++] = change->new_index;
    render->kept_count = work->path_count;
    return 0;
}

int render_plan(struct render *render, const struct tree_list *now, struct tree_work *work,
                struct hearth_failure *failure)
{
    struct tree_changes changes = {0};
    struct gone gone = {0};
    int error = manifest_read(render->store, &render->baseline, &render->old, failure);
    if (!error)
        error = tree_compare(&render->old, now, render->spec.paths, render->spec.path_count,
                             &changes, failure);
    if (!error && find_gone(&changes, &gone))
        error = no_memory(failure);
    for (size_t i = 0; i < changes.count && !error; i++)
        if (note(render, work, &changes.changes[i], &gone, changes.count))
            error = no_memory(failure);
    free(gone.sizes);
    tree_changes_free(&changes);
    return error;
}

int render_keep(struct render *render, size_t index, const void *data, size_t length,
                struct hearth_failure *failure)
{
    struct buf *kept = &render->kept[index];
    if (!render->keep[index] || !length)
        return 0;
    render->kept_bytes += length;
    /* It has grown since it was looked at, or the others are too large: it is told without. */
    if (kept->length + length > TEXT_MAX || render->kept_bytes > KEPT_MAX) {
        render->keep[index] = false;
        render->kept_bytes -= kept->length + length;
        buf_free(kept);
        return 0;
    }
    return buf_append(kept, data, length) ? no_memory(failure) : 0;
}

/* Contents for the patch. */

static int compare_path(const void *key, const void *path)
{
    return strcmp(key, *(const char *const *)path);
}

static const struct buf *kept_of(const struct rendering *rendering, const struct tree_entry *entry)
{
    const char *const *found = rendering->path_count
                                   ? bsearch(entry->path, rendering->paths, rendering->path_count,
                                             sizeof *rendering->paths, compare_path)
                                   : NULL;
    size_t index = found ? (size_t)(found - rendering->paths) : 0;
    const struct render *render = rendering->render;
    return found && render->keep[index] && render->kept[index].length == entry->size
               ? &render->kept[index]
               : NULL;
}

static int read_old(struct rendering *rendering, struct item *item, uint64_t most)
{
    const struct tree_entry *entry = item->change->old;
    struct content_reader reader;
    size_t length;
    if (item->old_read || !entry || entry->type != TREE_FILE || entry->size > most)
        return 0;
    int error = content_open(&reader, rendering->render->store, &entry->content, entry->size,
                             rendering->scratch, rendering->failure);
    while (!error) {
        error = content_next(&reader, rendering->scratch, &length, rendering->failure);
        if (error || !length)
            break;
        if (buf_append(&item->old, rendering->scratch, length))
            error = no_memory(rendering->failure);
    }
    content_close(&reader);
    item->old_read = !error;
    return error;
}

/* Renames with a change: each added file against each deleted one, the most similar first. */

struct candidate {
    struct item *added, *deleted;
    int similarity;
};

static bool may_be_renamed(const struct item *item, enum change_status status)
{
    const struct tree_entry *entry = status == CHANGE_ADDED ? item->change->new : item->change->old;
    return item->change->status == status && !item->change->partner && entry->type == TREE_FILE &&
           entry->size && entry->size <= SIMILAR_BYTES_MAX &&
           (status == CHANGE_DELETED || item->new);
}

static int compare_candidates(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    if (a->similarity != b->similarity)
        return b->similarity - a->similarity;
    int order = strcmp(a->added->change->new->path, b->added->change->new->path);
    return order ? order : strcmp(a->deleted->change->old->path, b->deleted->change->old->path);
}

static void pair(struct candidate *candidates, size_t count)
{
    if (count)
        qsort(candidates, count, sizeof *candidates, compare_candidates);
    for (size_t i = 0; i < count; i++) {
        struct tree_change *added = candidates[i].added->change;
        struct tree_change *deleted = candidates[i].deleted->change;
        if (added->partner || deleted->partner)
            continue;
        added->partner = deleted;
        deleted->partner = added;
        added->similarity = deleted->similarity = candidates[i].similarity;
    }
}

static int sign_all(struct rendering *rendering, struct patch_signature **signatures,
                    size_t *ret_added, size_t *ret_deleted)
{
    *ret_added = *ret_deleted = 0;
    for (size_t i = 0; i < rendering->changes.count; i++) {
        *ret_added += may_be_renamed(&rendering->items[i], CHANGE_ADDED);
        *ret_deleted += may_be_renamed(&rendering->items[i], CHANGE_DELETED);
    }
    if (!*ret_added || !*ret_deleted || *ret_added * *ret_deleted > SIMILAR_PAIRS_MAX)
        return 0;
    for (size_t i = 0; i < rendering->changes.count; i++) {
        struct item *item = &rendering->items[i];
        if (may_be_renamed(item, CHANGE_ADDED)) {
            signatures[i] = patch_sign(item->new->data, item->new->length);
        } else if (may_be_renamed(item, CHANGE_DELETED)) {
            int error = read_old(rendering, item, SIMILAR_BYTES_MAX);
            if (error)
                return error;
            signatures[i] = patch_sign(item->old.data, item->old.length);
        }
    }
    return 0;
}

static int find_candidates(struct rendering *rendering, struct patch_signature **signatures,
                           struct candidate *candidates, size_t *ret_count)
{
    size_t count = 0;
    for (size_t i = 0; i < rendering->changes.count; i++) {
        if (!signatures[i] || rendering->items[i].change->status != CHANGE_ADDED)
            continue;
        for (size_t k = 0; k < rendering->changes.count; k++) {
            if (!signatures[k] || rendering->items[k].change->status != CHANGE_DELETED)
                continue;
            int similarity = patch_similarity(signatures[i], signatures[k]);
            if (similarity >= SIMILAR_MIN)
                candidates[count++] =
                    (struct candidate){&rendering->items[i], &rendering->items[k], similarity};
        }
    }
    *ret_count = count;
    return 0;
}

static int pair_similar(struct rendering *rendering)
{
    size_t added, deleted, count = 0, all = rendering->changes.count;
    struct patch_signature **signatures = calloc(all + 1, sizeof(struct patch_signature *));
    if (!signatures)
        return no_memory(rendering->failure);
    int error = sign_all(rendering, signatures, &added, &deleted);
    struct candidate *candidates = NULL;
    if (!error && added && deleted && added * deleted <= SIMILAR_PAIRS_MAX) {
        candidates = calloc(added * deleted, sizeof *candidates);
        error = candidates ? find_candidates(rendering, signatures, candidates, &count)
                           : no_memory(rendering->failure);
    }
    if (!error)
        pair(candidates, count);
    free(candidates);
    for (size_t i = 0; i < all; i++)
        patch_signature_free(signatures[i]);
    free(signatures);
    return error;
}

/* Patches. */

static bool side_of(struct patch_side *ret_side, const struct tree_entry *entry,
                    const struct buf *content)
{
    *ret_side = (struct patch_side){.data = ""};
    if (!entry || entry->type == TREE_DIRECTORY)
        return true;
    ret_side->path = entry->path;
    ret_side->mode = tree_git_mode(entry);
    if (entry->type == TREE_SYMLINK) {
        ret_side->data = entry->link_target;
        ret_side->length = strlen(entry->link_target);
        return true;
    }
    if (!content && entry->size)
        return false;
    if (content && content->length) {
        ret_side->data = content->data;
        ret_side->length = content->length;
    }
    return true;
}

static int append(struct rendering *rendering, const struct patch_side *old,
                  const struct patch_side *new, int similarity, enum patch_kind *kind)
{
    static const struct patch_side none = {.data = ""};
    const struct diff_spec *spec = &rendering->render->spec;
    struct patch_options options = {.context = spec->context, .binary = spec->binary};
    struct buf *out = &rendering->render->patch;
    bool two = old->path && new->path && (old->mode == 0120000) != (new->mode == 0120000);
    if (!old->path && !new->path)
        return 0;
    if (!two)
        return patch_append(out, old, new, &options, similarity, kind, rendering->failure);
    enum patch_kind first;
    int error = patch_append(out, old, &none, &options, 0, &first, rendering->failure);
    if (!error)
        error = patch_append(out, &none, new, &options, 0, kind, rendering->failure);
    if (!error && first == PATCH_MARKER)
        *kind = PATCH_MARKER;
    return error;
}

/* The patch of one item at the end of all of them, unless it has none or there is no room left. */
static int put_patch(struct rendering *rendering, struct item *item, struct diff_entry *entry,
                     struct diff_result *result)
{
    struct render *render = rendering->render;
    struct tree_change *change = item->change, *from = change->partner;
    struct item *old_item = from ? &rendering->items[from - rendering->changes.changes] : item;
    struct patch_side old, new;
    if (change->status == CHANGE_DELETED && from) {
        entry->patch_kind = DIFF_PATCH_RENAMED;
        return 0;
    }
    const struct tree_entry *old_entry = from ? from->old : change->old;
    bool content = change->content && !(from && from->similarity == 100);
    if (!content && change->status == CHANGE_MODIFIED &&
        (change->new->type != TREE_FILE ||
         tree_git_mode(change->old) == tree_git_mode(change->new)))
        return 0; /* mode bits that git does not have */
    bool whole;
    if (content) {
        int error = read_old(rendering, old_item, TEXT_MAX);
        if (error)
            return error;
        whole = side_of(&old, old_entry, old_item->old_read ? &old_item->old : NULL) &&
                side_of(&new, change->new, item->new);
    } else {
        static const struct buf empty;
        whole = side_of(&old, old_entry, &empty) && side_of(&new, change->new, &empty);
    }
    if (!whole) {
        entry->patch_kind = DIFF_PATCH_TOO_LARGE;
        return 0;
    }
    size_t before = render->patch.length;
    enum patch_kind kind = PATCH_TEXT;
    int error = append(rendering, &old, &new, change->similarity, &kind);
    if (error)
        return error;
    if (render->patch.length == before)
        return 0; /* directories */
    if (render->patch.length > render->spec.max_patch_bytes) {
        render->patch.length = before;
        entry->patch_kind = DIFF_PATCH_LEFT_OUT;
        result->patches_left_out++;
        return 0;
    }
    entry->patch_kind = kind == PATCH_TEXT ? DIFF_PATCH_TEXT : DIFF_PATCH_NO_TEXT;
    entry->patch = (const char *)before; /* an offset, until the text is whole */
    entry->patch_length = render->patch.length - before;
    return 0;
}

/* Entries. */

static enum file_type type_of(const struct tree_entry *entry)
{
    return entry->type == TREE_FILE      ? FILE_REGULAR
           : entry->type == TREE_SYMLINK ? FILE_SYMLINK
                                         : FILE_DIRECTORY;
}

static void describe(const struct tree_change *change, struct diff_entry *entry,
                     struct diff_result *result)
{
    static const enum diff_status statuses[] = {[CHANGE_ADDED] = DIFF_ADDED,
                                                [CHANGE_MODIFIED] = DIFF_MODIFIED,
                                                [CHANGE_DELETED] = DIFF_DELETED,
                                                [CHANGE_TYPE] = DIFF_TYPE_CHANGED};
    uint64_t *counts[] = {[CHANGE_ADDED] = &result->added,
                          [CHANGE_MODIFIED] = &result->modified,
                          [CHANGE_DELETED] = &result->deleted,
                          [CHANGE_TYPE] = &result->type_changed};
    const struct tree_entry *now = change->new ? change->new : change->old;
    *entry = (struct diff_entry){.path = now->path,
                                 .status = statuses[change->status],
                                 .type = type_of(now),
                                 .has_old = change->old,
                                 .has_new = change->new,
                                 .old_mode = change->old ? change->old->mode : 0,
                                 .new_mode = change->new ? change->new->mode : 0,
                                 .similarity = change->similarity,
                                 .patch_kind = DIFF_PATCH_NONE};
    if (change->partner && change->new)
        entry->renamed_from = change->partner->old->path;
    else if (change->partner)
        entry->renamed_to = change->partner->new->path;
    ++*counts[change->status];
    result->total++;
}

static void count_patch(const struct diff_entry *entry, struct diff_result *result)
{
    result->text_patched += entry->patch_kind == DIFF_PATCH_TEXT;
    result->non_text +=
        entry->patch_kind == DIFF_PATCH_NO_TEXT || entry->patch_kind == DIFF_PATCH_TOO_LARGE;
}

static int write_entries(struct rendering *rendering, struct diff_result *result)
{
    struct render *render = rendering->render;
    size_t most = render->spec.max_entries;
    size_t count = rendering->changes.count < most ? rendering->changes.count : most;
    struct diff_entry beyond;
    int error = 0;
    render->entries = calloc(count + 1, sizeof *render->entries);
    if (!render->entries)
        return no_memory(rendering->failure);
    for (size_t i = 0; i < rendering->changes.count && !error; i++) {
        struct item *item = &rendering->items[i];
        struct diff_entry *entry = i < count ? &render->entries[i] : &beyond;
        describe(item->change, entry, result);
        if (!render->spec.stat_only)
            error = put_patch(rendering, item, entry, result);
        count_patch(entry, result);
        if (!item->change->partner)
            buf_free(&item->old);
    }
    for (size_t i = 0; i < count; i++)
        if (render->entries[i].patch_length)
            render->entries[i].patch = render->patch.data + (size_t)render->entries[i].patch;
    result->entries = render->entries;
    result->entry_count = count;
    result->patch = render->patch.length ? render->patch.data : "";
    result->patch_length = render->patch.length;
    return error;
}

static int make_items(struct rendering *rendering)
{
    rendering->items = calloc(rendering->changes.count + 1, sizeof *rendering->items);
    rendering->scratch = malloc(PACK_BLOB_MAX);
    if (!rendering->items || !rendering->scratch)
        return no_memory(rendering->failure);
    for (size_t i = 0; i < rendering->changes.count; i++) {
        struct tree_change *change = &rendering->changes.changes[i];
        rendering->items[i].change = change;
        if (change->new && change->new->type == TREE_FILE)
            rendering->items[i].new = kept_of(rendering, change->new);
    }
    return 0;
}

int render_conclude(struct render *render, const struct tree_list *now, const char *const *paths,
                    size_t path_count, struct diff_result *ret_result,
                    struct hearth_failure *failure)
{
    struct rendering rendering = {
        .render = render, .paths = paths, .path_count = path_count, .failure = failure};
    render->patch.limit = render->spec.max_patch_bytes + 16 * TEXT_MAX;
    int error = render->spec.stat_only ? 0 : patch_init(failure);
    if (!error)
        error = tree_compare(&render->old, now, render->spec.paths, render->spec.path_count,
                             &rendering.changes, failure);
    if (!error)
        error = make_items(&rendering);
    if (!error)
        error = tree_pair_exact(&rendering.changes, failure);
    if (!error && !render->spec.stat_only)
        error = pair_similar(&rendering);
    if (!error)
        error = write_entries(&rendering, ret_result);
    for (size_t i = 0; rendering.items && i < rendering.changes.count; i++)
        buf_free(&rendering.items[i].old);
    free(rendering.items);
    free(rendering.scratch);
    tree_changes_free(&rendering.changes);
    return error;
}

void render_free(struct render *render)
{
    for (size_t i = 0; i < render->kept_count; i++)
        buf_free(&render->kept[i]);
    free(render->kept);
    free(render->keep);
    free(render->entries);
    buf_free(&render->patch);
    tree_list_free(&render->old);
}
