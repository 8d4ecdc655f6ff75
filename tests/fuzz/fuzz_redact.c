/* base/redact.c: the first byte is the length of the value, the second the size of the pieces that
 * the text comes in. A stream shows what the whole text in one shows, and never the value. */
#include "fuzz.h"

#include "base/buf.h"
#include "base/redact.h"

#include <string.h>

static void collect(void *arg, const char *text, size_t length)
{
    PROMISE(buf_append(arg, text, length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out = {0};
    if (size < 2 || size < 2 + (size_t)data[0])
        return 0;
    struct redact_secret secret = {data + 2, data[0]};
    const char *text = (const char *)data + 2 + data[0];
    size_t length = size - 2 - data[0], piece = data[1] ? data[1] : 1, whole_length;
    struct redact_values *values = redact_values_new(&secret, 1);
    struct redact_stream *stream = redact_stream_new(values);
    for (size_t at = 0; at < length; at += piece)
        redact_stream_put(stream, text + at, length - at < piece ? length - at : piece, collect,
                          &out);
    redact_stream_end(stream, collect, &out);
    char *whole = redact_text(values, text, length, &whole_length);
    PROMISE(out.length == whole_length);
    PROMISE(!whole_length || memcmp(out.data, whole, whole_length) == 0);
    /* A value that is a part of the mark, or joins with it, is there again. */
    if (secret.length >= REDACT_VALUE_MIN && !memchr(secret.value, '[', secret.length) &&
        !memchr(secret.value, ']', secret.length) &&
        !memmem(REDACT_MARK, sizeof REDACT_MARK - 1, secret.value, secret.length))
        PROMISE(!whole_length || !memmem(whole, whole_length, secret.value, secret.length));
    free(whole);
    buf_free(&out);
    redact_stream_free(stream);
    redact_values_free(values);
    return 0;
}
