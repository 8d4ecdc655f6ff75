#include "api/json_redact.h"

#include "api/json_write.h"
#include "base/failure.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

/* Bytes from the opening quote to after the closing one. */
static size_t token_length(const char *text, size_t length)
{
    size_t at = 1;
    while (at < length && text[at] != '"')
        at += text[at] == '\\' ? 2 : 1;
    return at < length ? at + 1 : length;
}

/* One escape of json_write.c's as the byte that it stands for; gives its length, 0 where it is
 * another. */
static size_t unescape(const char *text, size_t length, char *ret_byte)
{
    static const char names[] = "\"\\/nrtbf", bytes[] = "\"\\/\n\r\t\b\f";
    if (length < 2 || text[0] != '\\')
        return 0;
    const char *name = memchr(names, text[1], sizeof names - 1);
    if (name) {
        *ret_byte = bytes[name - names];
        return 2;
    }
    if (length < 6 || memcmp(text, "\\u00", 4) != 0 || text_hex_digit(text[4]) < 0 ||
        text_hex_digit(text[4]) > 7 || text_hex_digit(text[5]) < 0)
        return 0;
    *ret_byte = (char)(text_hex_digit(text[4]) * 16 + text_hex_digit(text[5]));
    return 6;
}

static int decode(struct buf *out, const char *text, size_t length)
{
    int error = buf_reserve(out, length + 1);
    for (size_t at = 0; !error && at < length;) {
        char byte = text[at];
        size_t step = unescape(text + at, length - at, &byte);
        error = buf_char(out, byte);
        at += step ? step : 1;
    }
    return error;
}

/* The content of a token, which is not a name. */
static int redact_value(struct redact_values *values, struct json_writer *json, const char *text,
                        size_t length)
{
    auto_buf struct buf decoded = {0};
    size_t clean_length;
    int error = decode(&decoded, text, length);
    if (error)
        return error;
    char *clean =
        redact_text(values, decoded.data ? decoded.data : "", decoded.length, &clean_length);
    if (!clean && decoded.length)
        return HEARTH_ENOMEMORY;
    *json = JSON_WRITER(json->out);
    json_bytes(json, NULL, clean ? clean : "", clean_length);
    free(clean);
    return json->error;
}

int json_redact(struct redact_values *values, struct buf *body)
{
    struct buf out = {.limit = SIZE_MAX};
    struct json_writer json = JSON_WRITER(&out);
    int error = 0;
    for (size_t at = 0; !error && at < body->length;) {
        const char *rest = body->data + at;
        size_t left = body->length - at;
        if (*rest != '"') {
            const char *quote = memchr(rest, '"', left);
            size_t plain = quote ? (size_t)(quote - rest) : left;
            error = buf_append(&out, rest, plain);
            at += plain;
            continue;
        }
        size_t token = token_length(rest, left);
        if (token == 2 || (token < left && rest[token] == ':'))
            error = buf_append(&out, rest, token);
        else
            error = redact_value(values, &json, rest + 1, token - 2);
        at += token;
    }
    if (error) {
        buf_free(&out);
        return error;
    }
    explicit_bzero(body->data, body->length);
    buf_free(body);
    *body = out;
    return 0;
}
