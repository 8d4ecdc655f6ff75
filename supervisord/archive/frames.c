#include "supervisord/archive/frames.h"

#include "agent.pb-c.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DATA_MAX ((size_t)256 << 10)
#define MESSAGE_MAX (DATA_MAX + 64) /* headers hold three paths at most */
#define STREAM_BUFFER ((size_t)64 << 10)

static bool put(struct frames *frames, const Hearth__Agent__V1__TreeItem *item)
{
    size_t length = hearth__agent__v1__tree_item__get_packed_size(item);
    uint32_t prefix = htonl((uint32_t)length);
    if (length > MESSAGE_MAX)
        return false;
    hearth__agent__v1__tree_item__pack(item, frames->message);
    return fwrite(&prefix, sizeof prefix, 1, frames->out) == 1 &&
           (!length || fwrite(frames->message, length, 1, frames->out) == 1);
}

static ProtobufCBinaryData bytes(const char *text)
{
    return text ? (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)text, .len = strlen(text)}
                : (ProtobufCBinaryData){0};
}

bool frames_member(void *arg, const struct member_header *member)
{
    static const Hearth__Agent__V1__FileType types[] = {
        [MEMBER_FILE] = HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE,
        [MEMBER_DIRECTORY] = HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY,
        [MEMBER_SYMLINK] = HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK,
    };
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    Hearth__Agent__V1__TreeItem item = HEARTH__AGENT__V1__TREE_ITEM__INIT;
    entry.path = bytes(member->path);
    entry.type = types[member->type];
    entry.size = member->size;
    entry.mode = member->mode;
    entry.mtime_ns = member->mtime_ns;
    entry.link_target = bytes(member->link_target);
    item.entry = &entry;
    item.hard_link = bytes(member->hard_link);
    return put(arg, &item);
}

bool frames_data(void *arg, const void *data, size_t length)
{
    for (size_t at = 0; at < length;) {
        Hearth__Agent__V1__TreeItem item = HEARTH__AGENT__V1__TREE_ITEM__INIT;
        item.data.len = length - at < DATA_MAX ? length - at : DATA_MAX;
        item.data.data = (uint8_t *)(uintptr_t)data + at;
        if (!put(arg, &item))
            return false;
        at += item.data.len;
    }
    return true;
}

int frames_open(struct frames *frames, FILE *out)
{
    *frames = (struct frames){.out = out, .message = malloc(MESSAGE_MAX)};
    if (!frames->message)
        return -ENOMEM;
    setvbuf(out, NULL, _IOFBF, STREAM_BUFFER);
    return 0;
}

bool frames_close(struct frames *frames)
{
    free(frames->message);
    return fclose(frames->out) == 0;
}
