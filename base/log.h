/* One line of structured log a call, to stderr: level, event, then key=value pairs as the format
 * has them. Where JOURNAL_STREAM is set a line starts with its syslog priority ("<6>") instead of a
 * time. Values that a tenant or guest chose go through log_quote. Any thread; a line is written by
 * one write(2). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

void log_set_level(enum log_level level);
/* Would a line of this level be written? Asked first where its parts cost something to make. */
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(event, ...) log_line(LOG_LEVEL_DEBUG, event, __VA_ARGS__)
#define log_info(event, ...) log_line(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_warning(event, ...) log_line(LOG_LEVEL_WARNING, event, __VA_ARGS__)
#define log_error(event, ...) log_line(LOG_LEVEL_ERROR, event, __VA_ARGS__)

/* Copies text into out as a quoted string of whole UTF-8 characters, cut to fit, with a ? for every
 * control character and ill-formed byte; gives out ("" where size is under 3). */
const char *log_quote(char *out, size_t size, const char *text);
