#include "supervisord/tree/content.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a file");
}

static int end_chunk(struct content *content, struct store_hash *ret_hash,
                     struct hearth_failure *failure)
{
    int error = 0;
    const char *data = content->chunk.length ? content->chunk.data : "";
    if (content->session)
        error = store_put(content->session, data, content->chunk.length, ret_hash, failure);
    else
        store_hash_blob(ret_hash, STORE_DATA, data, content->chunk.length);
    buf_clear(&content->chunk);
    return error;
}

static int push_chunk(struct content *content, struct hearth_failure *failure)
{
    if (content->count == content->capacity) {
        uint32_t capacity = content->capacity ? content->capacity * 2 : 16;
        struct store_hash *hashes = realloc(content->hashes, capacity * sizeof *hashes);
        if (!hashes)
            return no_memory(failure);
        content->hashes = hashes;
        content->capacity = capacity;
    }
    int error = end_chunk(content, &content->hashes[content->count], failure);
    content->count += !error;
    return error;
}

int content_add(struct content *content, const void *data, size_t length,
                struct hearth_failure *failure)
{
    content->size += length;
    for (const char *at = data; length;) {
        if (content->chunk.length == CONTENT_CHUNK) {
            int error = push_chunk(content, failure);
            if (error)
                return error;
        }
        size_t room = CONTENT_CHUNK - content->chunk.length;
        size_t take = length < room ? length : room;
        if (buf_append(&content->chunk, at, take))
            return no_memory(failure);
        at += take;
        length -= take;
    }
    return 0;
}

int content_end(struct content *content, struct store_hash *ret_hash,
                struct hearth_failure *failure)
{
    int error = 0;
    if (!content->count) {
        error = end_chunk(content, ret_hash, failure);
    } else {
        error = push_chunk(content, failure);
        if (!error && content->session)
            error = store_put_node(content->session, content->hashes, content->count, NULL, 0,
                                   ret_hash, failure);
        else if (!error)
            error = store_hash_node(content->hashes, content->count, NULL, 0, ret_hash, failure);
    }
    buf_clear(&content->chunk);
    content->count = 0;
    content->size = 0;
    return error;
}

void content_free(struct content *content)
{
    buf_free(&content->chunk);
    free(content->hashes);
    *content = (struct content){0};
}

static int damaged(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_EIO, "store_damaged", "a stored file is not whole");
}

int content_open(struct content_reader *reader, struct store *store, const struct store_hash *hash,
                 uint64_t size, void *scratch, struct hearth_failure *failure)
{
    *reader = (struct content_reader){.store = store, .whole = *hash, .left = size, .count = 1};
    if (size <= CONTENT_CHUNK)
        return 0;
    size_t length;
    struct store_node node;
    int error = store_get(store, hash, scratch, &length, failure);
    if (error)
        return error;
    if (!store_node_parse(scratch, length, &node) ||
        node.count != (size + CONTENT_CHUNK - 1) / CONTENT_CHUNK)
        return damaged(failure);
    reader->count = node.count;
    reader->chunks = malloc(node.count * sizeof *reader->chunks);
    if (!reader->chunks)
        return no_memory(failure);
    memcpy(reader->chunks, node.children, node.count * sizeof *reader->chunks);
    return 0;
}

int content_next(struct content_reader *reader, void *scratch, size_t *ret_length,
                 struct hearth_failure *failure)
{
    *ret_length = 0;
    if (reader->at == reader->count)
        return reader->left ? damaged(failure) : 0;
    const struct store_hash *hash = reader->chunks ? &reader->chunks[reader->at] : &reader->whole;
    int error = store_get(reader->store, hash, scratch, ret_length, failure);
    reader->at++;
    if (error)
        return error;
    if (*ret_length != (reader->left < CONTENT_CHUNK ? reader->left : CONTENT_CHUNK))
        return damaged(failure);
    reader->left -= *ret_length;
    return 0;
}

void content_close(struct content_reader *reader)
{
    free(reader->chunks);
    reader->chunks = NULL;
}
