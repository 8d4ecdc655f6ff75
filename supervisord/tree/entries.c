#include "supervisord/tree/entries.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 << 10)

struct tree_block {
    struct tree_block *next;
    size_t used, size;
    char data[];
};

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a tree");
}

void tree_list_free(struct tree_list *list)
{
    while (list->blocks) {
        struct tree_block *block = list->blocks;
        list->blocks = block->next;
        free(block);
    }
    free(list->entries);
    *list = (struct tree_list){0};
}

char *tree_list_text(struct tree_list *list, const char *data, size_t length)
{
    struct tree_block *block = list->blocks;
    if (!block || block->size - block->used <= length) {
        size_t size = length + 1 > BLOCK_BYTES ? length + 1 : BLOCK_BYTES;
        block = malloc(sizeof *block + size);
        if (!block)
            return NULL;
        *block = (struct tree_block){.next = list->blocks, .size = size};
        list->blocks = block;
    }
    char *text = block->data + block->used;
    if (length)
        memcpy(text, data, length);
    text[length] = '\0';
    block->used += length + 1;
    return text;
}

static int make_room(struct tree_list *list, struct hearth_failure *failure)
{
    if (list->count < list->capacity)
        return 0;
    if (list->count >= TREE_ENTRIES_MAX) {
        int error = hearth_fail(failure, HEARTH_ETOOLARGE, "tree_too_large",
                                "the workspace has more than %u files", TREE_ENTRIES_MAX);
        hearth_failure_hint(failure,
                            "Remove what is not needed, such as caches and build products.");
        return error;
    }
    size_t capacity = list->capacity ? list->capacity * 2 : 256;
    struct tree_entry *entries = realloc(list->entries, capacity * sizeof *entries);
    if (!entries)
        return no_memory(failure);
    list->entries = entries;
    list->capacity = capacity;
    return 0;
}

static bool keep_text(struct tree_list *list, const char **text)
{
    if (*text)
        *text = tree_list_text(list, *text, strlen(*text));
    return *text != NULL;
}

int tree_list_add(struct tree_list *list, const struct tree_entry *entry,
                  struct hearth_failure *failure)
{
    int error = make_room(list, failure);
    if (error)
        return error;
    struct tree_entry *kept = &list->entries[list->count];
    *kept = *entry;
    kept->order = (uint32_t)list->count;
    if (!keep_text(list, &kept->path) ||
        (entry->link_target && !keep_text(list, &kept->link_target)) ||
        (entry->hard_link && !keep_text(list, &kept->hard_link)))
        return no_memory(failure);
    list->count++;
    return 0;
}

static int compare(const void *left, const void *right)
{
    const struct tree_entry *a = left, *b = right;
    int order = strcmp(a->path, b->path);
    return order ? order : (a->order > b->order) - (a->order < b->order);
}

void tree_list_sort(struct tree_list *list)
{
    bool sorted = true;
    for (size_t i = 1; i < list->count && sorted; i++)
        sorted = strcmp(list->entries[i - 1].path, list->entries[i].path) < 0;
    if (sorted)
        return;
    qsort(list->entries, list->count, sizeof *list->entries, compare);
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (kept && strcmp(list->entries[kept - 1].path, list->entries[i].path) == 0)
            kept--;
        list->entries[kept++] = list->entries[i];
    }
    list->count = kept;
}

static int compare_path(const void *key, const void *entry)
{
    return strcmp(key, ((const struct tree_entry *)entry)->path);
}

struct tree_entry *tree_list_find(const struct tree_list *list, const char *path)
{
    return list->count
               ? bsearch(path, list->entries, list->count, sizeof *list->entries, compare_path)
               : NULL;
}

