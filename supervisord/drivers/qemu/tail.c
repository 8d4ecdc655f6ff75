#include "supervisord/drivers/qemu/tail.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE 4096
#define WINDOW_US (100 * US_PER_MS)
#define WINDOW_BYTES ((size_t)64 << 10) /* read in one window, then the writer waits */

static void on_readable(void *arg);

static void keep(struct tail *tail, const char *data, size_t length)
{
    if (!tail->data)
        tail->data = malloc(TAIL_SIZE);
    for (size_t i = 0; tail->data && i < length; i++)
        tail->data[tail->written++ % TAIL_SIZE] = data[i];
}

static void drop(struct tail *tail)
{
    watch_free(&tail->watch);
    timer_unset(&tail->timer);
    if (tail->fd >= 0)
        close(tail->fd);
    tail->fd = -1;
}

static bool read_piece(struct tail *tail)
{
    char data[PIECE];
    ssize_t length = read(tail->fd, data, sizeof data);
    if (length > 0) {
        keep(tail, data, (size_t)length);
        tail->window += (size_t)length;
        return true;
    }
    if (length == 0 || (errno != EAGAIN && errno != EINTR))
        drop(tail);
    return false;
}

static void go_on(void *arg)
{
    struct tail *tail = arg;
    tail->window = 0;
    if (watch_init(&tail->watch, tail->loop, tail->fd, on_readable, tail))
        drop(tail);
}

static void on_readable(void *arg)
{
    struct tail *tail = arg;
    int64_t now = clock_monotonic_us();
    if (now - tail->window_began_us > WINDOW_US) {
        tail->window_began_us = now;
        tail->window = 0;
    }
    if (read_piece(tail) && tail->window > WINDOW_BYTES) {
        watch_free(&tail->watch);
        timer_set(&tail->timer, tail->window_began_us + WINDOW_US);
    }
}

void tail_init(struct tail *tail, struct loop *loop)
{
    *tail = (struct tail){.loop = loop, .fd = -1};
    timer_init(&tail->timer, loop, go_on, tail);
}

int tail_follow(struct tail *tail, int fd)
{
    drop(tail);
    tail->fd = fd;
    if (watch_init(&tail->watch, tail->loop, fd, on_readable, tail) == 0)
        return 0;
    drop(tail);
    return HEARTH_ENOMEMORY;
}

void tail_end(struct tail *tail)
{
    for (size_t i = 0; tail->fd >= 0 && i < TAIL_SIZE / PIECE && read_piece(tail); i++)
        continue;
    drop(tail);
}

void tail_free(struct tail *tail)
{
    drop(tail);
    timer_free(&tail->timer);
    free(tail->data);
    tail->data = NULL;
}

void tail_text(const struct tail *tail, char *out, size_t size)
{
    size_t have = tail->written < TAIL_SIZE ? (size_t)tail->written : TAIL_SIZE;
    size_t length = 0;
    uint64_t from = tail->written - (have < size - 1 ? have : size - 1);
    for (uint64_t at = from; tail->data && at < tail->written; at++) {
        char character = tail->data[at % TAIL_SIZE];
        bool blank = character == ' ' || character == '\n' || character == '\r';
        if (blank && (!length || out[length - 1] == ' '))
            continue;
        out[length++] = blank ? ' ' : character < 0x21 || character > 0x7e ? '?' : character;
    }
    while (length && out[length - 1] == ' ')
        length--;
    out[length] = '\0';
}
