#include "base/log.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    threshold = level;
}

bool log_enabled(enum log_level level)
{
    return level >= threshold;
}

static int prefix(char *line, size_t size, enum log_level level, const char *event)
{
    static const int priorities[] = {7, 6, 4, 3};
    static const char *const names[] = {"debug", "info", "warning", "error"};
    if (getenv("JOURNAL_STREAM"))
        return snprintf(line, size, "<%d>event=%s ", priorities[level], event);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    return snprintf(line, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s event=%s ",
                    utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                    utc.tm_sec, now.tv_nsec / 1000000, names[level], event);
}

void log_line(enum log_level level, const char *event, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    char line[2048];
    int used = prefix(line, sizeof line - 1, level, event);
    if (used < 0 || (size_t)used >= sizeof line - 1)
        return;
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(line + used, sizeof line - 1 - (size_t)used, format, arguments);
    va_end(arguments);
    size_t length = (size_t)used + (more > 0 ? (size_t)more : 0);
    if (length > sizeof line - 2)
        length = sizeof line - 2;
    line[length] = '\n';
    /* Nothing sensible can be done where the log cannot be written. */
    ssize_t written = write(STDERR_FILENO, line, length + 1);
    (void)written;
}

/* Length of the character at text where a log may show it as it is, else 0: no control character
 * (C1 is two bytes in UTF-8, and a terminal obeys it), no ill-formed byte. */
static size_t shown_length(const char *text)
{
    unsigned char first = (unsigned char)text[0], second = (unsigned char)(first ? text[1] : 0);
    if (first < 0x20 || first == 0x7f || (first == 0xc2 && second < 0xa0))
        return 0;
    return utf8_sequence(text, strnlen(text, 4));
}

const char *log_quote(char *out, size_t size, const char *text)
{
    size_t used = 0;
    if (size < 3)
        return "";
    out[used++] = '"';
    while (*text) {
        size_t length = shown_length(text), escape = *text == '"' || *text == '\\';
        if (used + escape + (length ? length : 1) + 2 > size)
            break;
        if (escape)
            out[used++] = '\\';
        memcpy(out + used, length ? text : "?", length ? length : 1);
        used += length ? length : 1;
        text += length ? length : 1;
    }
    out[used++] = '"';
    out[used] = '\0';
    return out;
}
