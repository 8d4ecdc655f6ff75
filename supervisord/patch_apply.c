#include "supervisord/patch_apply.h"

#include "agent.pb-c.h"
#include "base/text.h"
#include "guestagent/unpack.h"
#include "supervisord/patch/tree.h"
#include "supervisord/supervisor_internal.h"
#include "supervisord/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATA_MAX ((size_t)256 << 10)

struct patching {
    struct supervisor *supervisor;
    struct principal principal;
    char workspace_id[ID_SIZE], request_id[68];
    const char *execution_mode;
    char *text;
    struct patch patch;
    struct patch_tree tree;
    struct hearth_failure failure;
    struct link_call *call; /* NULL once it has ended */
    /* Reading. */
    struct patch_node *reading;
    uint64_t read_bytes;
    /* Writing: the node that is being sent, and how much of it has been. */
    struct patch_node *sending;
    size_t sent;
    bool begun, committed, replied;
    patch_done done;
    void *arg;
};

static void fill_result(struct patching *patching, struct patch_result *result,
                        struct patch_entry *entries)
{
    static const char *const names[] = {"", "added", "modified", "deleted"};
    for (const struct patch_node *node = patching->tree.first; node; node = node->next) {
        enum patch_status status = patch_node_status(node);
        if (status == PATCH_SAME)
            continue;
        result->added += status == PATCH_ADDED;
        result->modified += status == PATCH_MODIFIED;
        result->deleted += status == PATCH_DELETED;
        entries[result->count++] =
            (struct patch_entry){.path = node->path, .status = names[status]};
    }
    result->entries = entries;
    result->binary_skipped = patching->patch.binary_markers;
}

static void finish(struct patching *patching)
{
    struct patch_result result = {.execution_mode = patching->execution_mode};
    int error = (int)patching->failure.error;
    struct patch_entry *entries = calloc(patching->tree.nodes.count + 1, sizeof *entries);
    if (!error && !entries)
        error = hearth_fail(&patching->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    supervisor_audit_soon(patching->supervisor, &patching->principal, patching->request_id,
                          "workspace_patch_apply", patching->workspace_id,
                          error ? patching->failure.code : "ok");
    if (!error)
        fill_result(patching, &result, entries);
    patching->done(patching->arg, error, &patching->failure, error ? NULL : &result);
    free(entries);
    patch_tree_free(&patching->tree);
    patch_free(&patching->patch);
    free(patching->text);
    free(patching);
}

static void finish_later(void *arg)
{
    finish(arg);
}

/* The workspace's link, or NULL with the failure. */
static struct link *find_link(struct patching *patching)
{
    struct workspace *workspace =
        workspace_find(&patching->principal, patching->workspace_id, &patching->failure);
    if (!workspace || workspace_ready(workspace, &patching->failure))
        return NULL;
    struct link *link = workspace->sandbox->link.link;
    if (!link)
        hearth_fail(&patching->failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                    "the link to the guest is down");
    else
        workspace_touch(workspace);
    return link;
}

static void give_up(struct patching *patching, enum hearth_error error, const char *code,
                    const char *detail)
{
    if (!patching->failure.error)
        hearth_fail(&patching->failure, error, code, "%s", detail);
    if (patching->call)
        link_call_cancel(patching->call);
}

static void call_ended(struct patching *patching, enum link_status status, const char *message)
{
    patching->call = NULL;
    if (patching->failure.error || status == LINK_STATUS_OK)
        return;
    if (status == LINK_STATUS_ABORTED) {
        link_status_failure(status, message, &patching->failure);
        patching->failure.retryable = true;
        return;
    }
    file_failure(status, message, &patching->failure);
    hearth_failure_field(&patching->failure, "/patch");
}

/* Putting it in place. */

static ProtobufCBinaryData bytes_of(const char *text, size_t length)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)text, .len = length};
}

static Hearth__Agent__V1__FileType wire_type(enum patch_type type)
{
    return type == PATCH_SYMLINK ? HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK
                                 : HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE;
}

static int send_head(struct patching *patching, const struct patch_node *node)
{
    Hearth__Agent__V1__FilesChangeItem item = HEARTH__AGENT__V1__FILES_CHANGE_ITEM__INIT;
    Hearth__Agent__V1__FileChange change = HEARTH__AGENT__V1__FILE_CHANGE__INIT;
    Hearth__Agent__V1__FileEntry entry = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    Hearth__Agent__V1__FileEntry before = HEARTH__AGENT__V1__FILE_ENTRY__INIT;
    entry.path = bytes_of(node->path, strlen(node->path));
    entry.type = wire_type(node->now.type);
    entry.mode = node->now.mode;
    if (node->now.type == PATCH_SYMLINK)
        entry.link_target = bytes_of(node->now.content, node->now.length);
    if (node->base.type != PATCH_NOTHING && node->base.type != PATCH_DIRECTORY) {
        before.type = wire_type(node->base.type);
        before.size = node->size;
        before.mode = node->whole_mode;
        before.mtime_ns = node->mtime_ns;
        change.before = &before;
    }
    change.kind = node->now.type == PATCH_NOTHING
                      ? HEARTH__AGENT__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_REMOVE
                      : HEARTH__AGENT__V1__FILE_CHANGE_KIND__FILE_CHANGE_KIND_PUT;
    change.entry = &entry;
    item.change = &change;
    return link_call_send(patching->call, &item.base);
}

