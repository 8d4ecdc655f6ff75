#include "supervisord/files.h"

#include "agent.pb-c.h"
#include "base/log.h"
#include "base/text.h"
#include "guestagent/data_field.h"
#include "guestagent/unpack.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "/workspace"
#define LIST_TIMEOUT_MS 60000
#define WRITE_CHUNK ((size_t)128 << 10) /* what comes by less is gathered to messages of this */
#define READ_DATA 2                     /* FileReadReply.data */

/* A read or a write under way. It lives until its last callback or its abort, whichever comes
 * first. */
struct file_transfer {
    struct supervisor *supervisor;
    struct workspace *workspace;
    struct link_call *call; /* NULL once it has ended */
    struct list link;       // workspace::transfers
    struct hearth_failure failure;
    bool ended;
    /* Reading. */
    struct file_read_events read;
    /* Writing. */
    struct principal principal;
    char request_id[68];
    bool sent_head;
    struct buf gathered; /* for the next message */
    Hearth__Agent__V1__FileWriteRequest head;
    struct file_written written;
    char *path;
    void (*on_writable)(void *arg);
    files_written done;
    void *arg;
};

const char *file_type_name(enum file_type type)
{
    static const char *const names[] = {"other", "file", "directory", "symlink"};
    return names[type];
}

static int bad_path(struct hearth_failure *failure, const char *code, const char *detail)
{
    int error = hearth_fail(failure, HEARTH_EINVALID, code, "%s", detail);
    hearth_failure_field(failure, "/path");
    return error;
}

int files_normalize(const char *path, char out[4096], struct hearth_failure *failure)
{
    size_t used = 0;
    if (strlen(path) >= 4096)
        return bad_path(failure, "bad_path", "the path is longer than 4095 bytes");
    if (path[0] == '/') {
        size_t root = strlen(ROOT);
        if (strncmp(path, ROOT, root) != 0 || (path[root] && path[root] != '/'))
            return bad_path(failure, "path_outside_workspace",
                            "the path does not lie under /workspace");
        path += root;
    }
    while (*path) {
        size_t length = strcspn(path, "/");
        if (length == 2 && path[0] == '.' && path[1] == '.')
            return bad_path(failure, "path_outside_workspace", "the path holds \"..\"");
        if (length > 255)
            return bad_path(failure, "bad_path", "a name in the path is longer than 255 bytes");
        if (length && !(length == 1 && path[0] == '.')) {
            if (used)
                out[used++] = '/';
            memcpy(out + used, path, length);
            used += length;
        }
        path += length;
        path += strspn(path, "/");
    }
    out[used] = '\0';
    return 0;
}

void files_absolute(const char *path, char out[FILES_ABSOLUTE_SIZE])
{
    char relative[4096];
    if (files_normalize(path, relative, NULL))
        *relative = '\0';
    snprintf(out, FILES_ABSOLUTE_SIZE, ROOT "%s%s", *relative ? "/" : "", relative);
}

/* What the agent's status means for a file. */
void file_failure(enum link_status status, const char *message, struct hearth_failure *failure)
{
    static const struct {
        enum link_status status;
        enum hearth_error error;
        const char *code;
    } meanings[] = {
        {LINK_STATUS_NOT_FOUND, HEARTH_ENOTFOUND, "file_not_found"},
        {LINK_STATUS_PERMISSION_DENIED, HEARTH_EINVALID, "path_outside_workspace"},
        {LINK_STATUS_FAILED_PRECONDITION, HEARTH_ECONFLICT, "wrong_file_type"},
        {LINK_STATUS_INVALID_ARGUMENT, HEARTH_EINVALID, "bad_path"},
        {LINK_STATUS_RESOURCE_EXHAUSTED, HEARTH_ENOSPACE, "guest_full"},
    };
    link_status_failure(status, message, failure);
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].status == status)
            hearth_fail(failure, meanings[i].error, meanings[i].code, "%s",
                        message && *message ? message : "the agent gave no reason");
    hearth_failure_field(failure, "/path");
}

/* Completions that fail before anything was asked. */

struct late_list {
    struct hearth_failure failure;
    files_listed done;
    void *arg;
};

static void list_failed(void *arg)
{
    auto_free struct late_list *late = arg;
    late->done(late->arg, (int)late->failure.error, &late->failure, NULL, 0, NULL);
}

