/* What is kept of a terminal's output: its newest part as well-formed UTF-8, addressed by the
 * number of characters since its start, with the times at which it came. An ill-formed byte counts
 * as one U+FFFD; a character that has not come whole is not there yet. */
#pragma once

#include "guestagent/agent/ring.h"

#define TEXT_MARKS_MAX 4096

/* From this character on: the time it came at, and the terminal's size then. */
struct text_mark {
    uint64_t character;
    int64_t time_us;
    uint16_t cols, rows;
};

struct text_ring {
    struct ring ring;
    uint64_t characters; /* written so far */
    char part[4];        /* of a character that is still to come */
    unsigned part_length;
    struct text_mark *marks; /* in order; older ones grow sparse */
    unsigned mark_count;
};

struct text_slice {
    struct ring_segment segments[RING_SEGMENTS_MAX];
    unsigned count;
    uint64_t cursor; /* of the first character */
    uint64_t next;   /* after the last */
    uint64_t lost;   /* characters between what was asked for and cursor */
};

void text_ring_init(struct text_ring *text, size_t bytes);
void text_ring_free(struct text_ring *text);
void text_ring_append(struct text_ring *text, const char *data, size_t length);
/* Where memory is short, or the last mark of this size is a few ms old, there is none. */
void text_ring_mark(struct text_ring *text, int64_t time_us, unsigned cols, unsigned rows);
/* At most max characters from cursor on; a cursor past the end is the end. */
void text_ring_read(const struct text_ring *text, uint64_t cursor, uint64_t max,
                    struct text_slice *ret_slice);
