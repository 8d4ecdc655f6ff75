#include "guestagent/agent/text_ring.h"

#include "base/clock.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PIECE 4096
#define MARK_EVERY_US (5 * US_PER_MS)

static const char replacement[] = "\xef\xbf\xbd";

void text_ring_init(struct text_ring *text, size_t bytes)
{
    *text = (struct text_ring){0};
    ring_init(&text->ring, 0, bytes);
}

void text_ring_free(struct text_ring *text)
{
    ring_free(&text->ring);
    free(text->marks);
    *text = (struct text_ring){0};
}

/* Whole characters on their way into the ring. */
struct piece {
    struct text_ring *text;
    char bytes[PIECE];
    size_t length;
};

static void flush(struct piece *piece)
{
    ring_append(&piece->text->ring, piece->bytes, piece->length);
    piece->length = 0;
}

static void put(struct piece *piece, const char *character, size_t length)
{
    if (piece->length + length > PIECE)
        flush(piece);
    memcpy(piece->bytes + piece->length, character, length);
    piece->length += length;
    piece->text->characters++;
}

/* Bytes of a character that begins with lead; 0 where none does. */
static unsigned length_of(unsigned char lead)
{
    return lead < 0x80    ? 1
           : lead < 0xc2  ? 0
           : lead < 0xe0  ? 2
           : lead < 0xf0  ? 3
           : lead <= 0xf4 ? 4
                          : 0;
}

/* May byte follow as the second one of a character (RFC 3629, section 4), or as a later one? */
static bool may_follow(const char *part, unsigned length, unsigned char byte)
{
    unsigned char lead = (unsigned char)part[0], low = 0x80, high = 0xbf;
    if (length == 1) {
        low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : low;
        high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : high;
    }
    return byte >= low && byte <= high;
}

static void take(struct piece *piece, char byte)
{
    struct text_ring *text = piece->text;
    if (text->part_length && !may_follow(text->part, text->part_length, (unsigned char)byte)) {
        put(piece, replacement, 3);
        text->part_length = 0;
    }
    if (!text->part_length && !length_of((unsigned char)byte)) {
        put(piece, replacement, 3);
        return;
    }
    text->part[text->part_length++] = byte;
    if (text->part_length == length_of((unsigned char)text->part[0])) {
        put(piece, text->part, text->part_length);
        text->part_length = 0;
    }
}

void text_ring_append(struct text_ring *text, const char *data, size_t length)
{
    struct piece piece = {.text = text};
    for (size_t i = 0; i < length; i++)
        take(&piece, data[i]);
    flush(&piece);
}

/* Half of them go, every second one, but none that tells of a new size. */
static void thin(struct text_ring *text)
{
    unsigned kept = 1;
    for (unsigned i = 1; i < text->mark_count; i++) {
        const struct text_mark *mark = &text->marks[i], *before = &text->marks[kept - 1];
        if (i % 2 || mark->cols != before->cols || mark->rows != before->rows)
            text->marks[kept++] = *mark;
    }
    text->mark_count = kept < TEXT_MARKS_MAX ? kept : TEXT_MARKS_MAX / 2;
}

void text_ring_mark(struct text_ring *text, int64_t time_us, unsigned cols, unsigned rows)
{
    const struct text_mark *last = text->mark_count ? &text->marks[text->mark_count - 1] : NULL;
    if (last && last->cols == cols && last->rows == rows && time_us - last->time_us < MARK_EVERY_US)
        return;
    if (!text->marks && !(text->marks = calloc(TEXT_MARKS_MAX, sizeof *text->marks)))
        return;
    if (text->mark_count == TEXT_MARKS_MAX)
        thin(text);
    text->marks[text->mark_count++] = (struct text_mark){.character = text->characters,
                                                         .time_us = time_us,
                                                         .cols = (uint16_t)cols,
                                                         .rows = (uint16_t)rows};
}

static bool begins(char byte)
{
    return ((unsigned char)byte & 0xc0) != 0x80;
}

/* The byte offset of the character that lies `back` before the end, or of the oldest that is kept
 * whole; back is set to how far before the end that is. */
static uint64_t find_back(const struct text_ring *text, const struct ring_segment *segments,
                          unsigned count, uint64_t *back)
{
    uint64_t seen = 0, found = text->ring.total;
    for (unsigned s = count; s-- && seen < *back;)
        for (size_t i = segments[s].length; i-- && seen < *back;)
            if (begins(segments[s].data[i])) {
                seen++;
                found = segments[s].offset + i;
            }
    *back = seen;
    return found;
}

/* Bytes of the first max characters of a segment; *left goes down by what was found. */
static size_t first_characters(const struct ring_segment *segment, uint64_t *left)
{
    for (size_t i = 0; i < segment->length; i++)
        if (begins(segment->data[i]) && (*left)-- == 0) {
            *left = 0;
            return i;
        }
    return segment->length;
}

void text_ring_read(const struct text_ring *text, uint64_t cursor, uint64_t max,
                    struct text_slice *ret_slice)
{
    struct ring_segment kept[RING_SEGMENTS_MAX];
    uint64_t next, back = cursor < text->characters ? text->characters - cursor : 0, asked = back;
    unsigned count = ring_read(&text->ring, 0, UINT64_MAX, kept, &next);
    uint64_t offset = find_back(text, kept, count, &back);
    *ret_slice = (struct text_slice){.cursor = text->characters - back, .lost = asked - back};
    ret_slice->next = ret_slice->cursor + (back < max ? back : max);
    ret_slice->count = ring_read(&text->ring, offset, UINT64_MAX, ret_slice->segments, &next);
    if (back <= max)
        return;
    /* A character may go on in the segment after: only the start of the next one ends a slice. */
    uint64_t left = max;
    for (unsigned i = 0; i < ret_slice->count; i++) {
        struct ring_segment *segment = &ret_slice->segments[i];
        size_t length = first_characters(segment, &left);
        if (length == segment->length)
            continue;
        segment->length = length;
        ret_slice->count = i + 1;
    }
}
