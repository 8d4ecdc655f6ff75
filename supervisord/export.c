#include "supervisord/export.h"

#include "agent.pb-c.h"
#include "base/tar_header.h"
#include "guestagent/unpack.h"
#include "supervisord/supervisor_internal.h"

#include <stdlib.h>
#include <string.h>

#define TAR_END_BLOCKS 2
#define CHANGED_NAMED_MAX 100

struct export
{
    struct supervisor *supervisor;
    struct link_call *call; /* NULL once it has ended */
    struct export_events events;
    void *arg;
    size_t below; /* of a path from the agent, where the member's name begins */
    char path[4096];
    char current[4096]; /* the file whose content is coming */
    uint64_t left;      /* of it */
    size_t padding;
    bool begun, aborted;
    char workspace_id[ID_SIZE];
    struct tar_member top; /* of a directory: its own header */
    struct buf header;
    struct buf changed; /* names */
    struct export_result result;
    struct hearth_failure failure;
};

static void export_free(struct export *export)
{
    buf_free(&export->header);
    buf_free(&export->changed);
    free(export);
}

/* The first failure counts; the call's end tells it. */
static void give_up(struct export *export, enum hearth_error error, const char *code,
                    const char *detail)
{
    if (!export->failure.error)
        hearth_fail(&export->failure, error, code, "%s", detail);
    if (export->call)
        link_call_cancel(export->call);
}

static void broken(struct export *export, const char *detail)
{
    give_up(export, HEARTH_EUNAVAILABLE, "agent_broken", detail);
}

static bool copy_path(char out[4096], const ProtobufCBinaryData *bytes)
{
    if (bytes->len >= 4096 || (bytes->len && memchr(bytes->data, 0, bytes->len)))
        return false;
    if (bytes->len)
        memcpy(out, bytes->data, bytes->len);
    out[bytes->len] = '\0';
    return true;
}

/* The member's name of a path below what is exported; NULL where it is none. */
static const char *member_name(const struct export *export, const char *path)
{
    if (strncmp(path, export->path, strlen(export->path)) != 0 || strlen(path) < export->below)
        return NULL;
    const char *name = path + export->below;
    for (const char *at = name; *at; at += strcspn(at, "/"), at += *at == '/') {
        size_t length = strcspn(at, "/");
        if (!length || length > 255 || (at[0] == '.' && length == 1) ||
            (at[0] == '.' && at[1] == '.' && length == 2))
            return NULL;
    }
    return name;
}

static void send_header(struct export *export, const struct tar_member *member)
{
    buf_clear(&export->header);
    if (tar_header_write(&export->header, member)) {
        give_up(export, HEARTH_ENOMEMORY, NULL, "out of memory");
        return;
    }
    export->result.entry_count++;
    export->events.on_data(export->arg, export->header.data, export->header.length);
}

static enum file_type type_of(const Hearth__Agent__V1__FileEntry *entry)
{
    switch (entry->type) {
    case HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE:
        return FILE_REGULAR;
    case HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY:
        return FILE_DIRECTORY;
    case HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK:
        return FILE_SYMLINK;
    case HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_OTHER:
    case _HEARTH__AGENT__V1__FILE_TYPE_IS_INT_SIZE:
    default:
        return FILE_OTHER;
    }
}

static void fail_path(struct export *export, enum hearth_error error, const char *code,
                      const char *detail)
{
    give_up(export, error, code, detail);
    hearth_failure_field(&export->failure, "/path");
}

/* The first item says what there is to export. */
static bool begin(struct export *export, const Hearth__Agent__V1__TreeItem *item)
{
    enum file_type type = type_of(item->entry);
    if (item->note == HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_MISSING)
        fail_path(export, HEARTH_ENOTFOUND, "file_not_found", "there is nothing at this path");
    else if (item->note == HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_BEHIND_LINK)
        fail_path(export, HEARTH_EINVALID, "path_outside_workspace",
                  "the path leads out of the workspace, or through what is no directory");
    else if (type == FILE_OTHER)
        fail_path(export, HEARTH_ECONFLICT, "wrong_file_type",
                  "it is a socket, a pipe or a device");
    if (export->failure.error)
        return false;
    const char *slash = strrchr(export->path, '/');
    export->below = type == FILE_DIRECTORY ? strlen(export->path) + (*export->path ? 1 : 0)
                    : slash                ? (size_t)(slash + 1 - export->path)
                                           : 0;
    export->begun = true;
    export->result.type = type;
    export->events.on_begin(export->arg, type);
    return true;
}

