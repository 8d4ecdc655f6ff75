#include "supervisord/tree/manifest.h"

#include "supervisord/tree/codec.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_SHIFT 5     /* a page ends after one name in 32 … */
#define PAGE_ENTRIES 256 /* … or here */
#define PAGE_BYTES ((size_t)64 << 10)
#define ROOT_MAGIC "hearth tree 1"

struct page {
    struct buf payload;
    struct store_hash children[PAGE_ENTRIES];
    uint32_t child_count, entry_count;
};

struct writing {
    struct store_session *session;
    struct page page;
    struct store_hash *pages;
    uint32_t page_count, page_capacity;
};

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a tree");
}

bool manifest_is_empty(const struct store_hash *root)
{
    static const struct store_hash none;
    return memcmp(root, &none, sizeof none) == 0;
}

/* FNV-1a: no secret, only even. */
static bool ends_page(const char *path)
{
    uint32_t hash = 2166136261u;
    for (; *path; path++)
        hash = (hash ^ (unsigned char)*path) * 16777619u;
    return (hash ^ hash >> 16) % (1u << PAGE_SHIFT) == 0;
}

static int end_page(struct writing *writing, struct hearth_failure *failure)
{
    struct page *page = &writing->page;
    if (writing->page_count == writing->page_capacity) {
        uint32_t capacity = writing->page_capacity ? writing->page_capacity * 2 : 64;
        struct store_hash *pages = realloc(writing->pages, capacity * sizeof *pages);
        if (!pages)
            return no_memory(failure);
        writing->pages = pages;
        writing->page_capacity = capacity;
    }
    int error =
        store_put_node(writing->session, page->children, page->child_count, page->payload.data,
                       page->payload.length, &writing->pages[writing->page_count], failure);
    writing->page_count += !error;
    buf_clear(&page->payload);
    page->child_count = page->entry_count = 0;
    return error;
}

static int write_entries(struct writing *writing, const struct tree_list *list,
                         struct hearth_failure *failure)
{
    struct page *page = &writing->page;
    int error = 0;
    for (size_t i = 0; i < list->count && !error; i++) {
        const struct tree_entry *entry = &list->entries[i];
        const char *previous = page->entry_count ? list->entries[i - 1].path : "";
        if (tree_entry_encode(&page->payload, entry, previous, false))
            return no_memory(failure);
        page->entry_count++;
        if (entry->type == TREE_FILE)
            page->children[page->child_count++] = entry->content;
        if (ends_page(entry->path) || page->entry_count == PAGE_ENTRIES ||
            page->payload.length >= PAGE_BYTES)
            error = end_page(writing, failure);
    }
    return !error && page->entry_count ? end_page(writing, failure) : error;
}

int manifest_write(struct store_session *session, const struct tree_list *list,
                   struct store_hash *ret_root, struct hearth_failure *failure)
{
    if (!list->count) {
        *ret_root = (struct store_hash){0};
        return 0;
    }
    struct writing *writing = calloc(1, sizeof *writing);
    if (!writing)
        return no_memory(failure);
    writing->session = session;
    auto_buf struct buf payload = {0};
    int error = write_entries(writing, list, failure);
    if (!error && (buf_text(&payload, ROOT_MAGIC) || tree_number_encode(&payload, list->count)))
        error = no_memory(failure);
    if (!error)
        error = store_put_node(session, writing->pages, writing->page_count, payload.data,
                               payload.length, ret_root, failure);
    buf_free(&writing->page.payload);
    free(writing->pages);
    free(writing);
    return error;
}

static int damaged(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_EIO, "store_damaged", "a stored tree is not whole");
}

static int read_page(const struct store_node *node, struct tree_list *list,
                     struct tree_decoder *decoder, struct hearth_failure *failure)
{
    struct tree_entry entry;
    uint32_t child = 0;
    decoder->data = node->payload;
    decoder->length = node->length;
    decoder->at = 0;
    decoder->path[0] = '\0';
    for (int got; (got = tree_entry_decode(decoder, &entry, failure)) != 0;) {
        if (got < 0)
            return got;
        if (entry.type == TREE_FILE) {
            if (child == node->count)
                return damaged(failure);
            memcpy(&entry.content, node->children + (size_t)child++ * sizeof entry.content,
                   sizeof entry.content);
            entry.hashed = true;
        }
        int error = tree_list_add(list, &entry, failure);
        if (error)
            return error;
    }
    return child == node->count ? 0 : damaged(failure);
}

static int read_root(const struct store_node *root, uint64_t *ret_count)
{
    size_t at = strlen(ROOT_MAGIC);
    return root->length >= at && memcmp(root->payload, ROOT_MAGIC, at) == 0 &&
                   tree_number_decode(root->payload, root->length, &at, ret_count)
               ? 0
               : HEARTH_EIO;
}

int manifest_read(struct store *store, const struct store_hash *root, struct tree_list *list,
                  struct hearth_failure *failure)
{
    if (manifest_is_empty(root))
        return 0;
    auto_free unsigned char *top = malloc(PACK_BLOB_MAX), *scratch = malloc(PACK_BLOB_MAX);
    auto_free struct tree_decoder *decoder = calloc(1, sizeof *decoder);
    struct store_node node, page;
    size_t length;
    uint64_t count;
    if (!top || !scratch || !decoder)
        return no_memory(failure);
    int error = store_get(store, root, top, &length, failure);
    if (!error && (!store_node_parse(top, length, &node) || read_root(&node, &count)))
        error = damaged(failure);
    for (uint32_t i = 0; !error && i < node.count; i++) {
        struct store_hash hash;
        memcpy(&hash, node.children + (size_t)i * sizeof hash, sizeof hash);
        error = store_get(store, &hash, scratch, &length, failure);
        if (!error && !store_node_parse(scratch, length, &page))
            error = damaged(failure);
        if (!error)
            error = read_page(&page, list, decoder, failure);
    }
    if (!error && list->count != count)
        error = damaged(failure);
    for (size_t i = 1; !error && i < list->count; i++)
        if (strcmp(list->entries[i - 1].path, list->entries[i].path) >= 0)
            error = damaged(failure);
    return error;
}
