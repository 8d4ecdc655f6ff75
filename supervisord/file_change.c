#include "supervisord/file_change.h"

#include "agent.pb-c.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 60000
#define SEARCH_MS 30000

struct changing {
    struct supervisor *supervisor;
    struct principal principal;
    char workspace_id[ID_SIZE], request_id[68];
    const char *operation;
    char path[4096], to[4096]; /* relative */
    struct hearth_failure failure;
    file_changed done;
    void *arg;
};

static struct changing *changing_new(struct workspace *workspace, const struct file_asker *asker,
                                     const char *operation, const char *path, file_changed done,
                                     void *arg)
{
    struct changing *changing = calloc(1, sizeof *changing);
    if (!changing)
        abort();
    *changing = (struct changing){.supervisor = workspace->supervisor,
                                  .principal = *asker->principal,
                                  .operation = operation,
                                  .done = done,
                                  .arg = arg};
    memcpy(changing->workspace_id, workspace->workspace_id, sizeof changing->workspace_id);
    snprintf(changing->request_id, sizeof changing->request_id, "%s", asker->request_id);
    if (files_normalize(path, changing->path, &changing->failure))
        return changing;
    if (!*changing->path) {
        hearth_fail(&changing->failure, HEARTH_EINVALID, "bad_path",
                    "/workspace itself cannot be made, moved or removed");
        hearth_failure_field(&changing->failure, "/path");
    } else if (!workspace_ready(workspace, &changing->failure)) {
        workspace_touch(workspace);
    }
    return changing;
}

static void finish(struct changing *changing, const char *relative, enum file_type type)
{
    char path[4200];
    int error = (int)changing->failure.error;
    supervisor_audit_soon(changing->supervisor, &changing->principal, changing->request_id,
                          changing->operation, changing->workspace_id,
                          error ? changing->failure.code : "ok");
    snprintf(path, sizeof path, "/workspace/%s", relative ? relative : "");
    changing->done(changing->arg, error, &changing->failure, relative && !error ? path : NULL,
                   type);
    free(changing);
}

static void failed_early(void *arg)
{
    finish(arg, NULL, FILE_OTHER);
}

static void made(void *arg, enum link_status status, const struct hearth_failure *failure,
                 const ProtobufCMessage *message)
{
    static const enum file_type types[] = {FILE_OTHER, FILE_REGULAR, FILE_DIRECTORY, FILE_SYMLINK};
    struct changing *changing = arg;
    const Hearth__Agent__V1__FileEntry *entry = (const Hearth__Agent__V1__FileEntry *)message;
    const Hearth__Agent__V1__FileRefusal *refusal =
        status == LINK_STATUS_OK ? entry->refusal : NULL;
    size_t type = status == LINK_STATUS_OK ? (size_t)entry->type : 0;
    if (status != LINK_STATUS_OK)
        file_failure(status, failure->detail, &changing->failure);
    else if (refusal)
        file_failure(refusal->status ? (enum link_status)refusal->status : LINK_STATUS_UNKNOWN,
                     refusal->detail, &changing->failure);
    if (refusal && strcmp(refusal->field, "to") == 0)
        hearth_failure_field(&changing->failure, "/to");
    finish(changing, *changing->to ? changing->to : changing->path,
           type < sizeof types / sizeof *types ? types[type] : FILE_OTHER);
}

static void removed(void *arg, enum link_status status, const struct hearth_failure *failure,
                    const ProtobufCMessage *message)
{
    struct changing *changing = arg;
    (void)message;
    if (status != LINK_STATUS_OK)
        file_failure(status, failure->detail, &changing->failure);
    finish(changing, NULL, FILE_OTHER);
}

void file_make_directory(struct workspace *workspace, const struct file_asker *asker,
                         const char *path, bool parents, uint32_t mode, file_changed done,
                         void *arg)
{
    struct changing *changing =
        changing_new(workspace, asker, "workspace_file_mkdir", path, done, arg);
    if (changing->failure.error) {
        loop_defer(changing->supervisor->loop, failed_early, changing);
        return;
    }
    Hearth__Agent__V1__DirectoryMakeRequest request =
        HEARTH__AGENT__V1__DIRECTORY_MAKE_REQUEST__INIT;
    request.path = changing->path;
    request.parents = parents;
    request.mode = mode;
    agent_call(&workspace->sandbox->link, "DirectoryMake", &request.base,
               &hearth__agent__v1__file_entry__descriptor, TIMEOUT_MS, made, changing);
}

void file_move(struct workspace *workspace, const struct file_asker *asker, const char *path,
               const char *to, bool replace, bool create_parents, file_changed done, void *arg)
{
    struct changing *changing =
        changing_new(workspace, asker, "workspace_file_move", path, done, arg);
    if (!changing->failure.error && files_normalize(to, changing->to, &changing->failure))
        hearth_failure_field(&changing->failure, "/to");
    if (changing->failure.error) {
        loop_defer(changing->supervisor->loop, failed_early, changing);
        return;
    }
    Hearth__Agent__V1__FileMoveRequest request = HEARTH__AGENT__V1__FILE_MOVE_REQUEST__INIT;
    request.path = changing->path;
    request.to = changing->to;
    request.replace = replace;
    request.create_parents = create_parents;
    request.refusal_in_reply = true;
    agent_call(&workspace->sandbox->link, "FileMove", &request.base,
               &hearth__agent__v1__file_entry__descriptor, TIMEOUT_MS, made, changing);
}

