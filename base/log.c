#include "base/log.h"

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

const char *log_quote(char *out, size_t size, const char *text)
{
    size_t used = 0;
    if (size < 3)
        return "";
    out[used++] = '"';
    for (; *text && used + 3 < size; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            out[used++] = '\\';
        out[used++] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
    out[used++] = '"';
    out[used] = '\0';
    return out;
}
