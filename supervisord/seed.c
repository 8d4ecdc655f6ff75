#include "agent.pb-c.h"
#include "base/buf.h"
#include "guestagent/unpack.h"
#include "supervisord/archive_child.h"
#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/ingest.h"
#include "supervisord/upload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRAME_MAX ((size_t)1 << 20)
#define READ_SIZE ((size_t)256 << 10)
#define ARCHIVE_PIPE_SIZE (256 << 10)

/* Frames of a checked archive on their way from the sandboxed child (a pipe) to the agent (a client
 * stream). The frames are not looked into here: the child has checked them and the agent checks
 * them again. */
struct seeding {
    struct loop *loop;
    struct link_call *call; /* NULL once it has ended */
    int fd;                 /* -1 once at its end */
    struct watch watch;
    bool watching;
    struct buf pending; /* less than one frame */
    bool child_ended, replied, call_ended;
    bool held;                     /* somebody still looks at it: it ends later */
    struct hearth_failure failure; /* the first */
    uint64_t entry_count, bytes_written;
    struct ingest *ingest; /* takes the same frames; NULL: nobody does, or it has had them all */
    bool ingest_full;
    seed_done done;
    void *arg;
};

static void on_readable(void *arg);

static void watch_pipe(struct seeding *seeding, bool on)
{
    if (on && !seeding->watching && seeding->fd >= 0)
        seeding->watching =
            watch_init(&seeding->watch, seeding->loop, seeding->fd, on_readable, seeding) == 0;
    else if (!on && seeding->watching) {
        watch_free(&seeding->watch);
        seeding->watching = false;
    }
}

static void maybe_end(struct seeding *seeding)
{
    if (!seeding->child_ended || !seeding->call_ended || seeding->held)
        return;
    watch_pipe(seeding, false);
    if (seeding->fd >= 0)
        close(seeding->fd);
    if (seeding->ingest)
        ingest_end(seeding->ingest, false);
    seed_done done = seeding->done;
    void *arg = seeding->arg;
    struct hearth_failure failure = seeding->failure;
    uint64_t entries = seeding->entry_count, bytes = seeding->bytes_written;
    buf_free(&seeding->pending);
    free(seeding);
    done(arg, (int)failure.error, &failure, entries, bytes);
}

static void fail(struct seeding *seeding, const struct hearth_failure *failure)
{
    if (!seeding->failure.error)
        seeding->failure = *failure;
    /* Closing the pipe ends the child; cancelling ends the call, before it returns. Both report. */
    watch_pipe(seeding, false);
    if (seeding->fd >= 0)
        close(steal_fd(&seeding->fd));
    bool held = seeding->held;
    seeding->held = true;
    if (seeding->call)
        link_call_cancel(seeding->call);
    seeding->held = held;
}

/* The child's end says that the archive was whole, the pipe's end that all of it has been passed
 * on. */
static void maybe_finish(struct seeding *seeding)
{
    if (!seeding->child_ended || seeding->fd >= 0 || !seeding->call || seeding->failure.error)
        return;
    link_call_finish(seeding->call);
    struct ingest *ingest = steal_pointer(seeding->ingest);
    if (ingest)
        ingest_end(ingest, true);
}

static int pass_frames(struct seeding *seeding)
{
    size_t at = 0;
    uint32_t length;
    while (seeding->pending.length - at >= sizeof length) {
        memcpy(&length, seeding->pending.data + at, sizeof length);
        length = ntohl(length);
        if (length > FRAME_MAX)
            return HEARTH_EINTERNAL;
        if (seeding->pending.length - at - sizeof length < length)
            break;
        int error = seeding->call
                        ? link_call_send_bytes(seeding->call,
                                               seeding->pending.data + at + sizeof length, length)
                        : 0;
        if (error)
            return error;
        if (seeding->ingest)
            seeding->ingest_full =
                !ingest_feed(seeding->ingest, seeding->pending.data + at + sizeof length, length);
        at += sizeof length + length;
    }
    buf_consume(&seeding->pending, at);
    return 0;
}

static void on_readable(void *arg)
{
    struct seeding *seeding = arg;
    struct hearth_failure failure;
    if (buf_reserve(&seeding->pending, READ_SIZE)) {
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        fail(seeding, &failure);
        maybe_end(seeding);
        return;
    }
    ssize_t got = read(seeding->fd, seeding->pending.data + seeding->pending.length, READ_SIZE);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        watch_pipe(seeding, false);
        close(steal_fd(&seeding->fd));
        maybe_finish(seeding);
        return;
    }
    seeding->pending.length += (size_t)got;
    int error = pass_frames(seeding);
    if (error) {
        hearth_fail(&failure, (enum hearth_error)error, "seed_failed",
                    "the archive could not be passed on");
        fail(seeding, &failure);
        maybe_end(seeding);
    } else if ((seeding->call && link_call_queued(seeding->call) > LINK_SEND_LOW_WATER) ||
               seeding->ingest_full) {
        watch_pipe(seeding, false);
    }
}

