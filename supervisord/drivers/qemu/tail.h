/* The last that came out of a stream of text that nobody else keeps: a machine's console, QEMU's
 * own complaints. However much comes, it costs a bounded amount of memory and time: who floods it
 * waits. Loop thread. */
#pragma once

#include "supervisord/loop.h"

#include <stddef.h>

#define TAIL_SIZE ((size_t)16 << 10)

struct tail {
    struct loop *loop;
    int fd; /* -1: none */
    struct watch watch;
    struct timer timer; /* while reading pauses */
    size_t window;      /* bytes read since it began */
    int64_t window_began_us;
    char *data;       /* a ring of TAIL_SIZE; NULL until something came */
    uint64_t written; /* bytes so far */
};

void tail_init(struct tail *tail, struct loop *loop);
/* Takes fd (non-blocking) and reads from it; what was read before is kept. */
int tail_follow(struct tail *tail, int fd);
/* Reads what is there already, then no more. */
void tail_end(struct tail *tail);
void tail_free(struct tail *tail);
/* The last characters that fit, as one line of printable ASCII; "" for none. */
void tail_text(const struct tail *tail, char *out, size_t size);
