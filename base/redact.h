/* Finds values that must not be shown in text that passes by, and puts [REDACTED] in their place:
 * the values themselves and what they look like in base64 (plain and for URLs, at each of the three
 * places in a group), percent-encoded, in hex (both cases), within quotes (as JSON escapes it) and
 * with the ends of lines that a terminal writes. What is found may lie over any number of pieces;
 * what could still become a value is kept back until it is known. Overlapping finds are one
 * [REDACTED].
 *
 * The ends of lines that a value ends with are not looked for: what is before them is enough. Of a
 * value with several lines the first 64 are looked for by themselves too, where they have
 * REDACT_LINE_MIN bytes.
 *
 * Limits: values under REDACT_VALUE_MIN bytes are not looked for, and their encoded forms not under
 * REDACT_FORM_MIN characters; up to one character of base64 on either side of a find is left where
 * it belongs to the text around it too; an encoding that is broken into lines is not found. The
 * time is bounded by the forms times the text. Any thread, one at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define REDACT_VALUE_MIN 4
#define REDACT_FORM_MIN 5
#define REDACT_LINE_MIN 16
#define REDACT_MARK "[REDACTED]"

/* What is looked for; its memory is locked where that is allowed, left out of core dumps, and wiped
 * at the end. */
struct redact_values;

struct redact_secret {
    const void *value; /* borrowed for the call */
    size_t length;
};
/* NULL without memory. */
struct redact_values *redact_values_new(const struct redact_secret *secrets, size_t count);
/* One more user of it; redact_values_free is called once more then. */
struct redact_values *redact_values_ref(struct redact_values *values);
void redact_values_free(struct redact_values *values); /* NULL is allowed */
/* The longest form: no find begins further before its last byte. 0: there is nothing to find. */
size_t redact_longest(const struct redact_values *values);

/* Gets what may be shown; the text is borrowed for the call. */
typedef void (*redact_sink)(void *arg, const char *text, size_t length);

/* One stream of text. */
struct redact_stream;
/* Keeps a reference to values. NULL without memory. */
struct redact_stream *redact_stream_new(struct redact_values *values);
void redact_stream_free(struct redact_stream *stream); /* NULL is allowed */
/* stream NULL: there is nothing to redact, all of it is shown. Where memory is short, what cannot
 * be looked through is shown as one [REDACTED]. */
void redact_stream_put(struct redact_stream *stream, const char *text, size_t length,
                       redact_sink sink, void *arg);
/* There is no more: what was kept back is shown. NULL is allowed. */
void redact_stream_end(struct redact_stream *stream, redact_sink sink, void *arg);
/* For a terminal, where somebody waits to see what was typed: shows what is kept back where that is
 * at most three characters and a quarter of a value. The rest of it is redacted still. */
void redact_stream_idle(struct redact_stream *stream, redact_sink sink, void *arg);
/* Bytes that are kept back. */
size_t redact_stream_held(const struct redact_stream *stream); /* NULL: 0 */

/* A whole text: a copy (the caller's, with a NUL after it) with what was found replaced, or NULL
 * without memory.
 */
char *redact_text(struct redact_values *values, const char *text, size_t length,
                  size_t *ret_length);
/* The part from `from` on, `length` bytes, of a text that may begin and end outside of it: a find
 * that begins or ends outside is one [REDACTED]. */
char *redact_part(struct redact_values *values, const char *text, size_t text_length, size_t from,
                  size_t length, size_t *ret_length);
/* In place and of the same length: each find becomes [REDACTED] cut or filled up with `*`. False
 * without memory. */
bool redact_mask(struct redact_values *values, char *text, size_t length);
