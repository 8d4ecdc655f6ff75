#include "supervisord/tree/restore.h"

#include "agent.pb-c.h"
#include "supervisord/tree/agent_tree.h"

#include <stdlib.h>
#include <string.h>

#define DATA_MAX ((size_t)256 << 10)

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a tree");
}

static int put(struct buf *out, const Hearth__Agent__V1__TreeItem *item,
               struct hearth_failure *failure)
{
    uint32_t length = (uint32_t)hearth__agent__v1__tree_item__get_packed_size(item);
    if (buf_append(out, &length, sizeof length) || buf_reserve(out, length + 1))
        return no_memory(failure);
    hearth__agent__v1__tree_item__pack(item, (uint8_t *)out->data + out->length);
    out->length += length;
    return 0;
}

static ProtobufCBinaryData bytes(const char *text)
{
    return text ? (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)text, .len = strlen(text)}
                : (ProtobufCBinaryData){0};
}

/* The header of an entry, with the first of its content. */
static int put_entry(struct restore *restore, struct buf *out, struct hearth_failure *failure)
{
    static const Hearth__Agent__V1__FileType types[] = {
        [TREE_FILE] = HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE,
        [TREE_DIRECTORY] = HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY,
        [TREE_SYMLINK] = HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK,
    };
    const struct tree_entry *from = &restore->list->entries[restore->at];
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    Hearth__Agent__V1__TreeItem item = HEARTH__AGENT__V1__TREE_ITEM__INIT;
    entry.path = bytes(from->path);
    entry.type = types[from->type];
    entry.size = from->size;
    entry.mode = from->mode;
    entry.mtime_ns = from->mtime_ns;
    entry.link_target = bytes(from->link_target);
    item.entry = &entry;
    item.hard_link = bytes(from->hard_link);
    item.uid = from->uid;
    item.gid = from->gid;
    if (from->type != TREE_FILE || from->hard_link || !from->size) {
        restore->at++;
        return put(out, &item, failure);
    }
    int error = content_open(&restore->reader, restore->store, &from->content, from->size,
                             restore->scratch, failure);
    restore->reading = !error;
    return error ? error : put(out, &item, failure);
}

static int put_piece(struct restore *restore, struct buf *out, struct hearth_failure *failure)
{
    size_t length = 0;
    int error = content_next(&restore->reader, restore->scratch, &length, failure);
    for (size_t at = 0; at < length && !error;) {
        Hearth__Agent__V1__TreeItem item = HEARTH__AGENT__V1__TREE_ITEM__INIT;
        item.data.len = length - at < DATA_MAX ? length - at : DATA_MAX;
        item.data.data = restore->scratch + at;
        at += item.data.len;
        error = put(out, &item, failure);
    }
    if (!error && !length) {
        content_close(&restore->reader);
        restore->reading = false;
        restore->at++;
    }
    return error;
}

int restore_fill(struct restore *restore, struct buf *out, bool *ret_end,
                 struct hearth_failure *failure)
{
    if (!restore->scratch)
        restore->scratch = malloc(PACK_BLOB_MAX);
    if (!restore->scratch)
        return no_memory(failure);
    int error = 0;
    while (!error && out->length < AGENT_PUT_BYTES && restore->at < restore->list->count)
        error =
            restore->reading ? put_piece(restore, out, failure) : put_entry(restore, out, failure);
    *ret_end = !error && restore->at == restore->list->count;
    return error;
}

void restore_free(struct restore *restore)
{
    if (restore->reading)
        content_close(&restore->reader);
    free(restore->scratch);
    *restore = (struct restore){0};
}
