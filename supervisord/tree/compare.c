#include "supervisord/tree/compare.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a diff");
}

void tree_changes_free(struct tree_changes *changes)
{
    free(changes->changes);
    *changes = (struct tree_changes){0};
}

uint32_t tree_git_mode(const struct tree_entry *entry)
{
    return entry->type == TREE_SYMLINK ? 0120000 : entry->mode & 0100 ? 0100755 : 0100644;
}

bool tree_path_under(const char *path, const char *const *paths, size_t path_count)
{
    for (size_t i = 0; i < path_count; i++) {
        size_t length = strlen(paths[i]);
        if (!length ||
            (strncmp(path, paths[i], length) == 0 && (!path[length] || path[length] == '/')))
            return true;
    }
    return !path_count;
}

static int add(struct tree_changes *changes, const struct tree_change *change,
               struct hearth_failure *failure)
{
    if (changes->count == changes->capacity) {
        size_t capacity = changes->capacity ? changes->capacity * 2 : 64;
        struct tree_change *grown = realloc(changes->changes, capacity * sizeof *grown);
        if (!grown)
            return no_memory(failure);
        changes->changes = grown;
        changes->capacity = capacity;
    }
    changes->changes[changes->count++] = *change;
    return 0;
}

/* Both are there. False: they are the same. */
static bool differ(struct tree_change *change)
{
    const struct tree_entry *old = change->old, *new = change->new;
    change->status = CHANGE_MODIFIED;
    change->known = true;
    change->content = false;
    if (old->type != new->type) {
        change->status = CHANGE_TYPE;
        change->content = true;
        return true;
    }
    if (old->type == TREE_SYMLINK)
        return change->content = strcmp(old->link_target, new->link_target) != 0;
    if (old->type == TREE_FILE) {
        bool same_size = old->size == new->size;
        change->known = !same_size || new->hashed;
        change->content = !same_size || !new->hashed ||
                          memcmp(&old->content, &new->content, sizeof old->content) != 0;
    }
    return change->content || old->mode != new->mode;
}

int tree_compare(const struct tree_list *old, const struct tree_list *new, const char *const *paths,
                 size_t path_count, struct tree_changes *ret_changes,
                 struct hearth_failure *failure)
{
    int error = 0;
    for (size_t i = 0, k = 0; !error && (i < old->count || k < new->count);) {
        int order = i == old->count   ? 1
                    : k == new->count ? -1
                                      : strcmp(old->entries[i].path, new->entries[k].path);
        struct tree_change change = {.content = true, .known = true};
        if (order <= 0)
            change.old = &old->entries[i++];
        if (order >= 0) {
            change.new_index = k;
            change.new = &new->entries[k++];
        }
        change.status = order < 0 ? CHANGE_DELETED : CHANGE_ADDED;
        if ((order == 0 && !differ(&change)) ||
            !tree_path_under((change.old ? change.old : change.new)->path, paths, path_count))
            continue;
        error = add(ret_changes, &change, failure);
    }
    if (error)
        tree_changes_free(ret_changes);
    return error;
}

/* Renames without a change: by content, then by path, so that what is paired does not depend on
 * chance. */

static int compare_content(const void *left, const void *right)
{
    const struct tree_change *a = *(struct tree_change *const *)left,
                             *b = *(struct tree_change *const *)right;
    const struct tree_entry *x = a->old ? a->old : a->new, *y = b->old ? b->old : b->new;
    int order = memcmp(&x->content, &y->content, sizeof x->content);
    if (!order)
        order = (a->old != NULL) - (b->old != NULL);
    return order ? order : strcmp(x->path, y->path);
}

static bool may_pair(const struct tree_change *change)
{
    const struct tree_entry *entry = change->old ? change->old : change->new;
    return (change->status == CHANGE_ADDED || change->status == CHANGE_DELETED) &&
           entry->type == TREE_FILE && entry->hashed && entry->size;
}

/* A run of equal contents: the added first, then the deleted. */
static void pair_run(struct tree_change **run, size_t count)
{
    size_t added = 0;
    while (added < count && !run[added]->old)
        added++;
    for (size_t i = 0; i < added && added + i < count; i++) {
        run[i]->partner = run[added + i];
        run[added + i]->partner = run[i];
        run[i]->similarity = run[added + i]->similarity = 100;
    }
}

int tree_pair_exact(struct tree_changes *changes, struct hearth_failure *failure)
{
    struct tree_change **list = malloc((changes->count + 1) * sizeof(struct tree_change *));
    size_t count = 0;
    if (!list)
        return no_memory(failure);
    for (size_t i = 0; i < changes->count; i++)
        if (may_pair(&changes->changes[i]))
            list[count++] = &changes->changes[i];
    if (count)
        qsort(list, count, sizeof *list, compare_content);
    for (size_t from = 0, to; from < count; from = to) {
        const struct tree_entry *first = list[from]->old ? list[from]->old : list[from]->new;
        for (to = from + 1; to < count; to++) {
            const struct tree_entry *entry = list[to]->old ? list[to]->old : list[to]->new;
            if (memcmp(&first->content, &entry->content, sizeof first->content) != 0)
                break;
        }
        pair_run(list + from, to - from);
    }
    free(list);
    return 0;
}
