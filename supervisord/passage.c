#include "supervisord/passage.h"

#include "base/buf.h"
#include "base/failure.h"
#include "base/list.h"
#include "base/socket.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

struct passages {
    struct loop *loop;
    struct event *next_turn; /* at once, where somebody waits for it */
    uint64_t turn;
    size_t left;         /* that may pass in this turn */
    struct list waiting; // side::link: those to read from in the next turns, the first first
};

struct side {
    struct list link; // passages::waiting
    struct passage *passage;
    struct side *other;
    int fd;
    struct event *readable, *writable;
    struct buf waiting; /* from the other side, not yet taken; while there is any nothing is read */
    size_t written;     /* of it */
    bool read_ended, write_ended;
};

struct passage {
    struct passages *passages;
    struct side sides[2];
    passage_ended ended;
    void *arg;
};

static void free_parts(struct passage *passage, bool reset)
{
    for (size_t i = 0; i < 2; i++) {
        struct side *side = &passage->sides[i];
        list_remove(&side->link);
        if (side->readable)
            event_free(side->readable);
        if (side->writable)
            event_free(side->writable);
        if (reset)
            socket_reset(side->fd);
        else
            close(side->fd);
        buf_free(&side->waiting);
    }
    free(passage);
}

/* The owner is told last: it may free what the passage belongs to. */
static void finish(struct passage *passage, int error)
{
    passage_ended ended = passage->ended;
    void *arg = passage->arg;
    free_parts(passage, error != 0);
    ended(arg, error);
}

/* A side is gone. What it said before it broke off is passed on still, as far as it is taken. */
static void side_failed(struct side *side, int error)
{
    uint8_t bytes[PASSAGE_PIECE];
    ssize_t length = side->other->waiting.length ? 0 : 1;
    while (length > 0 && !side->read_ended) {
        length = recv(side->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (length > 0 && socket_write(side->other->fd, bytes, (size_t)length) < length)
            break;
    }
    finish(side->passage, error);
}

/* All that the other side had to say is in this one's socket: its end follows. False: the passage
 * is gone. */
static bool end_writing(struct side *side)
{
    shutdown(side->fd, SHUT_WR);
    side->write_ended = true;
    if (!side->other->write_ended)
        return true;
    finish(side->passage, 0);
    return false;
}

/* What this side does not take at once waits, and no more is read for it until then. */
static void hold(struct side *side, const uint8_t *data, size_t length)
{
    if (buf_append(&side->waiting, data, length)) {
        finish(side->passage, -ENOMEM);
        return;
    }
    event_del(side->other->readable);
    event_add(side->writable, NULL);
}

static size_t left_in_turn(struct passages *passages)
{
    uint64_t turn = loop_turns(passages->loop);
    if (turn != passages->turn)
        passages->left = PASSAGE_TURN_BYTES;
    passages->turn = turn;
    return passages->left;
}

static void spend(struct passages *passages, ssize_t length)
{
    size_t left = left_in_turn(passages), spent = length > 0 ? (size_t)length : 0;
    passages->left = spent < left ? left - spent : 0;
}

static void pass(struct side *side)
{
    struct side *other = side->other;
    uint8_t bytes[PASSAGE_PIECE];
    ssize_t length = recv(side->fd, bytes, sizeof bytes, 0);
    int error = errno;
    spend(side->passage->passages, length);
    if (length < 0) {
        if (error != EAGAIN && error != EINTR)
            side_failed(side, -error);
        return;
    }
    if (length == 0) {
        event_del(side->readable);
        side->read_ended = true;
        end_writing(other);
        return;
    }
    ssize_t written = socket_write(other->fd, bytes, (size_t)length);
    if (written < 0)
        side_failed(other, (int)written);
    else if (written < length)
        hold(other, bytes + written, (size_t)(length - written));
}

static void wait_for_turn(struct passages *passages)
{
    const struct timeval at_once = {0};
    event_add(passages->next_turn, &at_once);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct side *side = arg;
    struct passages *passages = side->passage->passages;
    (void)fd;
    (void)what;
    if (list_empty(&passages->waiting) && left_in_turn(passages)) {
        pass(side);
        return;
    }
    event_del(side->readable);
    list_append(&passages->waiting, &side->link);
    wait_for_turn(passages);
}

static void on_next_turn(evutil_socket_t fd, short what, void *arg)
{
    struct passages *passages = arg;
    (void)fd;
    (void)what;
    while (!list_empty(&passages->waiting) && left_in_turn(passages)) {
        struct side *side = container_of(passages->waiting.next, struct side, link);
        list_remove(&side->link);
        event_add(side->readable, NULL);
        pass(side);
    }
    if (!list_empty(&passages->waiting))
        wait_for_turn(passages);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct side *side = arg;
    (void)fd;
    (void)what;
    ssize_t written = socket_write(side->fd, side->waiting.data + side->written,
                                   side->waiting.length - side->written);
    if (written < 0) {
        side_failed(side, (int)written);
        return;
    }
    spend(side->passage->passages, written);
    side->written += (size_t)written;
    if (side->written < side->waiting.length)
        return;
    buf_free(&side->waiting);
    side->written = 0;
    event_del(side->writable);
    event_add(side->other->readable, NULL);
}

struct passages *passages_new(struct loop *loop)
{
    struct passages *passages = calloc(1, sizeof *passages);
    if (!passages)
        abort();
    passages->loop = loop;
    passages->left = PASSAGE_TURN_BYTES;
    list_init(&passages->waiting);
    passages->next_turn = evtimer_new(loop_base(loop), on_next_turn, passages);
    if (!passages->next_turn)
        abort();
    return passages;
}

void passages_free(struct passages *passages)
{
    if (!passages)
        return;
    event_free(passages->next_turn);
    free(passages);
}

struct passage *passage_new(struct passages *passages, int first_fd, int second_fd,
                            passage_ended ended, void *arg)
{
    const int fds[2] = {first_fd, second_fd}, on = 1;
    bool failed = false;
    struct passage *passage = calloc(1, sizeof *passage);
    if (!passage)
        abort();
    passage->passages = passages;
    passage->ended = ended;
    passage->arg = arg;
    for (size_t i = 0; i < 2; i++) {
        struct side *side = &passage->sides[i];
        *side = (struct side){.passage = passage, .other = &passage->sides[1 - i], .fd = fds[i]};
        list_init(&side->link);
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* where it is TCP */
        side->readable =
            event_new(loop_base(passages->loop), fds[i], EV_READ | EV_PERSIST, on_readable, side);
        side->writable =
            event_new(loop_base(passages->loop), fds[i], EV_WRITE | EV_PERSIST, on_writable, side);
        failed =
            failed || !side->readable || !side->writable || event_add(side->readable, NULL) < 0;
    }
    if (!failed)
        return passage;
    free_parts(passage, true);
    return NULL;
}

void passage_free(struct passage *passage)
{
    if (passage)
        free_parts(passage, true);
}