static int send_data(struct patching *patching, const struct patch_node *node)
{
    Hearth__Agent__V1__FilesChangeItem item = HEARTH__AGENT__V1__FILES_CHANGE_ITEM__INIT;
    size_t left = node->now.length - patching->sent;
    item.data = bytes_of(node->now.content + patching->sent, left < DATA_MAX ? left : DATA_MAX);
    patching->sent += item.data.len;
    return link_call_send(patching->call, &item.base);
}

static int send_step(struct patching *patching)
{
    const struct patch_node *node = patching->sending;
    if (!node) {
        Hearth__Agent__V1__FilesChangeItem last = HEARTH__AGENT__V1__FILES_CHANGE_ITEM__INIT;
        last.commit = true;
        patching->committed = true;
        int error = link_call_send(patching->call, &last.base);
        link_call_finish(patching->call);
        return error;
    }
    bool same = patch_node_status(node) == PATCH_SAME;
    if (!same && !patching->begun) {
        patching->begun = true;
        return send_head(patching, node);
    }
    if (!same && node->now.type == PATCH_FILE && patching->sent < node->now.length)
        return send_data(patching, node);
    patching->sending = node->next;
    patching->sent = 0;
    patching->begun = false;
    return 0;
}

static void send_more(struct patching *patching)
{
    int error = 0;
    while (!error && !patching->committed && patching->call &&
           link_call_queued(patching->call) < LINK_SEND_LOW_WATER)
        error = send_step(patching);
    if (error && patching->call)
        give_up(patching, (enum hearth_error)error, NULL, "the change could not be sent");
}

static void change_writable(struct link_call *call, void *arg)
{
    (void)call;
    send_more(arg);
}

static void change_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct patching *patching = arg;
    (void)call;
    (void)data;
    (void)length;
    patching->replied = true;
}

static void change_end(struct link_call *call, void *arg, enum link_status status,
                       const char *message)
{
    struct patching *patching = arg;
    (void)call;
    call_ended(patching, status, message);
    if (!patching->failure.error && !patching->replied)
        hearth_fail(&patching->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                    "the agent gave no answer");
    /* give_up cancels from within a callback, which still looks at it. */
    loop_defer(patching->supervisor->loop, finish_later, patching);
}

static const struct link_call_events change_events = {
    .on_message = change_message, .on_writable = change_writable, .on_end = change_end};

static bool changes_anything(const struct patching *patching)
{
    for (const struct patch_node *node = patching->tree.first; node; node = node->next)
        if (patch_node_status(node) != PATCH_SAME)
            return true;
    return false;
}

static void applied(void *arg)
{
    struct patching *patching = arg;
    struct link *link = NULL;
    if (!patching->failure.error && changes_anything(patching))
        link = find_link(patching);
    if (!link || link_call_start(&patching->call, link, AGENT_SERVICE "FilesChange", 0,
                                 &change_events, patching, &patching->failure)) {
        patching->call = NULL;
        finish(patching);
        return;
    }
    patching->sending = patching->tree.first;
    send_more(patching);
}

static void run_apply(void *arg)
{
    struct patching *patching = arg;
    patch_tree_apply(&patching->tree, &patching->patch, &patching->failure);
}

/* Reading what is there. */

static int take_entry(struct patching *patching, const Hearth__Agent__V1__TreeItem *item)
{
    const Hearth__Agent__V1__FileEntry *entry = item->entry;
    char path[4096];
    if (entry->path.len >= sizeof path)
        return HEARTH_EUNAVAILABLE;
    memcpy(path, entry->path.data ? entry->path.data : (const uint8_t *)"", entry->path.len);
    path[entry->path.len] = '\0';
    struct patch_node *node = patch_tree_find(&patching->tree, path);
    if (!node || node->base.type != PATCH_NOTHING)
        return HEARTH_EUNAVAILABLE; /* not asked for, or told twice */
    patching->reading = node;
    node->behind_link = item->note == HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_BEHIND_LINK;
    node->too_large = item->note == HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_TOO_LARGE;
    if (node->behind_link || item->note == HEARTH__AGENT__V1__TREE_NOTE__TREE_NOTE_MISSING)
        return 0;
    bool file = entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_FILE;
    bool symlink = entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_SYMLINK;
    bool directory = entry->type == HEARTH__AGENT__V1__FILE_TYPE__FILE_TYPE_DIRECTORY;
    node->base.type = file        ? PATCH_FILE
                      : symlink   ? PATCH_SYMLINK
                      : directory ? PATCH_DIRECTORY
                                  : PATCH_OTHER;
    node->base.mode = entry->mode & 0777;
    node->size = entry->size;
    node->whole_mode = entry->mode;
    node->mtime_ns = entry->mtime_ns;
    size_t size = symlink                    ? entry->link_target.len
                  : file && !node->too_large ? (size_t)entry->size
                                             : 0;
    if (size > PATCH_FILE_MAX || patching->read_bytes + size > PATCH_CONTENT_MAX)
        return HEARTH_ETOOLARGE;
    patching->read_bytes += size;
    node->base.content = calloc(1, size + 1);
    if (!node->base.content)
        return HEARTH_ENOMEMORY;
    if (symlink) {
        memcpy(node->base.content, entry->link_target.data, size);
        node->base.length = size;
    }
    return 0;
}

