#include "supervisord/drivers/qemu/opening.h"

#include "base/buf.h"
#include "base/id.h"
#include "guestagent/preamble.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OFFER_US (250 * US_PER_MS)
#define PAD_AFTER 3 /* offers without an answer */
#define PAD_EVERY 12

struct opening {
    struct loop *loop;
    int fd;
    bool used, ask_only, begun;
    unsigned offers;
    int64_t deadline_us;
    struct watch watch;
    struct timer timer;
    struct preamble_scanner scanner;
    uint8_t nonce[PREAMBLE_NONCE_SIZE];
    struct buf out; /* not yet taken by the kernel */
    opened done;
    void *arg;
};

static void opening_free(void *arg)
{
    struct opening *opening = arg;
    watch_free(&opening->watch);
    timer_free(&opening->timer);
    cleanup_close(&opening->fd);
    buf_free(&opening->out);
    free(opening);
}

static void finish(struct opening *opening, const struct hearth_failure *failure)
{
    opened done = opening->done;
    watch_free(&opening->watch);
    timer_unset(&opening->timer);
    loop_defer(opening->loop, opening_free, opening);
    done(opening->arg, failure ? -1 : steal_fd(&opening->fd), failure);
}

static void fail(struct opening *opening, const char *why)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EUNAVAILABLE, "guest_unreachable", "%s", why);
    finish(opening, &failure);
}

static void flush(struct opening *opening)
{
    while (opening->out.length) {
        ssize_t sent = send(opening->fd, opening->out.data, opening->out.length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0) /* full: the next tick; broken: the watch tells */
            return;
        buf_consume(&opening->out, (size_t)sent);
    }
}

static void say(struct opening *opening, enum preamble_kind kind)
{
    struct preamble preamble = {.kind = kind};
    uint8_t bytes[PREAMBLE_SIZE];
    memcpy(preamble.nonce, opening->nonce, sizeof preamble.nonce);
    preamble_encode(&preamble, bytes);
    (void)buf_append(&opening->out, bytes, sizeof bytes);
    flush(opening);
}

static void pad(struct opening *opening)
{
    static char padding[4096];
    memset(padding, PREAMBLE_PAD, sizeof padding);
    for (size_t i = 0; i < PREAMBLE_PADDING / sizeof padding; i++)
        (void)buf_append(&opening->out, padding, sizeof padding);
}

static void on_tick(void *arg)
{
    struct opening *opening = arg;
    int64_t now = clock_monotonic_us();
    if (now >= opening->deadline_us) {
        fail(opening, "the agent did not answer in time");
        return;
    }
    if (opening->out.length) {
        flush(opening);
    } else if (!opening->begun) {
        if (opening->used && opening->offers % PAD_EVERY == PAD_AFTER)
            pad(opening);
        opening->offers++;
        say(opening, PREAMBLE_OFFER);
    }
    int64_t next = now + OFFER_US;
    timer_set(&opening->timer, next < opening->deadline_us ? next : opening->deadline_us);
}

/* True where that was the end. */
static bool take(struct opening *opening, const struct preamble *preamble)
{
    if (memcmp(preamble->nonce, opening->nonce, sizeof opening->nonce) != 0)
        return false;
    if (preamble->kind == PREAMBLE_ACCEPT && opening->ask_only) {
        finish(opening, NULL);
        return true;
    }
    if (preamble->kind == PREAMBLE_ACCEPT && !opening->begun) {
        opening->begun = true;
        say(opening, PREAMBLE_BEGIN);
    }
    if (preamble->kind != PREAMBLE_BEGUN || !opening->begun)
        return false;
    finish(opening, NULL);
    return true;
}

static void on_readable(void *arg)
{
    struct opening *opening = arg;
    for (int i = 0; i < 4096; i++) { /* then the loop has its turn */
        uint8_t bytes[PREAMBLE_SIZE];
        struct preamble preamble;
        ssize_t length =
            recv(opening->fd, bytes, preamble_scanner_wants(&opening->scanner), MSG_DONTWAIT);
        if (length < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (length <= 0) {
            fail(opening, "the machine closed the connection");
            return;
        }
        if (preamble_scanner_feed(&opening->scanner, bytes, (size_t)length, &preamble) &&
            take(opening, &preamble))
            return;
    }
}

struct opening *opening_begin(struct loop *loop, int fd, bool used, bool ask_only,
                              int64_t deadline_us, opened done, void *arg)
{
    struct opening *opening = calloc(1, sizeof *opening);
    if (!opening) {
        close(fd);
        return NULL;
    }
    *opening = (struct opening){.loop = loop,
                                .fd = fd,
                                .used = used,
                                .ask_only = ask_only,
                                .deadline_us = deadline_us,
                                .done = done,
                                .arg = arg};
    id_random_bytes(opening->nonce, sizeof opening->nonce);
    timer_init(&opening->timer, loop, on_tick, opening);
    if (watch_init(&opening->watch, loop, fd, on_readable, opening)) {
        opening_free(opening);
        return NULL;
    }
    timer_set(&opening->timer, clock_monotonic_us());
    return opening;
}

void opening_cancel(struct opening *opening)
{
    watch_free(&opening->watch);
    timer_unset(&opening->timer);
    loop_defer(opening->loop, opening_free, opening);
}
