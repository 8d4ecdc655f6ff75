#include "guestagent/link_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define SMALL_PIECE ((size_t)4 << 10) /* cheaper to copy than to name in an iovec */
#define SMALL_RUN ((size_t)16 << 10)  /* of small messages in one DATA frame */
#define SCRATCH ((size_t)48 << 10)
#define PARTS 64
#define OUTPUT_MAX ((size_t)512 << 10) /* of one system call */
#define TURN_MAX ((size_t)2 << 20)     /* of one turn of the loop */

/* One writev in the making, or what is left of it: large pieces of messages stay where they are. */
struct output {
    struct iovec parts[PARTS];
    int part_count;
    int next; /* the first part that is not written whole */
    bool full, secret;
    size_t total, scratch_used;
    uint8_t scratch[SCRATCH];
};

static void output_clear(struct output *output)
{
    if (output->secret)
        explicit_bzero(output->scratch, output->scratch_used);
    output->part_count = output->next = 0;
    output->full = output->secret = false;
    output->total = output->scratch_used = 0;
}

struct output *output_new(void)
{
    struct output *output = malloc(sizeof *output);
    if (!output)
        return NULL;
    output->secret = false;
    output_clear(output);
    return output;
}

void output_free(struct output *output)
{
    if (output)
        output_clear(output);
    free(output);
}

bool output_is_empty(const struct output *output)
{
    return output->total == 0;
}

static void output_reference(struct output *output, const void *data, size_t length)
{
    output->total += length;
    if (output->part_count > 0) {
        struct iovec *last = &output->parts[output->part_count - 1];
        if ((const uint8_t *)last->iov_base + last->iov_len == data) {
            last->iov_len += length;
            return;
        }
    }
    output->parts[output->part_count++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = length};
}

static void output_copy(struct output *output, const void *data, size_t length)
{
    uint8_t *place = output->scratch + output->scratch_used;
    memcpy(place, data, length);
    output->scratch_used += length;
    output_reference(output, place, length);
}

/* For one DATA frame of at most SMALL_RUN copied bytes, and one part more for another frame. */
static bool output_has_room(const struct output *output)
{
    return output->part_count + 3 <= PARTS &&
           output->scratch_used + LINK_FRAME_HEADER + SMALL_RUN <= SCRATCH &&
           output->total < OUTPUT_MAX;
}

struct chunk *chunk_new(size_t length)
{
    struct chunk *chunk = malloc(sizeof *chunk + length);
    if (!chunk)
        return NULL;
    list_init(&chunk->siblings);
    chunk->length = length;
    chunk->sent = 0;
    chunk->secret = false;
    return chunk;
}

void message_chunk_set(struct chunk *chunk, size_t length)
{
    chunk->length = MESSAGE_PREFIX + length;
    chunk->data[0] = 0;
    for (int i = 0; i < 4; i++)
        chunk->data[1 + i] = (uint8_t)(length >> (24 - 8 * i));
}

struct chunk *message_chunk(size_t length)
{
    struct chunk *chunk = chunk_new(MESSAGE_PREFIX + length);
    if (chunk)
        message_chunk_set(chunk, length);
    return chunk;
}

void chunk_free(struct chunk *chunk)
{
    if (chunk->secret)
        explicit_bzero(chunk->data, chunk->length);
    free(chunk);
}

void chunk_list_free(struct list *chunks)
{
    list_for_each(cursor, following, chunks)
        chunk_free(container_of(cursor, struct chunk, siblings));
    list_init(chunks);
}

/* How much of what is queued goes into the next DATA frame of at most limit bytes: a part of one
 * large message or a run of small ones. */
static size_t next_frame_length(const struct link_call *call, size_t limit)
{
    size_t length = 0;
    list_for_each(cursor, following, &call->out)
    {
        const struct chunk *chunk = container_of(cursor, struct chunk, siblings);
        size_t rest = chunk->length - chunk->sent;
        if (length > 0 && (rest >= SMALL_PIECE || length + rest > SMALL_RUN))
            break;
        length += rest;
        if (rest >= SMALL_PIECE || length >= limit)
            break;
    }
    return length < limit ? length : limit;
}

/* nghttp2 makes its frame buffer as large as what this says: no larger than needed. */
ssize_t link_read_length(nghttp2_session *session, uint8_t type, int32_t stream_id,
                         int32_t session_window, int32_t stream_window, uint32_t frame_max,
                         void *user_data)
{
    const struct link_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    size_t limit = frame_max < LINK_FRAME_MAX ? frame_max : LINK_FRAME_MAX;
    size_t length = call ? next_frame_length(call, limit) : 0;
    return length ? (ssize_t)length : 1;
}

static ssize_t read_data(nghttp2_session *session, int32_t stream_id, uint8_t *buffer,
                         size_t length, uint32_t *flags, nghttp2_data_source *source,
                         void *user_data)
{
    struct link_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t frame = next_frame_length(call, length);
    if (frame == 0 && !call->local_closed) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (frame == call->queued && call->local_closed) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (call->link->is_server) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(call);
        }
    }
    return (ssize_t)frame;
}