static int take_data(struct patching *patching, const ProtobufCBinaryData *data)
{
    struct patch_node *node = patching->reading;
    if (!data->len)
        return 0;
    if (!node || node->base.type != PATCH_FILE || node->too_large ||
        data->len > node->size - node->base.length)
        return HEARTH_EUNAVAILABLE;
    memcpy(node->base.content + node->base.length, data->data, data->len);
    node->base.length += data->len;
    return 0;
}

static void read_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct patching *patching = arg;
    (void)call;
    Hearth__Agent__V1__TreeItem *item =
        unpack_bounded(&hearth__agent__v1__tree_item__descriptor, length, data);
    int error = item ? 0 : HEARTH_EUNAVAILABLE;
    if (!error && item->entry)
        error = take_entry(patching, item);
    if (!error)
        error = take_data(patching, &item->data);
    if (item)
        hearth__agent__v1__tree_item__free_unpacked(item, NULL);
    if (error == HEARTH_ETOOLARGE)
        give_up(patching, HEARTH_ETOOLARGE, "patch_too_large",
                "the files that the patch names are too large together");
    else if (error)
        give_up(patching, (enum hearth_error)error, "agent_broken",
                "the agent's answer cannot be read");
}

static void read_done(void *arg)
{
    struct patching *patching = arg;
    for (const struct patch_node *node = patching->tree.first; node; node = node->next)
        if (!patching->failure.error && node->base.type == PATCH_FILE && !node->too_large &&
            node->base.length != node->size)
            hearth_fail(&patching->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                        "the agent's answer is cut short");
    if (patching->failure.error)
        finish(patching);
    else
        worker_submit(patching->supervisor->workers, run_apply, applied, patching);
}

static void read_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    struct patching *patching = arg;
    (void)call;
    call_ended(patching, status, message);
    loop_defer(patching->supervisor->loop, read_done, patching);
}

static const struct link_call_events read_events = {.on_message = read_message, .on_end = read_end};

static int ask(struct patching *patching, struct link *link)
{
    Hearth__Agent__V1__TreeExportRequest request = HEARTH__AGENT__V1__TREE_EXPORT_REQUEST__INIT;
    ProtobufCBinaryData *paths = calloc(patching->tree.nodes.count + 1, sizeof *paths);
    if (!paths)
        return hearth_fail(&patching->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    for (struct patch_node *node = patching->tree.first; node; node = node->next)
        paths[request.n_paths++] = bytes_of(node->path, strlen(node->path));
    request.paths = paths;
    request.max_file_bytes = PATCH_FILE_MAX;
    int error = link_call_start(&patching->call, link, AGENT_SERVICE "TreeExport", 0, &read_events,
                                patching, &patching->failure);
    if (error)
        patching->call = NULL;
    else if (link_call_send(patching->call, &request.base))
        give_up(patching, HEARTH_ENOMEMORY, NULL, "out of memory");
    else
        link_call_finish(patching->call);
    free(paths);
    return error;
}

static void parsed(void *arg)
{
    struct patching *patching = arg;
    struct link *link = patching->failure.error ? NULL : find_link(patching);
    if (!link || ask(patching, link))
        finish(patching);
}

static void run_parse(void *arg)
{
    struct patching *patching = arg;
    if (patch_parse(&patching->patch, patching->text, strlen(patching->text), &patching->failure) ==
        0)
        patch_tree_begin(&patching->tree, &patching->patch, &patching->failure);
}

void patch_apply(struct workspace *workspace, const struct principal *principal,
                 const char *request_id, const char *text, patch_done done, void *arg)
{
    struct patching *patching = calloc(1, sizeof *patching);
    struct workspace_status status;
    if (!patching)
        abort();
    workspace_describe(workspace, &status);
    *patching = (struct patching){.supervisor = workspace->supervisor,
                                  .principal = *principal,
                                  .execution_mode = status.facts.execution_mode,
                                  .text = text_copy(text),
                                  .done = done,
                                  .arg = arg};
    memcpy(patching->workspace_id, workspace->workspace_id, sizeof patching->workspace_id);
    snprintf(patching->request_id, sizeof patching->request_id, "%s", request_id);
    if (!patching->text)
        hearth_fail(&patching->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (patching->failure.error || workspace_ready(workspace, &patching->failure))
        loop_defer(patching->supervisor->loop, finish_later, patching);
    else
        worker_submit(patching->supervisor->workers, run_parse, parsed, patching);
}
