/* supervisord/tree: what an agent tells of its files (scan_parse.c), alone and as the difference
 * from what is known, and stored entries (codec.c). The first byte chooses. What is taken is in
 * order, has clean paths, and comes back from its bytes as it was. */
#include "fuzz.h"

#include "supervisord/tree/codec.h"
#include "supervisord/tree/scan_parse.h"

#include <string.h>

static void check_list(const struct tree_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct tree_entry *entry = &list->entries[i];
        PROMISE(tree_path_good(entry->path));
        PROMISE(!i || strcmp(list->entries[i - 1].path, entry->path) < 0);
        PROMISE(tree_list_find(list, entry->path) == entry);
        PROMISE((entry->type == TREE_SYMLINK) == (entry->link_target != NULL));
        if (entry->hard_link)
            PROMISE(tree_list_find(list, entry->hard_link));
    }
}

static void check_bytes(const struct tree_list *list)
{
    struct hearth_failure failure;
    struct buf bytes = {0};
    for (size_t i = 0; i < list->count; i++)
        PROMISE(tree_entry_encode(&bytes, &list->entries[i], i ? list->entries[i - 1].path : "",
                                  true) == 0);
    static struct tree_decoder decoder;
    memset(&decoder, 0, sizeof decoder);
    decoder.data = (const unsigned char *)bytes.data;
    decoder.length = bytes.length;
    decoder.with_scan = true;
    struct tree_entry entry;
    for (size_t i = 0; i < list->count; i++) {
        PROMISE(tree_entry_decode(&decoder, &entry, &failure) == 1);
        PROMISE(strcmp(entry.path, list->entries[i].path) == 0);
        PROMISE(entry.size == list->entries[i].size && entry.mtime_ns == list->entries[i].mtime_ns);
        PROMISE(entry.ctime_ns == list->entries[i].ctime_ns);
    }
    PROMISE(tree_entry_decode(&decoder, &entry, &failure) == 0);
    buf_free(&bytes);
}

static void scan(const uint8_t *data, size_t size, bool known_before)
{
    struct hearth_failure failure;
    struct known known = {.scan_id = ""};
    struct buf messages = {.data = (char *)(uintptr_t)data, .length = size};
    bool changed;
    if (known_before) {
        const char *names[] = {"a", "d", "d/f", "z"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            struct tree_entry entry = {
                .path = names[i], .type = i == 1 ? TREE_DIRECTORY : TREE_FILE, .hashed = true};
            PROMISE(tree_list_add(&known.list, &entry, &failure) == 0);
        }
        strcpy(known.scan_id, "before");
    }
    if (scan_parse(&known, &messages, NULL, &changed, &failure) == 0) {
        check_list(&known.list);
        check_bytes(&known.list);
    } else {
        PROMISE(!known.list.count && !*known.scan_id);
    }
    known_free(&known);
}

static void decode(const uint8_t *data, size_t size)
{
    struct hearth_failure failure;
    static struct tree_decoder decoder;
    struct tree_entry entry;
    memset(&decoder, 0, sizeof decoder);
    decoder.data = data;
    decoder.length = size;
    decoder.with_scan = size % 2;
    while (tree_entry_decode(&decoder, &entry, &failure) > 0) {
        PROMISE(tree_path_good(entry.path));
        PROMISE(entry.type >= TREE_FILE && entry.type <= TREE_SYMLINK);
        PROMISE(!entry.hard_link || tree_path_good(entry.hard_link));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (data[0] % 3 == 2)
        decode(data + 1, size - 1);
    else
        scan(data + 1, size - 1, data[0] % 3);
    return 0;
}
