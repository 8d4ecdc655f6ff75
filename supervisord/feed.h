/* A pipe that a child reads, given as fast as it takes: what it has not taken waits here. A child
 * that reads no more is no failure of the feed's: it tells why by its own end, and what is written
 * then is dropped. Loop thread. */
#pragma once

#include "base/buf.h"
#include "supervisord/loop.h"

#include <stdbool.h>

/* Set loop, fd, full_at, on_room and arg; the rest is the feed's. */
struct feed {
    struct loop *loop;
    int fd;         /* owned, does not block; -1: closed */
    size_t full_at; /* bytes that wait: from here on there is no room until none does */
    void (*on_room)(void *arg);
    void *arg;
    struct buf waiting;
    struct watch watch;
    bool watching, full, ending;
};

/* Gives 1 where there is room for more and 0 where on_room is to be awaited; HEARTH_ENOMEMORY, and
 * the feed is closed. */
int feed_write(struct feed *feed, const void *data, size_t length);
/* Closes it once all is taken. */
void feed_end(struct feed *feed);
/* At once; what waits is dropped. */
void feed_close(struct feed *feed);