static void go_on(struct seeding *seeding)
{
    if (seeding->call && !seeding->ingest_full &&
        link_call_queued(seeding->call) <= LINK_SEND_LOW_WATER)
        watch_pipe(seeding, true);
}

static void on_room(void *arg)
{
    struct seeding *seeding = arg;
    seeding->ingest_full = false;
    go_on(seeding);
}

static void on_writable(struct link_call *call, void *arg)
{
    (void)call;
    go_on(arg);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    (void)call;
    struct seeding *seeding = arg;
    Hearth__Agent__V1__TreeApplyReply *reply =
        unpack_bounded(&hearth__agent__v1__tree_apply_reply__descriptor, length, data);
    if (!reply)
        return;
    seeding->replied = true;
    seeding->entry_count = reply->entry_count;
    seeding->bytes_written = reply->bytes_written;
    hearth__agent__v1__tree_apply_reply__free_unpacked(reply, NULL);
}

/* What the agent's status means for an archive; its message names the member. */
static void refused(enum link_status status, const char *message, struct hearth_failure *failure)
{
    link_status_failure(status, message, failure);
    if (status == LINK_STATUS_PERMISSION_DENIED || status == LINK_STATUS_FAILED_PRECONDITION ||
        status == LINK_STATUS_INVALID_ARGUMENT) {
        hearth_fail(failure, HEARTH_EINVALID, "archive_refused", "%s",
                    message && *message ? message : "the archive cannot be put there");
        hearth_failure_hint(failure, "Nothing of it was applied: leave out what the detail names, "
                                     "or put it into another directory (dest).");
    } else if (status == LINK_STATUS_RESOURCE_EXHAUSTED)
        hearth_fail(failure, HEARTH_ENOSPACE, "guest_full", "%s",
                    message && *message ? message : "the guest's disk is full");
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    (void)call;
    struct seeding *seeding = arg;
    struct hearth_failure failure;
    seeding->call = NULL;
    seeding->call_ended = true;
    if (status != LINK_STATUS_OK || !seeding->replied) {
        if (status == LINK_STATUS_OK)
            hearth_fail(&failure, HEARTH_EUNAVAILABLE, "agent_broken", "the agent gave no answer");
        else
            refused(status, message, &failure);
        fail(seeding, &failure);
    }
    maybe_end(seeding);
}

static const struct link_call_events events = {
    .on_message = on_message, .on_writable = on_writable, .on_end = on_end};

static void archive_ended(void *arg, int error, const struct hearth_failure *failure)
{
    struct seeding *seeding = arg;
    seeding->child_ended = true;
    if (error)
        fail(seeding, failure);
    else
        maybe_finish(seeding);
    maybe_end(seeding);
}

static void failed_early(void *arg)
{
    struct seeding *seeding = arg;
    seeding->child_ended = seeding->call_ended = true;
    maybe_end(seeding);
}

static int open_upload(struct seeding *seeding, struct sandbox *sandbox, const char *tenant_id,
                       const char *upload_id)
{
    struct uploads *uploads = sandbox->supervisor->uploads;
    const struct upload *upload = upload_find(uploads, tenant_id, upload_id);
    if (upload)
        return upload_open_tree(uploads, upload, &seeding->fd, archive_ended, seeding,
                                &seeding->failure);
    int error = hearth_fail(&seeding->failure, HEARTH_ENOTFOUND, "upload_not_found",
                            "there is no such upload");
    hearth_failure_hint(&seeding->failure,
                        "Uploads are kept for an hour after their last use; send it again.");
    return error;
}

static struct seeding *seeding_new(struct sandbox *sandbox, seed_done done, void *arg)
{
    struct seeding *seeding = calloc(1, sizeof *seeding);
    if (!seeding)
        abort();
    *seeding =
        (struct seeding){.loop = sandbox->supervisor->loop, .fd = -1, .done = done, .arg = arg};
    return seeding;
}

