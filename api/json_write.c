#include "api/json_write.h"

#include "base/failure.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void put(struct json_writer *json, const char *data, size_t length)
{
    if (!json->error)
        json->error = buf_append(json->out, data, length);
}

static void put_escaped(struct json_writer *json, const char *data, size_t length)
{
    size_t start = 0;
    put(json, "\"", 1);
    for (size_t i = 0; i < length;) {
        unsigned char byte = (unsigned char)data[i];
        if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
            i++;
            continue;
        }
        size_t step = byte >= 0x80 ? utf8_sequence(data + i, length - i) : 0;
        if (step) {
            i += step;
            continue;
        }
        put(json, data + start, i - start);
        char escape[8];
        const char *short_form = byte == '"'    ? "\\\""
                                 : byte == '\\' ? "\\\\"
                                 : byte == '\n' ? "\\n"
                                 : byte == '\r' ? "\\r"
                                 : byte == '\t' ? "\\t"
                                                : NULL;
        if (!short_form && byte < 0x80) {
            snprintf(escape, sizeof escape, "\\u%04x", byte);
            short_form = escape;
        }
        put(json, short_form ? short_form : "\xef\xbf\xbd", short_form ? strlen(short_form) : 3);
        start = ++i;
    }
    put(json, data + start, length - start);
    put(json, "\"", 1);
}

static void begin_value(struct json_writer *json, const char *key)
{
    if (json->started[json->depth])
        put(json, ",", 1);
    json->started[json->depth] = true;
    if (key) {
        put_escaped(json, key, strlen(key));
        put(json, ":", 1);
    }
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
    put_escaped(json, text, strlen(text));
}

void json_bytes(struct json_writer *json, const char *key, const void *data, size_t length)
{
    begin_value(json, key);
    put_escaped(json, data, length);
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
    char text[24];
    begin_value(json, key);
    put(json, text, (size_t)snprintf(text, sizeof text, "%" PRId64, value));
}

void json_unsigned(struct json_writer *json, const char *key, uint64_t value)
{
    char text[24];
    begin_value(json, key);
    put(json, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, value));
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

void json_time(struct json_writer *json, const char *key, int64_t wall_us)
{
    if (!wall_us) {
        json_null(json, key);
        return;
    }
    char text[40];
    begin_value(json, key);
    put(json, text,
        (size_t)snprintf(text, sizeof text, "%" PRId64 ".%06" PRId64, wall_us / 1000000,
                         wall_us % 1000000));
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
