#include "api/json_write.h"

#include "base/failure.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

static void put(struct json_writer *json, const char *data, size_t length)
{
    if (!json->error)
        json->error = buf_append(json->out, data, length);
}

/* Where size bytes may be written at the end of the buffer, NULL when there is no room; take() says
 * that they are. */
static char *room(struct json_writer *json, size_t size)
{
    if (!json->error)
        json->error = buf_reserve(json->out, size);
    return json->error ? NULL : json->out->data + json->out->length;
}

static void take(struct json_writer *json, size_t size)
{
    json->out->length += size;
    json->out->data[json->out->length] = '\0';
}

/* Bytes that stand for themselves in a string. */
static const bool plain[256] = {
    [0x20 ... '"' - 1] = true, ['"' + 1 ... '\\' - 1] = true, ['\\' + 1 ... 0x7e] = true};

static size_t plain_length(const char *data, size_t length)
{
    size_t i = 0;
    while (i < length && plain[(unsigned char)data[i]])
        i++;
    return i;
}

/* The longest that a byte can become is \u0000. */
#define ESCAPE_MAX 6
#define ESCAPED_AT_ONCE ((size_t)4096)

static char *put_escape(char *at, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[256] = {
        ['"'] = '"', ['\\'] = '\\', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    if (byte >= 0x80)
        return (char *)mempcpy(at, "\xef\xbf\xbd", 3); /* no UTF-8 */
    *at++ = '\\';
    if (letters[byte]) {
        *at++ = letters[byte];
        return at;
    }
    at = (char *)mempcpy(at, "u00", 3);
    *at++ = hex[byte >> 4];
    *at++ = hex[byte & 15];
    return at;
}

/* Room is asked for once for many bytes: what a program prints may be escapes by half. */
static void put_escaped(struct json_writer *json, const char *data, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t end = length - i < ESCAPED_AT_ONCE ? length : i + ESCAPED_AT_ONCE;
        char *start = room(json, (end - i + ESCAPE_MAX) * ESCAPE_MAX), *at = start;
        if (!at)
            return;
        while (i < end) {
            unsigned char byte = (unsigned char)data[i];
            size_t step = byte >= 0x80 ? utf8_sequence(data + i, length - i) : plain[byte];
            for (size_t left = step; left; left--)
                *at++ = data[i++];
            if (!step)
                at = put_escape(at, (unsigned char)data[i++]);
        }
        take(json, (size_t)(at - start));
    }
}

/* Text in quotes, with what stands before and after it. Nearly every text and key needs no escapes:
 * those are one copy. */
static void put_quoted(struct json_writer *json, bool comma, const char *data, size_t length,
                       bool colon)
{
    if (plain_length(data, length) < length) {
        put(json, comma ? ",\"" : "\"", comma ? 2 : 1);
        put_escaped(json, data, length);
        put(json, "\":", colon ? 2 : 1);
        return;
    }
    char *at = room(json, length + 4);
    if (!at)
        return;
    if (comma)
        *at++ = ',';
    *at++ = '"';
    memcpy(at, data, length);
    at[length] = '"';
    if (colon)
        at[length + 1] = ':';
    take(json, length + 2 + comma + colon);
}

/* Decimal digits so that they end before end; gives where they begin. */
static char *digits(char *end, uint64_t value, int count_min)
{
    for (; value || count_min > 0; value /= 10, count_min--)
        *--end = (char)('0' + value % 10);
    return end;
}

static void begin_value(struct json_writer *json, const char *key)
{
    bool comma = json->started[json->depth];
    json->started[json->depth] = true;
    if (key)
        put_quoted(json, comma, key, strlen(key), true);
    else if (comma)
        put(json, ",", 1);
}

static void open_level(struct json_writer *json, const char *key, const char *bracket)
{
    begin_value(json, key);
    put(json, bracket, 1);
    if (json->depth == JSON_WRITE_DEPTH) {
        json->error = HEARTH_EINTERNAL;
        return;
    }
    json->started[++json->depth] = false;
}

static void close_level(struct json_writer *json, const char *bracket)
{
    put(json, bracket, 1);
    if (json->depth)
        json->depth--;
}

void json_object_begin(struct json_writer *json, const char *key)
{
    open_level(json, key, "{");
}

void json_object_end(struct json_writer *json)
{
    close_level(json, "}");
}

void json_array_begin(struct json_writer *json, const char *key)
{
    open_level(json, key, "[");
}

void json_array_end(struct json_writer *json)
{
    close_level(json, "]");
}

void json_string(struct json_writer *json, const char *key, const char *text)
{
    if (!text) {
        json_null(json, key);
        return;
    }
    begin_value(json, key);
    put_quoted(json, false, text, strlen(text), false);
}

void json_bytes(struct json_writer *json, const char *key, const void *data, size_t length)
{
    begin_value(json, key);
    put_quoted(json, false, data, length, false);
}

void json_base64(struct json_writer *json, const char *key, const void *data, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = data;
    begin_value(json, key);
    put(json, "\"", 1);
    for (size_t i = 0; i < length; i += 3) {
        size_t have = length - i < 3 ? length - i : 3;
        unsigned group = (unsigned)bytes[i] << 16 | (have > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
                         (have > 2 ? bytes[i + 2] : 0u);
        char quad[4] = {digits[group >> 18], digits[group >> 12 & 63],
                        have > 1 ? digits[group >> 6 & 63] : '=',
                        have > 2 ? digits[group & 63] : '='};
        put(json, quad, sizeof quad);
    }
    put(json, "\"", 1);
}

void json_integer(struct json_writer *json, const char *key, int64_t value)
{
    char text[24], *end = text + sizeof text;
    char *at = digits(end, value < 0 ? -(uint64_t)value : (uint64_t)value, 1);
    if (value < 0)
        *--at = '-';
    begin_value(json, key);
    put(json, at, (size_t)(end - at));
}

void json_unsigned(struct json_writer *json, const char *key, uint64_t value)
{
    char text[24], *end = text + sizeof text;
    char *at = digits(end, value, 1);
    begin_value(json, key);
    put(json, at, (size_t)(end - at));
}

void json_boolean(struct json_writer *json, const char *key, bool value)
{
    begin_value(json, key);
    put(json, value ? "true" : "false", value ? 4 : 5);
}

void json_null(struct json_writer *json, const char *key)
{
    begin_value(json, key);
    put(json, "null", 4);
}

void json_seconds(struct json_writer *json, const char *key, int64_t wall_us)
{
    uint64_t us = wall_us < 0 ? -(uint64_t)wall_us : (uint64_t)wall_us;
    char text[32], *end = text + sizeof text;
    char *at = digits(end, us % 1000000, 6);
    *--at = '.';
    at = digits(at, us / 1000000, 1);
    if (wall_us < 0)
        *--at = '-';
    begin_value(json, key);
    put(json, at, (size_t)(end - at));
}

void json_time(struct json_writer *json, const char *key, int64_t wall_us)
{
    if (wall_us)
        json_seconds(json, key, wall_us);
    else
        json_null(json, key);
}

void json_duration_ms(struct json_writer *json, const char *key, int64_t duration_us)
{
    json_integer(json, key, (duration_us + 500) / 1000);
}

void json_raw(struct json_writer *json, const char *key, const char *text)
{
    begin_value(json, key);
    put(json, text, strlen(text));
}
