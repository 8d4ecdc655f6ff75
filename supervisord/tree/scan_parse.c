#include "supervisord/tree/scan_parse.h"

#include "agent.pb-c.h"
#include "guestagent/unpack.h"
#include "supervisord/tree/agent_tree.h"

#include <stdlib.h>
#include <string.h>

static int broken(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_EUNAVAILABLE, "agent_broken",
                       "what the agent tells of the workspace makes no sense");
}

static bool take_text(const ProtobufCBinaryData *bytes, char *out)
{
    if (!bytes->len || bytes->len > TREE_PATH_MAX || memchr(bytes->data, 0, bytes->len))
        return false;
    memcpy(out, bytes->data, bytes->len);
    out[bytes->len] = '\0';
    return true;
}

int scan_entry_take(const Hearth__Agent__V1__ScanEntry *from, char *path, char *target,
                    struct tree_entry *ret_entry, struct hearth_failure *failure)
{
    *ret_entry = (struct tree_entry){
        .path = path,
        .mode = from->mode & 07777,
        .uid = from->uid,
        .gid = from->gid,
        .mtime_ns = from->mtime_ns,
        .recent = from->recent,
        .ctime_ns = from->ctime_ns,
        .inode = from->inode,
        .links = from->links,
    };
    switch (from->type) {
    case HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE:
        ret_entry->type = TREE_FILE;
        ret_entry->size = from->size;
        return from->size > INT64_MAX ? broken(failure) : 1;
    case HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY:
        ret_entry->type = TREE_DIRECTORY;
        return 1;
    case HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK:
        ret_entry->type = TREE_SYMLINK;
        ret_entry->link_target = target;
        return take_text(&from->link_target, target) ? 1 : broken(failure);
    case HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_OTHER:
    case _HEARTH__AGENT__V1__FILE_TYPE_IS_INT_SIZE:
    default:
        return 0;
    }
}

struct parse {
    struct tree_list scanned;
    struct tree_list removed_texts;
    const char **removed;
    size_t removed_count, removed_capacity;
    bool from_base, ended;
    char scan_id[KNOWN_SCAN_ID_SIZE];
    char path[TREE_PATH_MAX + 1], target[TREE_PATH_MAX + 1];
};

static int add_removed(struct parse *parse, const char *path, struct hearth_failure *failure)
{
    if (parse->removed_count == parse->removed_capacity) {
        size_t capacity = parse->removed_capacity ? parse->removed_capacity * 2 : 64;
        const char **removed = capacity > 2 * TREE_ENTRIES_MAX
                                   ? NULL
                                   : realloc(parse->removed, capacity * sizeof *removed);
        if (!removed)
            return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a tree");
        parse->removed = removed;
        parse->removed_capacity = capacity;
    }
    const char *text = tree_list_text(&parse->removed_texts, path, strlen(path));
    if (!text)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a tree");
    parse->removed[parse->removed_count++] = text;
    return 0;
}

static int take_reply(struct parse *parse, const Hearth__Agent__V1__TreeScanReply *reply,
                      struct hearth_failure *failure)
{
    struct tree_entry entry;
    int error = 0;
    parse->from_base |= reply->from_base;
    for (size_t i = 0; i < reply->n_entries && !error; i++) {
        if (!take_text(&reply->entries[i]->path, parse->path) || !tree_path_good(parse->path))
            return broken(failure);
        int got = scan_entry_take(reply->entries[i], parse->path, parse->target, &entry, failure);
        /* What has become of another kind is not there any more, for a tree. */
        error = got < 0    ? got
                : got == 0 ? add_removed(parse, parse->path, failure)
                           : tree_list_add(&parse->scanned, &entry, failure);
    }
    for (size_t i = 0; i < reply->n_removed && !error; i++)
        error = take_text(&reply->removed[i], parse->path)
                    ? add_removed(parse, parse->path, failure)
                    : broken(failure);
    if (*reply->scan_id) {
        size_t length = strlen(reply->scan_id);
        if (length >= sizeof parse->scan_id)
            return broken(failure);
        memcpy(parse->scan_id, reply->scan_id, length + 1);
        parse->ended = true;
    }
    return error;
}

static int compare_texts(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int read_messages(struct parse *parse, const struct buf *messages,
                         struct hearth_failure *failure)
{
    const uint8_t *data;
    size_t at = 0, length;
    int error = 0;
    while (!error && agent_message_next(messages, &at, &data, &length)) {
        Hearth__Agent__V1__TreeScanReply *reply =
            unpack_bounded(&hearth__agent__v1__tree_scan_reply__descriptor, length, data);
        error = reply ? take_reply(parse, reply, failure) : broken(failure);
        if (reply)
            hearth__agent__v1__tree_scan_reply__free_unpacked(reply, NULL);
    }
    if (!error && !parse->ended)
        error = broken(failure);
    return error;
}

static int bring_up(struct known *known, struct parse *parse, const struct tree_list *hints,
                    bool *ret_changed, struct hearth_failure *failure)
{
    *ret_changed = !parse->from_base || parse->scanned.count || parse->removed_count;
    memcpy(known->scan_id, parse->scan_id, sizeof known->scan_id);
    if (!*ret_changed)
        return 0;
    if (parse->removed_count)
        qsort(parse->removed, parse->removed_count, sizeof *parse->removed, compare_texts);
    tree_list_sort(&parse->scanned);
    int error = tree_list_merge(&parse->scanned, &known->list, parse->from_base, parse->removed,
                                parse->removed_count, TREE_TRUST_SCAN, failure);
    if (!error && hints)
        error = tree_list_merge(&parse->scanned, hints, false, NULL, 0, TREE_TRUST_TIME, failure);
    if (error)
        return error;
    tree_list_free(&known->list);
    known->list = parse->scanned;
    parse->scanned = (struct tree_list){0};
    known->has_root = known->has_clean = false;
    return 0;
}

int scan_parse(struct known *known, const struct buf *messages, const struct tree_list *hints,
               bool *ret_changed, struct hearth_failure *failure)
{
    struct parse *parse = calloc(1, sizeof *parse);
    if (!parse)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory for a tree");
    int error = read_messages(parse, messages, failure);
    /* A difference from what we do not know is of no use. */
    if (!error && parse->from_base && !*known->scan_id)
        error = broken(failure);
    if (!error)
        error = bring_up(known, parse, hints, ret_changed, failure);
    if (error)
        known_free(known);
    tree_list_free(&parse->scanned);
    tree_list_free(&parse->removed_texts);
    free(parse->removed);
    free(parse);
    return error;
}
