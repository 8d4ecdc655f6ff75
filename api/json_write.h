/* Writes JSON text straight into a buffer: no tree in between, commas and escapes are its work.
 * Text that is not UTF-8 is repaired (U+FFFD), so that what leaves is always valid JSON. Errors
 * stick: check json_writer.error once at the end (HEARTH_ENOMEMORY or HEARTH_ETOOLARGE). Nesting is
 * at most JSON_WRITE_DEPTH. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_WRITE_DEPTH 32

struct json_writer {
    struct buf *out; /* borrowed */
    int error;
    unsigned depth;
    bool started[JSON_WRITE_DEPTH + 1]; /* a comma is due at this level */
};

#define JSON_WRITER(buffer) ((struct json_writer){.out = (buffer)})

/* A value inside an array or at the top is written by the plain call; inside an object key names
 * it. key may be NULL for the former. */
void json_object_begin(struct json_writer *json, const char *key);
void json_object_end(struct json_writer *json);
void json_array_begin(struct json_writer *json, const char *key);
void json_array_end(struct json_writer *json);
void json_string(struct json_writer *json, const char *key, const char *text); /* NULL: null */
void json_bytes(struct json_writer *json, const char *key, const void *data,
                size_t length); /* as text, repaired */
void json_base64(struct json_writer *json, const char *key, const void *data, size_t length);
void json_integer(struct json_writer *json, const char *key, int64_t value);
void json_unsigned(struct json_writer *json, const char *key, uint64_t value);
void json_boolean(struct json_writer *json, const char *key, bool value);
void json_null(struct json_writer *json, const char *key);
/* Wall-clock microseconds as float seconds since the epoch, and before it. */
void json_seconds(struct json_writer *json, const char *key, int64_t wall_us);
/* The same of something that has happened, or not: 0 is null. */
void json_time(struct json_writer *json, const char *key, int64_t wall_us);
/* Milliseconds (whole) from microseconds. */
void json_duration_ms(struct json_writer *json, const char *key, int64_t duration_us);
/* Text that is JSON already. */
void json_raw(struct json_writer *json, const char *key, const char *text);
