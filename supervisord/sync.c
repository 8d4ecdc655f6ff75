#include "supervisord/sync.h"

#include "base/buf.h"
#include "base/text.h"
#include "supervisord/feed.h"
#include "supervisord/files.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sync_push {
    struct supervisor *supervisor;
    struct principal principal;
    char workspace_id[ID_SIZE], request_id[68];
    const char *execution_mode;
    char *source_path, *destination;
    struct hearth_failure failure;
    uint64_t entry_count, bytes_written;
    struct feed archive; /* of a stream */
    bool streamed, input_ended, seeded;
    struct seeding *seeding; /* of a stream, until seeded */
    void (*on_room)(void *arg);
    sync_done done;
    void *arg;
};

static void tell(struct sync_push *push)
{
    struct workspace *workspace =
        push->failure.error ? NULL : workspace_find(&push->principal, push->workspace_id, NULL);
    if (workspace)
        workspace_touch(workspace);
    supervisor_audit_soon(push->supervisor, &push->principal, push->request_id,
                          "workspace_sync_push", push->workspace_id,
                          push->failure.error ? push->failure.code : "ok");
    const struct sync_result result = {.workspace_id = push->workspace_id,
                                       .execution_mode = push->execution_mode,
                                       .mode = seed_mode(push->source_path),
                                       .source_path = push->source_path,
                                       .destination = push->destination,
                                       .entry_count = push->entry_count,
                                       .bytes_written = push->bytes_written};
    int error = (int)push->failure.error;
    push->done(push->arg, error, &push->failure, error ? NULL : &result);
    feed_close(&push->archive);
    free(push->source_path);
    free(push->destination);
    free(push);
}

static void maybe_tell(struct sync_push *push)
{
    if (push->seeded && (push->input_ended || !push->streamed))
        tell(push);
}

static void seeded(void *arg, int error, const struct hearth_failure *failure, uint64_t entry_count,
                   uint64_t bytes_written)
{
    struct sync_push *push = arg;
    push->seeded = true;
    push->seeding = NULL;
    push->entry_count = entry_count;
    push->bytes_written = bytes_written;
    if (error && !push->failure.error)
        push->failure = *failure;
    if (push->failure.error == HEARTH_ENOTFOUND && !strcmp(push->failure.code, "upload_not_found"))
        hearth_failure_field(&push->failure, "/upload_id");
    feed_close(&push->archive);
    if (!push->input_ended && push->on_room)
        push->on_room(push->arg); /* the rest is taken, and dropped */
    maybe_tell(push);
}

static void failed_early(void *arg)
{
    struct sync_push *push = arg;
    seeded(push, (int)push->failure.error, &push->failure, 0, 0);
}

static void on_archive_room(void *arg)
{
    struct sync_push *push = arg;
    if (push->on_room && !push->input_ended)
        push->on_room(push->arg);
}

static struct sync_push *push_new(struct workspace *workspace, const struct principal *principal,
                                  const struct sync_spec *spec, sync_done done, void *arg,
                                  char relative[4096])
{
    struct sync_push *push = calloc(1, sizeof *push);
    struct workspace_status status;
    struct buf destination = {0};
    if (!push)
        abort();
    workspace_describe(workspace, &status);
    *push = (struct sync_push){.supervisor = workspace->supervisor,
                               .principal = *principal,
                               .execution_mode = status.facts.execution_mode,
                               .source_path = text_copy(spec->source_path),
                               .archive = {.loop = workspace->supervisor->loop,
                                           .fd = -1,
                                           .full_at = 1,
                                           .on_room = on_archive_room,
                                           .arg = push},
                               .done = done,
                               .arg = arg};
    memcpy(push->workspace_id, workspace->workspace_id, sizeof push->workspace_id);
    snprintf(push->request_id, sizeof push->request_id, "%s", spec->request_id);
    int error = files_normalize(spec->destination, relative, &push->failure);
    if (error)
        hearth_failure_field(&push->failure, "/dest");
    else if (!workspace_ready(workspace, &push->failure) &&
             buf_printf(&destination, "/workspace%s%s", *relative ? "/" : "", relative) == 0)
        push->destination = buf_steal(&destination);
    if (!push->failure.error)
        workspace_touch(workspace);
    return push;
}

void sync_upload(struct workspace *workspace, const struct principal *principal,
                 const struct sync_spec *spec, sync_done done, void *arg)
{
    char relative[4096];
    struct sync_push *push = push_new(workspace, principal, spec, done, arg, relative);
    if (push->failure.error)
        loop_defer(push->supervisor->loop, failed_early, push);
    else
        seed_apply(workspace->sandbox, principal->tenant->tenant_id, spec->upload_id, relative,
                   NULL, seeded, push);
}

void sync_stream(struct workspace *workspace, const struct principal *principal,
                 const struct sync_spec *spec, void (*on_room)(void *arg), sync_done done,
                 void *arg, struct sync_push **ret_push)
{
    char relative[4096];
    struct sync_push *push = push_new(workspace, principal, spec, done, arg, relative);
    push->streamed = true;
    push->on_room = on_room;
    *ret_push = push;
    if (push->failure.error)
        loop_defer(push->supervisor->loop, failed_early, push);
    else
        push->seeding = seed_stream(workspace->sandbox, relative, &push->archive.fd, seeded, push);
}

/* The archive's end may have been read already, though its stream goes on: so closing the pipe
 * would not do. */
static void give_up(struct sync_push *push, enum hearth_error error, const char *detail)
{
    struct hearth_failure failure;
    hearth_fail(&failure, error, NULL, "%s", detail);
    feed_close(&push->archive);
    if (push->seeding)
        seed_cancel(push->seeding, &failure);
}

bool sync_write(struct sync_push *push, const void *data, size_t length)
{
    int room = feed_write(&push->archive, data, length);
    if (room < 0)
        give_up(push, HEARTH_ENOMEMORY, "out of memory");
    return room != 0;
}

void sync_finish(struct sync_push *push)
{
    push->input_ended = true;
    feed_end(&push->archive);
    maybe_tell(push);
}

void sync_abort(struct sync_push *push)
{
    push->input_ended = true;
    give_up(push, HEARTH_ECANCELLED, "the client went away");
    maybe_tell(push);
}
