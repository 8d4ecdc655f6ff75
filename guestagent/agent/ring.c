#include "guestagent/agent/ring.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY ((size_t)4096)

void ring_init(struct ring *ring, uint64_t head_limit, uint64_t tail_limit)
{
    *ring = (struct ring){.head_limit = head_limit, .tail_limit = tail_limit};
}

void ring_free(struct ring *ring)
{
    free(ring->head);
    free(ring->tail);
    *ring = (struct ring){0};
}

static size_t append_head(struct ring *ring, const char *data, size_t length)
{
    size_t room = (size_t)ring->head_limit - ring->head_length;
    /* A head that could not grow once stays closed: what follows is not contiguous with it. */
    if (ring->total != ring->head_length || !room)
        return 0;
    if (length > room)
        length = room;
    if (ring->head_length + length > ring->head_capacity) {
        size_t capacity = ring->head_capacity ? ring->head_capacity : FIRST_CAPACITY;
        while (capacity < ring->head_length + length)
            capacity *= 2;
        if (capacity > ring->head_limit)
            capacity = (size_t)ring->head_limit;
        char *head = realloc(ring->head, capacity);
        if (!head)
            return 0;
        ring->head = head;
        ring->head_capacity = capacity;
    }
    memcpy(ring->head + ring->head_length, data, length);
    ring->head_length += length;
    return length;
}

static void grow_tail(struct ring *ring, size_t need)
{
    size_t capacity = ring->tail_capacity ? ring->tail_capacity : FIRST_CAPACITY;
    while (capacity < need)
        capacity *= 2;
    if (capacity > ring->tail_limit)
        capacity = (size_t)ring->tail_limit;
    if (capacity <= ring->tail_capacity)
        return;
    char *tail = malloc(capacity);
    if (!tail)
        return;
    size_t first = ring->tail_capacity - ring->tail_start;
    if (first > ring->tail_length)
        first = ring->tail_length;
    if (ring->tail_length) {
        memcpy(tail, ring->tail + ring->tail_start, first);
        memcpy(tail + first, ring->tail, ring->tail_length - first);
    }
    free(ring->tail);
    ring->tail = tail;
    ring->tail_capacity = capacity;
    ring->tail_start = 0;
}

static void append_tail(struct ring *ring, const char *data, size_t length)
{
    if (ring->tail_length + length > ring->tail_capacity)
        grow_tail(ring, ring->tail_length + length);
    if (!ring->tail_capacity)
        return;
    if (length > ring->tail_capacity) {
        data += length - ring->tail_capacity;
        length = ring->tail_capacity;
    }
    size_t room = ring->tail_capacity - ring->tail_length;
    if (length > room) { /* the oldest give way */
        ring->tail_start = (ring->tail_start + (length - room)) % ring->tail_capacity;
        ring->tail_length -= length - room;
    }
    size_t end = (ring->tail_start + ring->tail_length) % ring->tail_capacity;
    size_t first = ring->tail_capacity - end < length ? ring->tail_capacity - end : length;
    memcpy(ring->tail + end, data, first);
    memcpy(ring->tail, data + first, length - first);
    ring->tail_length += length;
}

void ring_append(struct ring *ring, const char *data, size_t length)
{
    size_t kept = append_head(ring, data, length);
    if (kept < length && ring->tail_limit)
        append_tail(ring, data + kept, length - kept);
    ring->total += length;
}

void ring_sink(void *ring, const char *data, size_t length)
{
    ring_append(ring, data, length);
}

static void add(struct ring_segment *out, unsigned *count, uint64_t start, const char *data,
                size_t length, uint64_t offset, uint64_t *left)
{
    uint64_t skip = offset > start ? offset - start : 0;
    if (skip >= length || !*left)
        return;
    size_t take = length - (size_t)skip;
    if (take > *left)
        take = (size_t)*left;
    out[*count] = (struct ring_segment){start + skip, data + skip, take};
    ++*count;
    *left -= take;
}

unsigned ring_read(const struct ring *ring, uint64_t offset, uint64_t max,
                   struct ring_segment out[RING_SEGMENTS_MAX], uint64_t *ret_next)
{
    unsigned count = 0;
    uint64_t left = max, tail_offset = ring->total - ring->tail_length;
    size_t first = ring->tail_capacity - ring->tail_start;
    if (first > ring->tail_length)
        first = ring->tail_length;
    add(out, &count, 0, ring->head, ring->head_length, offset, &left);
    add(out, &count, tail_offset, ring->tail + ring->tail_start, first, offset, &left);
    add(out, &count, tail_offset + first, ring->tail, ring->tail_length - first, offset, &left);
    if (left || !count)
        *ret_next = left ? (ring->total > offset ? ring->total : offset) : offset;
    else
        *ret_next = out[count - 1].offset + out[count - 1].length;
    return count;
}

size_t ring_memory(const struct ring *ring)
{
    return ring->head_capacity + ring->tail_capacity;
}