nghttp2_data_provider link_data_provider(void)
{
    return (nghttp2_data_provider){.read_callback = read_data};
}

/* Beside the frame's data where they can be: a device makes a write of its own of each part. */
static void add_header(struct output *output, struct chunk *first, const uint8_t *header,
                       size_t length)
{
    if (length < SMALL_PIECE || first->sent || first->length < SMALL_PIECE) {
        output_copy(output, header, LINK_FRAME_HEADER);
        return;
    }
    memcpy(first->head, header, LINK_FRAME_HEADER);
    output_reference(output, first->head, LINK_FRAME_HEADER);
}

int link_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                   size_t length, nghttp2_data_source *source, void *user_data)
{
    struct link *link = user_data;
    struct link_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    /* The call may have ended, its queue dropped, since a full output put this frame off. */
    if (!call || call->queued < length)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    struct output *output = link->output;
    if (!output_has_room(output)) {
        output->full = true;
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    add_header(output, container_of(call->out.next, struct chunk, siblings), header, length);
    while (length > 0) {
        struct chunk *chunk = container_of(call->out.next, struct chunk, siblings);
        size_t part = chunk->length - chunk->sent;
        if (part > length)
            part = length;
        output->secret = output->secret || chunk->secret;
        if (part < SMALL_PIECE)
            output_copy(output, chunk->data + chunk->sent, part);
        else
            output_reference(output, chunk->data + chunk->sent, part);
        chunk->sent += part;
        call->queued -= part;
        length -= part;
        if (chunk->sent == chunk->length) {
            list_remove(&chunk->siblings);
            list_append(&link->spent, &chunk->siblings);
        }
    }
    if (call->above_low_water && call->queued < LINK_SEND_LOW_WATER)
        call_make_ready(call);
    return 0;
}

/* Asks nghttp2 for frames until there is nothing, or enough for one system call. */
static void collect(struct link *link)
{
    struct output *output = link->output;
    while (!output->full && output_has_room(output)) {
        const uint8_t *data;
        ssize_t length = nghttp2_session_mem_send(link->session, &data);
        if (length <= 0) {
            if (length < 0)
                link_check(link, (int)length);
            break;
        }
        if (output->scratch_used + (size_t)length <= SCRATCH) {
            output_copy(output, data, (size_t)length);
        } else {
            output_reference(output, data, (size_t)length);
            output->full = true; /* nghttp2's bytes are good until it is asked again. */
        }
    }
}

/* Gives what the kernel took, 0 where it takes nothing now, -1 where the link is broken. */
static ssize_t write_parts(struct link *link, struct iovec *parts, int count)
{
    ssize_t written;
    do {
        /* A device has no MSG_NOSIGNAL, and raises no SIGPIPE either. */
        const struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        written = link->is_socket ? sendmsg(link->fd, &message, MSG_NOSIGNAL)
                                  : writev(link->fd, parts, count);
    } while (written < 0 && errno == EINTR);
    if (written >= 0)
        return written;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return 0;
    link_break(link, "cannot write to the peer", errno);
    return -1;
}

static void output_skip(struct output *output, size_t written)
{
    while (written > 0) {
        struct iovec *part = &output->parts[output->next];
        size_t length = written < part->iov_len ? written : part->iov_len;
        part->iov_base = (char *)part->iov_base + length;
        part->iov_len -= length;
        written -= length;
        if (part->iov_len == 0)
            output->next++;
    }
}

/* False where the kernel took nothing more: the rest waits as it is. */
static bool write_output(struct link *link)
{
    struct output *output = link->output;
    while (output->next < output->part_count) {
        ssize_t written =
            write_parts(link, output->parts + output->next, output->part_count - output->next);
        if (written <= 0)
            return false;
        output_skip(output, (size_t)written);
        /* A device takes little at a time, and more at once; a socket that took a part is full. */
        if (link->is_socket && output->next < output->part_count)
            return false;
    }
    output_clear(output);
    chunk_list_free(&link->spent);
    return true;
}

void link_flush(struct link *link)
{
    size_t turn = 0;
    if (link->freed)
        return;
    /* The kernel is full: it says when it is not, and is not asked before. */
    bool full = !output_is_empty(link->output) && event_pending(link->write_event, EV_WRITE, NULL);
    while (!full && !link->broken && !link->freed) {
        if (!write_output(link) || turn >= TURN_MAX) {
            event_add(link->write_event, NULL);
            break;
        }
        collect(link);
        if (output_is_empty(link->output))
            break;
        turn += link->output->total;
    }
    if (link->broken || link->freed)
        return;
    if (nghttp2_session_get_outbound_queue_size(link->session) > LINK_OUTBOUND_MAX)
        link_break(link, "the peer asks and reads nothing", 0);
    else if (!nghttp2_session_want_read(link->session) &&
             !nghttp2_session_want_write(link->session) && output_is_empty(link->output))
        link_break(link, "the HTTP/2 session is over", 0);
}