void file_remove(struct workspace *workspace, const struct file_asker *asker, const char *path,
                 bool recursive, file_changed done, void *arg)
{
    struct changing *changing =
        changing_new(workspace, asker, "workspace_file_delete", path, done, arg);
    if (changing->failure.error) {
        loop_defer(changing->supervisor->loop, failed_early, changing);
        return;
    }
    Hearth__Agent__V1__FileDeleteRequest request = HEARTH__AGENT__V1__FILE_DELETE_REQUEST__INIT;
    request.path = changing->path;
    request.recursive = recursive;
    agent_call(&workspace->sandbox->link, "FileDelete", &request.base,
               &hearth__agent__v1__empty__descriptor, TIMEOUT_MS, removed, changing);
}

/* Searching. */

struct searching {
    struct hearth_failure failure;
    file_searched done;
    void *arg;
};

static void search_failed(void *arg)
{
    struct searching *searching = arg;
    searching->done(searching->arg, (int)searching->failure.error, &searching->failure, NULL);
    free(searching);
}

static void take_matches(const Hearth__Agent__V1__FileSearchReply *reply,
                         struct file_match *matches, char (*paths)[4200])
{
    for (size_t i = 0; i < reply->n_matches; i++) {
        const Hearth__Agent__V1__FileMatch *match = reply->matches[i];
        snprintf(paths[i], sizeof paths[i], "/workspace/%.*s",
                 (int)(match->path.len < 4096 ? match->path.len : 4096),
                 match->path.data ? (const char *)match->path.data : "");
        matches[i] = (struct file_match){.path = paths[i],
                                         .line = match->line,
                                         .column = match->column,
                                         .text_column = match->text_column,
                                         .text = (const char *)match->text.data,
                                         .length = match->text.len};
    }
}

static void searched(void *arg, enum link_status status, const struct hearth_failure *failure,
                     const ProtobufCMessage *message)
{
    struct searching *searching = arg;
    const Hearth__Agent__V1__FileSearchReply *reply =
        (const Hearth__Agent__V1__FileSearchReply *)message;
    if (status == LINK_STATUS_OUT_OF_RANGE) {
        hearth_fail(&searching->failure, HEARTH_EINVALID, "bad_pattern", "the pattern: %.400s",
                    failure->detail);
        hearth_failure_field(&searching->failure, "/pattern");
    } else if (status != LINK_STATUS_OK) {
        file_failure(status, failure->detail, &searching->failure);
    }
    if (searching->failure.error) {
        search_failed(searching);
        return;
    }
    auto_free struct file_match *matches = calloc(reply->n_matches + 1, sizeof *matches);
    auto_free char(*paths)[4200] = calloc(reply->n_matches + 1, sizeof *paths);
    if (!matches || !paths) {
        hearth_fail(&searching->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        search_failed(searching);
        return;
    }
    take_matches(reply, matches, paths);
    const struct file_search_result result = {.matches = matches,
                                              .count = reply->n_matches,
                                              .files_searched = reply->files_searched,
                                              .files_binary = reply->files_binary,
                                              .files_large = reply->files_large,
                                              .files_unreadable = reply->files_unreadable,
                                              .lines_too_costly = reply->lines_too_costly,
                                              .more = reply->more,
                                              .timed_out = reply->timed_out};
    searching->done(searching->arg, 0, NULL, &result);
    free(searching);
}

void file_search(struct workspace *workspace, const struct file_search_spec *spec,
                 file_searched done, void *arg)
{
    char relative[4096];
    struct searching *searching = calloc(1, sizeof *searching);
    if (!searching)
        abort();
    *searching = (struct searching){.done = done, .arg = arg};
    if (files_normalize(spec->path, relative, &searching->failure) ||
        workspace_ready(workspace, &searching->failure)) {
        loop_defer(workspace->supervisor->loop, search_failed, searching);
        return;
    }
    Hearth__Agent__V1__FileSearchRequest request = HEARTH__AGENT__V1__FILE_SEARCH_REQUEST__INIT;
    request.path = relative;
    request.pattern = (char *)(uintptr_t)spec->pattern;
    request.regex = spec->regex;
    request.ignore_case = spec->ignore_case;
    request.include = (char **)(uintptr_t)spec->include;
    request.n_include = spec->include_count;
    request.exclude = (char **)(uintptr_t)spec->exclude;
    request.n_exclude = spec->exclude_count;
    request.limit = spec->limit;
    request.timeout_ms = SEARCH_MS;
    agent_call(&workspace->sandbox->link, "FileSearch", &request.base,
               &hearth__agent__v1__file_search_reply__descriptor, SEARCH_MS + TIMEOUT_MS, searched,
               searching);
}
