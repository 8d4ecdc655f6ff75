#include "base/buf.h"

#include "base/failure.h"

#include <stdio.h>
#include <string.h>

int buf_reserve(struct buf *buf, size_t more)
{
    size_t limit = buf->limit ? buf->limit : BUF_DEFAULT_LIMIT;
    if (more > limit || buf->length > limit - more)
        return HEARTH_ETOOLARGE;
    size_t need = buf->length + more + 1;
    if (need <= buf->capacity)
        return 0;
    size_t capacity = buf->capacity ? buf->capacity : 128;
    while (capacity < need)
        capacity *= 2;
    char *data = buf->secret ? malloc(capacity) : realloc(buf->data, capacity);
    if (!data)
        return HEARTH_ENOMEMORY;
    if (buf->secret && buf->data) {
        memcpy(data, buf->data, buf->length + 1);
        explicit_bzero(buf->data, buf->capacity);
        free(buf->data);
    }
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

int buf_append(struct buf *buf, const void *data, size_t length)
{
    int error = buf_reserve(buf, length);
    if (error)
        return error;
    if (length)
        memcpy(buf->data + buf->length, data, length);
    buf->length += length;
    buf->data[buf->length] = '\0';
    return 0;
}

int buf_text(struct buf *buf, const char *text)
{
    return buf_append(buf, text, strlen(text));
}

int buf_char(struct buf *buf, char character)
{
    return buf_append(buf, &character, 1);
}

int buf_printf(struct buf *buf, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int need = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (need < 0)
        return HEARTH_EINTERNAL;
    int error = buf_reserve(buf, (size_t)need);
    if (error)
        return error;
    va_start(arguments, format);
    vsnprintf(buf->data + buf->length, (size_t)need + 1, format, arguments);
    va_end(arguments);
    buf->length += (size_t)need;
    return 0;
}

void buf_consume(struct buf *buf, size_t length)
{
    if (length >= buf->length) {
        buf_clear(buf);
        return;
    }
    memmove(buf->data, buf->data + length, buf->length - length + 1);
    buf->length -= length;
    if (buf->secret)
        explicit_bzero(buf->data + buf->length, length);
}

void buf_clear(struct buf *buf)
{
    if (buf->secret && buf->data)
        explicit_bzero(buf->data, buf->length);
    buf->length = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

void buf_free(struct buf *buf)
{
    if (buf->secret && buf->data)
        explicit_bzero(buf->data, buf->capacity);
    free(buf->data);
    *buf = (struct buf){.limit = buf->limit, .secret = buf->secret};
}

char *buf_steal(struct buf *buf)
{
    if (buf_reserve(buf, 0) == 0) /* which leaves what it makes as it finds it */
        buf->data[buf->length] = '\0';
    char *data = buf->data;
    *buf = (struct buf){.limit = buf->limit, .secret = buf->secret};
    return data;
}