/* The entry as it is told: absolute, its strings in two buffers of the caller. */
static void entry_from(const Hearth__Agent__V1__FileEntry *from, struct file_entry *ret_entry,
                       struct buf *path, struct buf *target)
{
    static const enum file_type types[] = {FILE_OTHER, FILE_REGULAR, FILE_DIRECTORY, FILE_SYMLINK};
    buf_clear(path);
    buf_clear(target);
    if (buf_text(path, ROOT) || (from->path.len && buf_char(path, '/')) ||
        buf_append(path, from->path.data, from->path.len) ||
        buf_append(target, from->link_target.data, from->link_target.len))
        buf_clear(path);
    *ret_entry = (struct file_entry){
        .path = path->data ? path->data : ROOT,
        .type = (size_t)from->type < sizeof types / sizeof *types ? types[from->type] : FILE_OTHER,
        .size = from->size,
        .mode = from->mode & 07777,
        .mtime_us = from->mtime_ns / 1000,
        .link_target =
            from->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK ? target->data : NULL,
    };
}

static void free_entries(struct file_entry *entries, size_t count)
{
    for (size_t i = 0; entries && i < count; i++) {
        free((char *)(uintptr_t)entries[i].path);
        free((char *)(uintptr_t)entries[i].link_target);
    }
    free(entries);
}

/* A page's cursor is its last path, in hex: paths are bytes, cursors are text. */
static int cursor_encode(struct buf *out, const ProtobufCBinaryData *path)
{
    int error = 0;
    for (size_t i = 0; !error && i < path->len; i++)
        error = buf_printf(out, "%02x", path->data[i]);
    return error;
}

static int cursor_decode(const char *cursor, struct buf *out, struct hearth_failure *failure)
{
    size_t length = cursor ? strlen(cursor) : 0;
    int error = length % 2 || length > 8190 ? HEARTH_EINVALID : 0;
    for (size_t i = 0; !error && i < length; i += 2) {
        unsigned byte;
        char pair[3] = {cursor[i], cursor[i + 1], '\0'};
        if (strspn(pair, "0123456789abcdef") != 2 || sscanf(pair, "%2x", &byte) != 1)
            error = HEARTH_EINVALID;
        else
            error = buf_char(out, (char)byte);
    }
    return error ? supervisor_bad_cursor(failure) : 0;
}