static bool fill_links(struct export *export, const Hearth__Agent__V1__TreeItem *item,
                       struct tar_member *member, char target[4096])
{
    if (item->hard_link.len) {
        member->type = TAR_HARD_LINK;
        member->size = 0;
        member->link_target =
            copy_path(target, &item->hard_link) ? member_name(export, target) : NULL;
    } else if (member->type == TAR_SYMLINK) {
        member->link_target = copy_path(target, &item->entry->link_target) ? target : NULL;
    } else {
        return true;
    }
    return member->link_target && *member->link_target;
}

static void take_entry(struct export *export, const Hearth__Agent__V1__TreeItem *item)
{
    static const enum tar_type types[] = {
        [FILE_REGULAR] = TAR_FILE, [FILE_DIRECTORY] = TAR_DIRECTORY, [FILE_SYMLINK] = TAR_SYMLINK};
    const Hearth__Agent__V1__FileEntry *entry = item->entry;
    char path[4097], target[4096];
    enum file_type type = type_of(entry);
    bool top = export->begun && entry->path.len == strlen(export->path);
    const char *name = copy_path(path, &entry->path) ? path : NULL;
    if (name && !(type == FILE_DIRECTORY && strcmp(path, export->path) == 0))
        name = member_name(export, path);
    if (!name || export->left || (!*name && !top)) {
        broken(export, "the agent's tree cannot be read");
        return;
    }
    if (type == FILE_OTHER) {
        export->result.skipped++;
        return;
    }
    if (type == FILE_DIRECTORY)
        strcat(path, "/"); /* there is room: 4095 bytes at most */
    struct tar_member member = {.type = types[type],
                                .path = type == FILE_DIRECTORY && top ? "./" : name,
                                .size = type == FILE_REGULAR ? entry->size : 0,
                                .mode = entry->mode & 0777,
                                .mtime_ns = entry->mtime_ns};
    if (!fill_links(export, item, &member, target)) {
        broken(export, "the agent's tree cannot be read");
        return;
    }
    if (type == FILE_DIRECTORY && top)
        export->top = member;
    memcpy(export->current, path, strlen(path) + 1);
    export->left = member.size;
    export->padding = tar_padding(member.size);
    send_header(export, &member);
}

static void take_data(struct export *export, const ProtobufCBinaryData *data)
{
    static const char zeroes[TAR_BLOCK];
    if (data->len > export->left) {
        broken(export, "the agent sent more than the file's size");
        return;
    }
    export->left -= data->len;
    export->result.bytes_written += data->len;
    export->events.on_data(export->arg, data->data, data->len);
    if (!export->left && export->padding)
        export->events.on_data(export->arg, zeroes, export->padding);
}

static void note_changed(struct export *export)
{
    if (++export->result.changed > CHANGED_NAMED_MAX)
        return;
    if (export->changed.length && buf_char(&export->changed, '\n'))
        return;
    (void)buf_printf(&export->changed, "changed while it was read: %s", export->current);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct export *export = arg;
    (void)call;
    if (export->aborted || export->failure.error)
        return;
    Hearth__Agent__V1__TreeItem *item =
        unpack_bounded(&hearth__agent__v1__tree_item__descriptor, length, data);
    if (!item) {
        broken(export, "the agent's answer cannot be read");
        return;
    }
    bool first = !export->begun;
    if (first && !item->entry)
        broken(export, "the agent's tree has no beginning");
    else if (item->entry && (!first || begin(export, item)))
        take_entry(export, item);
    if (!export->failure.error && item->data.len)
        take_data(export, &item->data);
    if (!export->failure.error && item->note == HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_CHANGED)
        note_changed(export);
    hearth__agent__v1__tree_item__free_unpacked(item, NULL);
}

