#include "agent.pb-c.h"
#include "base/buf.h"
#include "supervisord/supervisor_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRAME_MAX ((size_t)1 << 20)
#define READ_SIZE ((size_t)64 << 10)

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
    struct hearth_failure failure; /* the first */
    uint64_t entry_count, bytes_written;
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
    if (!seeding->child_ended || !seeding->call_ended)
        return;
    watch_pipe(seeding, false);
    if (seeding->fd >= 0)
        close(seeding->fd);
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
    /* Closing the pipe ends the child; cancelling ends the call. Both report. */
    watch_pipe(seeding, false);
    if (seeding->fd >= 0)
        close(steal_fd(&seeding->fd));
    if (seeding->call)
        link_call_cancel(seeding->call);
}

/* The child's end says that the archive was whole, the pipe's end that all of it has been passed
 * on. */
static void maybe_finish(struct seeding *seeding)
{
    if (seeding->child_ended && seeding->fd < 0 && seeding->call && !seeding->failure.error)
        link_call_finish(seeding->call);
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
    } else if (seeding->call && link_call_queued(seeding->call) > LINK_SEND_LOW_WATER) {
        watch_pipe(seeding, false);
    }
}

static void on_writable(struct link_call *call, void *arg)
{
    (void)call;
    watch_pipe(arg, true);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    (void)call;
    struct seeding *seeding = arg;
    Hearth__Agent__V1__TreeApplyReply *reply =
        hearth__agent__v1__tree_apply_reply__unpack(NULL, length, data);
    if (!reply)
        return;
    seeding->replied = true;
    seeding->entry_count = reply->entry_count;
    seeding->bytes_written = reply->bytes_written;
    hearth__agent__v1__tree_apply_reply__free_unpacked(reply, NULL);
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
            link_status_failure(status, message, &failure);
        fail(seeding, &failure);
    }
    maybe_end(seeding);
}

static const struct link_call_events events = {
    .on_message = on_message, .on_writable = on_writable, .on_end = on_end};

static void archive_done(void *arg, int error, const struct hearth_failure *failure)
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

static int begin(struct seeding *seeding, struct sandbox *sandbox, const char *tenant_id,
                 const char *upload_id, const char *destination)
{
    struct supervisor *supervisor = sandbox->supervisor;
    const struct upload *upload = upload_find(supervisor->uploads, tenant_id, upload_id);
    if (!upload) {
        int error = hearth_fail(&seeding->failure, HEARTH_ENOTFOUND, "upload_not_found",
                                "there is no such upload");
        hearth_failure_hint(&seeding->failure,
                            "Uploads are kept for an hour after their last use; send it again.");
        return error;
    }
    if (!sandbox->link.link)
        return hearth_fail(&seeding->failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                           "the link to the guest is down");
    int error = upload_open_tree(supervisor->uploads, upload, &seeding->fd, archive_done, seeding,
                                 &seeding->failure);
    if (error)
        return error;
    fcntl(seeding->fd, F_SETFL, fcntl(seeding->fd, F_GETFL) | O_NONBLOCK);
    return 0;
}

void seed_apply(struct sandbox *sandbox, const char *tenant_id, const char *upload_id,
                const char *destination, seed_done done, void *arg)
{
    struct seeding *seeding = calloc(1, sizeof *seeding);
    if (!seeding)
        abort();
    *seeding =
        (struct seeding){.loop = sandbox->supervisor->loop, .fd = -1, .done = done, .arg = arg};
    if (begin(seeding, sandbox, tenant_id, upload_id, destination)) {
        loop_defer(seeding->loop, failed_early, seeding);
        return;
    }
    struct hearth_failure failure;
    Hearth__Agent__V1__TreeItem first = HEARTH__AGENT__V1__TREE_ITEM__INIT;
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
