/* What is kept of one output stream: its first bytes (head) and its last (tail), with exact
 * offsets. Memory grows with what was written, up to head + tail bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    uint64_t head_limit, tail_limit;
    uint64_t total; /* bytes written so far */
    char *head;
    size_t head_length, head_capacity;
    char *tail; /* circular, tail_capacity bytes, of the bytes after the head */
    size_t tail_capacity, tail_start, tail_length;
};

struct ring_segment {
    uint64_t offset;
    const char *data;
    size_t length;
};
#define RING_SEGMENTS_MAX 3

void ring_init(struct ring *ring, uint64_t head_limit, uint64_t tail_limit);
void ring_free(struct ring *ring);
/* Never fails: where memory is short less is kept, and the offsets stay right. */
void ring_append(struct ring *ring, const char *data, size_t length);
/* The same as a redact_sink. */
void ring_sink(void *ring, const char *data, size_t length);
/* What is kept from offset on, at most max bytes, in order. Gives how many segments; *ret_next is
 * the offset after them (where nothing more is kept: total). */
unsigned ring_read(const struct ring *ring, uint64_t offset, uint64_t max,
                   struct ring_segment out[RING_SEGMENTS_MAX], uint64_t *ret_next);
/* Bytes of memory held. */
size_t ring_memory(const struct ring *ring);