/* The child gives frames on seeding->fd: has them applied. */
static void begin(struct seeding *seeding, struct sandbox *sandbox, const char *destination)
{
    struct hearth_failure failure;
    Hearth__Agent__V1__TreeItem first = HEARTH__AGENT__V1__TREE_ITEM__INIT;
    fcntl(seeding->fd, F_SETFL, fcntl(seeding->fd, F_GETFL) | O_NONBLOCK);
    first.destination = (char *)(uintptr_t)destination;
    if (link_call_start(&seeding->call, sandbox->link.link, AGENT_SERVICE "TreeApply", 0, &events,
                        seeding, &failure)) {
        seeding->call = NULL;
        seeding->call_ended = true;
        fail(seeding, &failure); /* the child's end follows */
        return;
    }
    if (link_call_send(seeding->call, &first.base)) {
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        fail(seeding, &failure);
        return;
    }
    watch_pipe(seeding, true);
}

static int check_link(struct seeding *seeding, struct sandbox *sandbox)
{
    return sandbox->link.link ? 0
                              : hearth_fail(&seeding->failure, HEARTH_EUNAVAILABLE,
                                            "agent_unreachable", "the link to the guest is down");
}

void seed_apply(struct sandbox *sandbox, const char *tenant_id, const char *upload_id,
                const char *destination, struct ingest *ingest, seed_done done, void *arg)
{
    struct seeding *seeding = seeding_new(sandbox, done, arg);
    seeding->ingest = ingest;
    if (ingest)
        ingest_on_room(ingest, on_room, seeding);
    if (check_link(seeding, sandbox) || open_upload(seeding, sandbox, tenant_id, upload_id))
        loop_defer(seeding->loop, failed_early, seeding);
    else
        begin(seeding, sandbox, destination);
}

static void stream_read(void *arg, int error, const struct hearth_failure *failure,
                        const struct archive_verdict *verdict)
{
    (void)verdict;
    archive_ended(arg, error, failure);
}

/* Both ends of a pipe whose other side is the child's. */
static int start_stream(struct seeding *seeding, struct sandbox *sandbox, int *ret_archive_fd)
{
    const struct config *config = sandbox->supervisor->config;
    struct archive_limits limits = {.max_entries = config->max_upload_entries,
                                    .max_bytes = config->max_upload_content_bytes};
    int archive[2], frames[2];
    if (pipe2(archive, O_CLOEXEC) < 0)
        return hearth_fail_errno(&seeding->failure, errno, "seed_failed", "cannot make a pipe");
    auto_close int archive_out = archive[0], archive_in = archive[1];
    if (pipe2(frames, O_CLOEXEC) < 0)
        return hearth_fail_errno(&seeding->failure, errno, "seed_failed", "cannot make a pipe");
    auto_close int frames_out = frames[0], frames_in = frames[1];
    int error = archive_child_start(NULL, seeding->loop, archive_out, frames_in, &limits,
                                    stream_read, seeding, &seeding->failure);
    if (error)
        return error;
    fcntl(archive_in, F_SETPIPE_SZ, ARCHIVE_PIPE_SIZE);
    fcntl(frames_out, F_SETPIPE_SZ, ARCHIVE_PIPE_SIZE);
    fcntl(archive_in, F_SETFL, fcntl(archive_in, F_GETFL) | O_NONBLOCK);
    *ret_archive_fd = steal_fd(&archive_in);
    seeding->fd = steal_fd(&frames_out);
    return 0;
}

struct seeding *seed_stream(struct sandbox *sandbox, const char *destination, int *ret_archive_fd,
                            seed_done done, void *arg)
{
    struct seeding *seeding = seeding_new(sandbox, done, arg);
    *ret_archive_fd = -1;
    if (check_link(seeding, sandbox) || start_stream(seeding, sandbox, ret_archive_fd))
        loop_defer(seeding->loop, failed_early, seeding);
    else
        begin(seeding, sandbox, destination);
    return seeding;
}

static void cancelled(void *arg)
{
    struct seeding *seeding = arg;
    seeding->held = false;
    maybe_end(seeding);
}

const char *seed_mode(const char *source_path)
{
    static const char *const ends[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"};
    size_t length = source_path ? strlen(source_path) : 0;
    bool archive = !length;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t end = strlen(ends[i]);
        archive |= length > end && strcmp(source_path + length - end, ends[i]) == 0;
    }
    return archive ? "tar_archive" : "directory";
}

void seed_cancel(struct seeding *seeding, const struct hearth_failure *failure)
{
    if (seeding->held)
        return; /* it has been cancelled */
    seeding->held = true;
    fail(seeding, failure);
    loop_defer(seeding->loop, cancelled, seeding);
}
