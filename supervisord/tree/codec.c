#include "supervisord/tree/codec.h"

#include <string.h>

enum entry_flags {
    FLAG_TYPE = 3, /* enum tree_type */
    FLAG_OWNER = 4,
    FLAG_HARD_LINK = 8,
    FLAG_HASHED = 16, /* the rest with_scan alone */
    FLAG_RECENT = 32,
};

int tree_number_encode(struct buf *out, uint64_t number)
{
    char bytes[10];
    size_t count = 0;
    do {
        bytes[count++] = (char)((number & 0x7f) | (number > 0x7f ? 0x80 : 0));
        number >>= 7;
    } while (number);
    return buf_append(out, bytes, count);
}

bool tree_number_decode(const unsigned char *data, size_t length, size_t *at, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (unsigned shift = 0; shift < 64 && *at < length; shift += 7) {
        unsigned char byte = data[(*at)++];
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_number = number;
            return true;
        }
    }
    return false;
}

/* Signed numbers, small ones of either sign short. */
static uint64_t fold(int64_t number)
{
    return ((uint64_t)number << 1) ^ (number < 0 ? UINT64_MAX : 0);
}

static int64_t unfold(uint64_t number)
{
    return (int64_t)((number >> 1) ^ (number & 1 ? UINT64_MAX : 0));
}

static int text_encode(struct buf *out, const char *text)
{
    int error = tree_number_encode(out, strlen(text));
    return error ? error : buf_text(out, text);
}

static int scan_encode(struct buf *out, const struct tree_entry *entry)
{
    int error = tree_number_encode(out, fold(entry->ctime_ns));
    if (!error)
        error = tree_number_encode(out, entry->inode);
    if (!error)
        error = tree_number_encode(out, entry->links);
    if (!error && entry->hashed)
        error = buf_append(out, entry->content.bytes, sizeof entry->content.bytes);
    return error;
}

int tree_entry_encode(struct buf *out, const struct tree_entry *entry, const char *previous,
                      bool with_scan)
{
    size_t shared = 0;
    while (previous[shared] && previous[shared] == entry->path[shared])
        shared++;
    unsigned flags = entry->type | (entry->uid || entry->gid ? FLAG_OWNER : 0) |
                     (entry->hard_link ? FLAG_HARD_LINK : 0);
    if (with_scan)
        flags |= (entry->hashed ? FLAG_HASHED : 0) | (entry->recent ? FLAG_RECENT : 0);
    int error = buf_char(out, (char)flags);
    if (!error)
        error = tree_number_encode(out, shared);
    if (!error)
        error = text_encode(out, entry->path + shared);
    if (!error)
        error = tree_number_encode(out, entry->mode);
    if (!error)
        error = tree_number_encode(out, fold(entry->mtime_ns));
    if (!error && flags & FLAG_OWNER)
        error = tree_number_encode(out, entry->uid);
    if (!error && flags & FLAG_OWNER)
        error = tree_number_encode(out, entry->gid);
    if (!error && entry->type == TREE_FILE)
        error = tree_number_encode(out, entry->size);
    if (!error && entry->type == TREE_SYMLINK)
        error = text_encode(out, entry->link_target);
    if (!error && entry->hard_link)
        error = text_encode(out, entry->hard_link);
    return error || !with_scan ? error : scan_encode(out, entry);
}

/* Decoding. */

static bool take_number(struct tree_decoder *decoder, uint64_t most, uint64_t *ret_number)
{
    return tree_number_decode(decoder->data, decoder->length, &decoder->at, ret_number) &&
           *ret_number <= most;
}

static bool take_text(struct tree_decoder *decoder, char *out, size_t room)
{
    uint64_t length;
    if (!take_number(decoder, room, &length) || length > decoder->length - decoder->at ||
        memchr(decoder->data + decoder->at, 0, length))
        return false;
    memcpy(out, decoder->data + decoder->at, length);
    out[length] = '\0';
    decoder->at += length;
    return true;
}

static bool take_path(struct tree_decoder *decoder)
{
    uint64_t shared;
    return take_number(decoder, strlen(decoder->path), &shared) &&
           take_text(decoder, decoder->path + shared, TREE_PATH_MAX - shared) &&
           tree_path_good(decoder->path);
}

static bool take_owner(struct tree_decoder *decoder, struct tree_entry *entry)
{
    uint64_t uid, gid;
    if (!take_number(decoder, UINT32_MAX, &uid) || !take_number(decoder, UINT32_MAX, &gid))
        return false;
    entry->uid = (uint32_t)uid;
    entry->gid = (uint32_t)gid;
    return true;
}

static bool take_scan(struct tree_decoder *decoder, struct tree_entry *entry, unsigned flags)
{
    uint64_t ctime, links;
    if (!take_number(decoder, UINT64_MAX, &ctime) ||
        !take_number(decoder, UINT64_MAX, &entry->inode) ||
        !take_number(decoder, UINT32_MAX, &links))
        return false;
    entry->ctime_ns = unfold(ctime);
    entry->links = (uint32_t)links;
    entry->recent = flags & FLAG_RECENT;
    entry->hashed = flags & FLAG_HASHED;
    if (!entry->hashed)
        return true;
    if (decoder->length - decoder->at < sizeof entry->content)
        return false;
    memcpy(&entry->content, decoder->data + decoder->at, sizeof entry->content);
    decoder->at += sizeof entry->content;
    return true;
}

static bool take_entry(struct tree_decoder *decoder, struct tree_entry *entry)
{
    unsigned flags = decoder->data[decoder->at++];
    uint64_t mode, mtime;
    *entry =
        (struct tree_entry){.type = (enum tree_type)(flags & FLAG_TYPE), .path = decoder->path};
    if (!entry->type || !take_path(decoder) || !take_number(decoder, 07777, &mode) ||
        !take_number(decoder, UINT64_MAX, &mtime) ||
        (flags & FLAG_OWNER && !take_owner(decoder, entry)))
        return false;
    entry->mode = (uint32_t)mode;
    entry->mtime_ns = unfold(mtime);
    if (entry->type == TREE_FILE && !take_number(decoder, INT64_MAX, &entry->size))
        return false;
    if (entry->type == TREE_SYMLINK || flags & FLAG_HARD_LINK) {
        if ((entry->type == TREE_SYMLINK) == !!(flags & FLAG_HARD_LINK) ||
            entry->type == TREE_DIRECTORY || !take_text(decoder, decoder->other, TREE_PATH_MAX))
            return false;
        if (entry->type == TREE_SYMLINK)
            entry->link_target = decoder->other;
        else if (tree_path_good(decoder->other))
            entry->hard_link = decoder->other;
        else
            return false;
    }
    return !decoder->with_scan || take_scan(decoder, entry, flags);
}

int tree_entry_decode(struct tree_decoder *decoder, struct tree_entry *ret_entry,
                      struct hearth_failure *failure)
{
    if (decoder->at == decoder->length)
        return 0;
    if (!take_entry(decoder, ret_entry))
        return hearth_fail(failure, HEARTH_EIO, "store_damaged", "a stored tree cannot be read");
    return 1;
}