static void finish_tar(struct export *export)
{
    static const char zeroes[TAR_END_BLOCKS * TAR_BLOCK];
    /* A remark is of what follows, so the directory itself comes once more. */
    if (export->changed.length && export->result.type == FILE_DIRECTORY) {
        buf_clear(&export->header);
        if (tar_comment_write(&export->header, export->changed.data) == 0 &&
            tar_header_write(&export->header, &export->top) == 0)
            export->events.on_data(export->arg, export->header.data, export->header.length);
    }
    export->events.on_data(export->arg, zeroes, sizeof zeroes);
}

static void tell_end(void *arg)
{
    struct export *export = arg;
    int error = (int)export->failure.error;
    if (!export->aborted)
        export->events.on_end(export->arg, error, &export->failure, error ? NULL : &export->result);
    export_free(export);
}

static void noted(void *arg, int error, const struct hearth_failure *failure)
{
    (void)error; /* what was sent has been sent */
    (void)failure;
    tell_end(arg);
}

/* Who is told of the end finds the export in the summary. */
static void note(void *arg)
{
    struct export *export = arg;
    struct row_export row = {.workspace_id = export->workspace_id,
                             .kind = "files",
                             .path = export->path,
                             .entry_count = export->result.entry_count,
                             .bytes = export->result.bytes_written};
    if (export->failure.error || export->aborted)
        tell_end(export);
    else
        workspace_exported(export->supervisor, &row, noted, export);
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    struct export *export = arg;
    (void)call;
    export->call = NULL;
    if (!export->failure.error && !export->aborted) {
        if (status != LINK_STATUS_OK)
            file_failure(status, message, &export->failure);
        else if (!export->begun || export->left)
            hearth_fail(&export->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                        "the agent's tree has no end");
        else
            finish_tar(export);
    }
    /* give_up cancels from within a callback, which still looks at the export. */
    loop_defer(export->supervisor->loop, note, export);
}

static const struct link_call_events events = {.on_message = on_message, .on_end = on_end};

static int open_call(struct export *export, struct workspace *workspace)
{
    Hearth__Agent__V1__TreeExportRequest request = HEARTH__AGENT__V1__TREE_EXPORT_REQUEST__INIT;
    ProtobufCBinaryData path = {.data = (uint8_t *)export->path, .len = strlen(export->path)};
    request.paths = &path;
    request.n_paths = 1;
    request.recursive = true;
    request.follow_parents = true;
    int error =
        workspace->sandbox->link.link
            ? link_call_start(&export->call, workspace->sandbox->link.link,
                              AGENT_SERVICE "TreeExport", 0, &events, export, &export->failure)
            : hearth_fail(&export->failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                          "the link to the guest is down");
    if (error) {
        export->call = NULL;
        return error;
    }
    if (link_call_send(export->call, &request.base))
        give_up(export, HEARTH_ENOMEMORY, NULL, "out of memory");
    else
        link_call_finish(export->call);
    return 0;
}

void export_start(struct workspace *workspace, const char *path,
                  const struct export_events *export_events, void *arg, struct export **ret_export)
{
    struct export *export = calloc(1, sizeof *export);
    if (!export)
        abort();
    *export =
        (struct export){.supervisor = workspace->supervisor, .events = *export_events, .arg = arg};
    snprintf(export->workspace_id, sizeof export->workspace_id, "%s", workspace->workspace_id);
    *ret_export = export;
    if (files_normalize(path, export->path, &export->failure) ||
        workspace_ready(workspace, &export->failure) || open_call(export, workspace))
        loop_defer(export->supervisor->loop, tell_end, export);
}

void export_pause(struct export *export, bool paused)
{
    if (export->call)
        link_call_pause(export->call, paused);
}

void export_abort(struct export *export)
{
    export->aborted = true;
    if (export->call)
        link_call_cancel(export->call);
}