static void listed(void *arg, enum link_status status, const struct hearth_failure *failure,
                   const ProtobufCMessage *message)
{
    auto_free struct late_list *pending = arg;
    const Hearth__Agent__V1__FileListReply *reply =
        (const Hearth__Agent__V1__FileListReply *)message;
    if (status != LINK_STATUS_OK) {
        file_failure(status, failure->detail, &pending->failure);
        pending->done(pending->arg, (int)pending->failure.error, &pending->failure, NULL, 0, NULL);
        return;
    }
    auto_buf struct buf path = {0}, target = {0}, cursor = {0};
    struct file_entry *entries = calloc(reply->n_entries + 1, sizeof *entries);
    bool whole = entries != NULL;
    for (size_t i = 0; whole && i < reply->n_entries; i++) {
        entry_from(reply->entries[i], &entries[i], &path, &target);
        entries[i].path = text_copy(entries[i].path);
        entries[i].link_target = text_copy(entries[i].link_target);
        whole = entries[i].path != NULL;
    }
    if (whole && reply->more && reply->n_entries)
        whole = cursor_encode(&cursor, &reply->entries[reply->n_entries - 1]->path) == 0;
    if (whole) {
        pending->done(pending->arg, 0, NULL, entries, reply->n_entries,
                      cursor.length ? cursor.data : NULL);
    } else {
        hearth_fail(&pending->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        pending->done(pending->arg, (int)pending->failure.error, &pending->failure, NULL, 0, NULL);
    }
    free_entries(entries, reply->n_entries);
}

void files_list(struct workspace *workspace, const char *path, bool recursive, unsigned limit,
                const char *cursor, files_listed done, void *arg)
{
    struct late_list *pending = calloc(1, sizeof *pending);
    if (!pending)
        abort();
    *pending = (struct late_list){.done = done, .arg = arg};
    char relative[4096];
    auto_buf struct buf after = {0};
    if (files_normalize(path, relative, &pending->failure) ||
        cursor_decode(cursor, &after, &pending->failure) ||
        workspace_ready(workspace, &pending->failure)) {
        loop_defer(workspace->supervisor->loop, list_failed, pending);
        return;
    }
    Hearth__Agent__V1__FileListRequest request = HEARTH__AGENT__V1__FILE_LIST_REQUEST__INIT;
    request.path = relative;
    request.recursive = recursive;
    request.limit = limit;
    request.after.data = (uint8_t *)after.data;
    request.after.len = after.length;
    agent_call(&workspace->sandbox->link, "FileList", &request.base,
               &hearth__agent__v1__file_list_reply__descriptor, LIST_TIMEOUT_MS, listed, pending);
}

/* Transfers. */

static struct file_transfer *transfer_new(struct workspace *workspace, void *arg)
{
    struct file_transfer *transfer = calloc(1, sizeof *transfer);
    if (!transfer)
        abort();
    transfer->supervisor = workspace->supervisor;
    transfer->workspace = workspace;
    transfer->arg = arg;
    list_init(&transfer->link);
    list_append(&workspace->transfers, &transfer->link);
    return transfer;
}

static void transfer_free(struct file_transfer *transfer)
{
    list_remove(&transfer->link);
    free(transfer->path);
    buf_free(&transfer->gathered);
    free(transfer);
}

/* Tells the end, unless it was aborted; frees. */
static void transfer_end(struct file_transfer *transfer)
{
    struct file_transfer ended = *transfer;
    int error = (int)ended.failure.error;
    transfer->path = NULL;
    transfer_free(transfer);
    if (ended.read.on_end)
        ended.read.on_end(ended.arg, error, &ended.failure);
    else if (ended.done)
        ended.done(ended.arg, error, &ended.failure, error ? NULL : &ended.written);
    free(ended.path);
}

static void transfer_failed(void *arg)
{
    transfer_end(arg);
}

static void transfer_ended(struct link_call *call, void *arg, enum link_status status,
                           const char *message)
{
    (void)call;
    struct file_transfer *transfer = arg;
    transfer->call = NULL;
    if (transfer->ended) { /* aborted: nobody is told */
        transfer_free(transfer);
        return;
    }
    if (status != LINK_STATUS_OK && !transfer->failure.error) {
        file_failure(status, message, &transfer->failure);
    } else if (!transfer->failure.error && transfer->done && !transfer->written.path) {
        hearth_fail(&transfer->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                    "the agent gave no answer");
    }
    transfer_end(transfer);
}

/* Opens the call, or has the failure told at the end of the turn. */
static bool transfer_open(struct file_transfer *transfer, const char *path, char relative[4096],
                          const char *method, const struct link_call_events *events)
{
    struct workspace *workspace = transfer->workspace;
    int error = files_normalize(path, relative, &transfer->failure);
    if (!error)
        error = workspace_ready(workspace, &transfer->failure);
    if (!error && !workspace->sandbox->link.link)
        error = hearth_fail(&transfer->failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                            "the link to the guest is down");
    if (!error)
        error = link_call_start(&transfer->call, workspace->sandbox->link.link, method, 0, events,
                                transfer, &transfer->failure);
    if (!error)
        return true;
    transfer->call = NULL;
    loop_defer(transfer->supervisor->loop, transfer_failed, transfer);
    return false;
}

/* Reading. */

static void read_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct file_transfer *transfer = arg;
    const uint8_t *piece;
    size_t piece_length;
    if (data_field_alone(data, length, READ_DATA, &piece, &piece_length)) {
        if (piece_length && !transfer->ended)
            transfer->read.on_data(transfer->arg, piece, piece_length);
        return;
    }
    Hearth__Agent__V1__FileReadReply *reply =
        unpack_bounded(&hearth__agent__v1__file_read_reply__descriptor, length, data);
    if (!reply) {
        hearth_fail(&transfer->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                    "the agent's answer cannot be read");
        link_call_cancel(call);
        return;
    }
    if (reply->entry && !transfer->ended) {
        auto_buf struct buf path = {0}, target = {0};
        struct file_entry entry;
        entry_from(reply->entry, &entry, &path, &target);
        transfer->read.on_entry(transfer->arg, &entry);
    }
    if (reply->data.len && !transfer->ended)
        transfer->read.on_data(transfer->arg, reply->data.data, reply->data.len);
    hearth__agent__v1__file_read_reply__free_unpacked(reply, NULL);
}

static const struct link_call_events read_events = {.on_message = read_message,
                                                    .on_end = transfer_ended};

void files_read(struct workspace *workspace, const char *path, uint64_t offset, uint64_t length,
                const struct file_read_events *events, void *arg,
                struct file_transfer **ret_transfer)
{
    struct file_transfer *transfer = transfer_new(workspace, arg);
    char relative[4096];
    transfer->read = *events;
    *ret_transfer = transfer;
    if (!transfer_open(transfer, path, relative, AGENT_SERVICE "FileRead", &read_events))
        return;
    Hearth__Agent__V1__FileReadRequest request = HEARTH__AGENT__V1__FILE_READ_REQUEST__INIT;
    request.path = relative;
    request.offset = offset;
    request.length = length;
    if (link_call_send(transfer->call, &request.base)) {
        hearth_fail(&transfer->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        link_call_cancel(transfer->call);
        return;
    }
    link_call_finish(transfer->call);
}

/* Writing. */

static void write_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    (void)call;
    struct file_transfer *transfer = arg;
    Hearth__Agent__V1__FileWriteReply *reply =
        unpack_bounded(&hearth__agent__v1__file_write_reply__descriptor, length, data);
    if (!reply)
        return;
    transfer->written = (struct file_written){
        .size = reply->entry ? reply->entry->size : reply->bytes_written,
        .bytes_written = reply->bytes_written,
        .path = transfer->path,
        .created = reply->created,
    };
    hearth__agent__v1__file_write_reply__free_unpacked(reply, NULL);
}

