#include "supervisord/feed.h"

#include "base/failure.h"

#include <errno.h>
#include <unistd.h>

static void unwatch(struct feed *feed)
{
    if (feed->watching)
        watch_free(&feed->watch);
    feed->watching = false;
}

void feed_close(struct feed *feed)
{
    unwatch(feed);
    cleanup_close(&feed->fd);
    feed->fd = -1;
    buf_free(&feed->waiting);
}

/* As much as there is room for. */
static void flush(struct feed *feed)
{
    while (feed->waiting.length) {
        ssize_t put = write(feed->fd, feed->waiting.data, feed->waiting.length);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            return;
        if (put < 0) {
            feed_close(feed);
            return;
        }
        buf_consume(&feed->waiting, (size_t)put);
    }
    unwatch(feed);
}

static void on_writable(void *arg)
{
    struct feed *feed = arg;
    flush(feed);
    if (feed->waiting.length)
        return;
    if (feed->ending)
        feed_close(feed);
    if (!feed->full)
        return;
    feed->full = false;
    feed->on_room(feed->arg);
}

int feed_write(struct feed *feed, const void *data, size_t length)
{
    if (feed->fd < 0)
        return 1;
    int error = buf_append(&feed->waiting, data, length);
    if (!error && !feed->watching) {
        flush(feed);
        if (feed->waiting.length)
            feed->watching =
                watch_init_writable(&feed->watch, feed->loop, feed->fd, on_writable, feed) == 0;
        error = feed->waiting.length && !feed->watching ? HEARTH_ENOMEMORY : 0;
    }
    if (error) {
        feed_close(feed);
        return HEARTH_ENOMEMORY;
    }
    feed->full = feed->full || feed->waiting.length >= feed->full_at;
    return !feed->full;
}

void feed_end(struct feed *feed)
{
    feed->ending = true;
    if (!feed->waiting.length)
        feed_close(feed);
}
