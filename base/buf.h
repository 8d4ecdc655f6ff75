/* A byte buffer that grows up to a limit. Zero-initialised it is empty with no limit set
 * (BUF_DEFAULT_LIMIT). data is always NUL-terminated once anything was appended, so that text can
 * be used as a C string. Any thread, one at a time. */
#pragma once

#include "base/cleanup.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define BUF_DEFAULT_LIMIT ((size_t)64 << 20)

struct buf {
    char *data;
    size_t length;
    size_t capacity;
    size_t limit; /* 0 means BUF_DEFAULT_LIMIT */
    bool secret;  /* what was in it is wiped wherever it leaves it */
};

/* All return 0, or HEARTH_ENOMEMORY, or HEARTH_ETOOLARGE past the limit; the buffer is then as it
 * was. */
int buf_reserve(struct buf *buf, size_t more);
int buf_append(struct buf *buf, const void *data, size_t length);
int buf_text(struct buf *buf, const char *text);
int buf_char(struct buf *buf, char character);
int buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Drops the first length bytes. */
void buf_consume(struct buf *buf, size_t length);
void buf_clear(struct buf *buf);
void buf_free(struct buf *buf);
/* Gives the bytes (never NULL unless memory ran out) to the caller, who frees them; the buffer is
 * empty after. */
char *buf_steal(struct buf *buf);

#define auto_buf __attribute__((cleanup(buf_free)))