static void write_writable(struct link_call *call, void *arg)
{
    (void)call;
    struct file_transfer *transfer = arg;
    if (transfer->on_writable && !transfer->ended)
        transfer->on_writable(transfer->arg);
}

static const struct link_call_events write_events = {
    .on_message = write_message, .on_writable = write_writable, .on_end = transfer_ended};

void files_write(struct workspace *workspace, const struct principal *principal,
                 const struct file_write_spec *spec, void (*on_writable)(void *arg),
                 files_written done, void *arg, struct file_transfer **ret_transfer)
{
    struct file_transfer *transfer = transfer_new(workspace, arg);
    char relative[4096];
    transfer->principal = *principal;
    snprintf(transfer->request_id, sizeof transfer->request_id, "%s",
             spec->request_id ? spec->request_id : "");
    transfer->on_writable = on_writable;
    transfer->done = done;
    *ret_transfer = transfer;
    if (!transfer_open(transfer, spec->path, relative, AGENT_SERVICE "FileWrite", &write_events))
        return;
    struct buf path = {0};
    if (buf_printf(&path, ROOT "%s%s", *relative ? "/" : "", relative) ||
        !(transfer->path = buf_steal(&path)))
        abort();
    hearth__agent__v1__file_write_request__init(&transfer->head);
    transfer->head.path = transfer->path + strlen(ROOT) + (*relative ? 1 : 0);
    transfer->head.mode = spec->mode;
    transfer->head.create_parents = spec->create_parents;
}

/* Its end is told: the transfer is freed. */
static void write_out_of_memory(struct file_transfer *transfer)
{
    hearth_fail(&transfer->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    link_call_cancel(transfer->call);
}

/* The first message carries the head and what there is of data: a small file is one message.
 * False: the transfer is over. */
static bool write_send(struct file_transfer *transfer, bool commit)
{
    Hearth__Agent__V1__FileWriteRequest request = HEARTH__AGENT__V1__FILE_WRITE_REQUEST__INIT;
    if (!transfer->sent_head)
        request = transfer->head;
    transfer->sent_head = true;
    request.data.data = (uint8_t *)transfer->gathered.data;
    request.data.len = transfer->gathered.length;
    request.commit = commit;
    int error = link_call_send(transfer->call, &request.base);
    buf_clear(&transfer->gathered);
    if (error)
        write_out_of_memory(transfer);
    return !error;
}

bool file_write_data(struct file_transfer *transfer, const void *data, size_t length)
{
    if (!transfer->call)
        return true; /* its failure is on its way */
    if (buf_append(&transfer->gathered, data, length)) {
        write_out_of_memory(transfer);
        return true;
    }
    if (transfer->gathered.length >= WRITE_CHUNK && !write_send(transfer, false))
        return true;
    return link_call_queued(transfer->call) <= LINK_SEND_LOW_WATER;
}

void file_write_commit(struct file_transfer *transfer)
{
    if (!transfer->call)
        return;
    struct workspace *workspace = transfer->workspace;
    workspace_touch(workspace);
    /* Soon: a sync of the database beside each small file would hold up the file's own. */
    supervisor_audit_soon(workspace->supervisor, &transfer->principal, transfer->request_id,
                          "workspace_file_write", workspace->workspace_id, "ok");
    if (write_send(transfer, true))
        link_call_finish(transfer->call);
}

void file_transfer_pause(struct file_transfer *transfer, bool paused)
{
    if (transfer->call)
        link_call_pause(transfer->call, paused);
}

void file_transfer_abort(struct file_transfer *transfer)
{
    transfer->ended = true;
    if (transfer->call) {
        link_call_cancel(transfer->call); /* frees it by way of its end */
        return;
    }
    /* Its failure waits in the loop's queue: it is told to nobody. */
    transfer->read.on_end = NULL;
    transfer->done = NULL;
}

void files_abort_all(struct workspace *workspace, enum hearth_error error, const char *code,
                     const char *detail)
{
    while (!list_empty(&workspace->transfers)) {
        struct file_transfer *transfer =
            container_of(workspace->transfers.next, struct file_transfer, link);
        list_remove(&transfer->link);
        hearth_fail(&transfer->failure, error, code, "%s", detail);
        if (transfer->call)
            link_call_cancel(transfer->call);
    }
}