bool tree_path_good(const char *path)
{
    size_t length = strlen(path);
    if (!length || length > TREE_PATH_MAX || path[length - 1] == '/')
        return false;
    while (*path) {
        size_t part = strcspn(path, "/");
        if (!part || (part == 1 && path[0] == '.') ||
            (part == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        path += part + (path[part] == '/');
    }
    return true;
}

/* Hard links. */

static int compare_inode(const void *left, const void *right)
{
    const struct tree_entry *a = *(struct tree_entry *const *)left,
                            *b = *(struct tree_entry *const *)right;
    if (a->inode != b->inode)
        return a->inode < b->inode ? -1 : 1;
    return strcmp(a->path, b->path);
}

static bool one_file(const struct tree_entry *left, const struct tree_entry *right)
{
    return left->inode == right->inode && left->size == right->size &&
           left->mtime_ns == right->mtime_ns && left->ctime_ns == right->ctime_ns;
}

static void share_content(struct tree_entry *to, const struct tree_entry *from)
{
    if (to->hashed || !from->hashed)
        return;
    to->content = from->content;
    to->hashed = true;
}

/* Twice, so that what one of the names tells of the content reaches all. */
static void group(struct tree_entry **linked, size_t count)
{
    for (int round = 0; round < 2; round++) {
        struct tree_entry *first = linked[0];
        for (size_t i = 1; i < count; i++) {
            if (!one_file(first, linked[i])) {
                first = linked[i];
                continue;
            }
            linked[i]->hard_link = first->path;
            share_content(first, linked[i]);
            share_content(linked[i], first);
        }
    }
}

int tree_list_group_links(struct tree_list *list, struct hearth_failure *failure)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        list->entries[i].hard_link = NULL;
        count += list->entries[i].type == TREE_FILE && list->entries[i].links > 1;
    }
    if (!count)
        return 0;
    struct tree_entry **linked = malloc(count * sizeof(struct tree_entry *));
    if (!linked)
        return no_memory(failure);
    count = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].type == TREE_FILE && list->entries[i].links > 1)
            linked[count++] = &list->entries[i];
    qsort(linked, count, sizeof *linked, compare_inode);
    group(linked, count);
    free(linked);
    return 0;
}

uint64_t tree_list_bytes(const struct tree_list *list)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].type == TREE_FILE && !list->entries[i].hard_link)
            bytes += list->entries[i].size;
    return bytes;
}

/* Merging. */

static void carry(struct tree_entry *entry, const struct tree_entry *old, enum tree_trust trust)
{
    if (entry->type != TREE_FILE || old->type != TREE_FILE || entry->hashed || !old->hashed ||
        entry->size != old->size || entry->mtime_ns != old->mtime_ns)
        return;
    if (trust == TREE_TRUST_SCAN &&
        (old->recent || entry->ctime_ns != old->ctime_ns || entry->inode != old->inode))
        return;
    entry->content = old->content;
    entry->hashed = true;
}

static bool is_removed(const char *path, const char *const *removed, size_t count, size_t *at)
{
    while (*at < count && strcmp(removed[*at], path) < 0)
        ++*at;
    return *at < count && strcmp(removed[*at], path) == 0;
}

int tree_list_merge(struct tree_list *scanned, const struct tree_list *old, bool from_base,
                    const char *const *removed, size_t removed_count, enum tree_trust trust,
                    struct hearth_failure *failure)
{
    size_t count = scanned->count, removed_at = 0, at = 0;
    int error = 0;
    for (size_t i = 0; i < old->count && !error; i++) {
        const struct tree_entry *entry = &old->entries[i];
        while (at < count && strcmp(scanned->entries[at].path, entry->path) < 0)
            at++;
        if (at < count && strcmp(scanned->entries[at].path, entry->path) == 0)
            carry(&scanned->entries[at], entry, trust);
        else if (from_base && !is_removed(entry->path, removed, removed_count, &removed_at))
            error = tree_list_add(scanned, entry, failure);
    }
    if (error)
        return error;
    tree_list_sort(scanned);
    return tree_list_group_links(scanned, failure);
}
