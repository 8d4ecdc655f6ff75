/* How errors travel. A function that can fail returns 0 or a negative enum hearth_error and, where
 * the caller gave one, fills a struct hearth_failure with what to tell: a stable code, the argument
 * to blame, the detail and a hint. A failure is plain data of fixed size: making one never fails,
 * and copying it is an assignment. It is untouched on success. Any thread. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

enum hearth_error {
    HEARTH_OK = 0,
    HEARTH_EINVALID = -1,         /* an argument is wrong: 422 */
    HEARTH_EMALFORMED = -2,       /* the request itself cannot be read: 400 */
    HEARTH_EUNAUTHENTICATED = -3, /* 401 */
    HEARTH_EFORBIDDEN = -4,       /* 403 */
    HEARTH_ENOTFOUND = -5,        /* 404 */
    HEARTH_ECONFLICT = -6,        /* the thing's state forbids it: 409 */
    HEARTH_ETOOLARGE = -7,        /* 413 */
    HEARTH_EMEDIATYPE = -8,       /* 415 */
    HEARTH_EQUOTA = -9,           /* a quota or rate is used up: 429 */
    HEARTH_EUNSUPPORTED = -10,    /* this host or build cannot: 422 */
    HEARTH_EUNAVAILABLE = -11,    /* a part is away just now: 503 */
    HEARTH_ETIMEDOUT = -12,       /* 504 */
    HEARTH_ENOSPACE = -13,        /* 507 */
    HEARTH_ECANCELLED = -14,      /* the caller went away or said cancel: 499 */
    HEARTH_ENOMEMORY = -15,       /* 503 */
    HEARTH_EIO = -16,             /* 500 */
    HEARTH_EINTERNAL = -17,       /* 500: a bug of ours */
    HEARTH_ERROR_MAX = 18,
};

struct hearth_failure {
    enum hearth_error error;
    bool retryable;
    char code[48];    /* stable, snake_case */
    char field[128];  /* JSON pointer, "" if no argument is to blame */
    char detail[512]; /* one sentence for a person */
    char hint[384];   /* what to do next, "" if there is nothing to say */
};

#define HEARTH_FAILURE_NONE ((struct hearth_failure){.error = HEARTH_OK})

/* Fills *failure (may be NULL) and returns error, so that `return hearth_fail(…)` is the idiom.
 * retryable is set from the error (EUNAVAILABLE, EQUOTA, ETIMEDOUT, ENOMEMORY). */
int hearth_fail(struct hearth_failure *failure, enum hearth_error error, const char *code,
                const char *format, ...) __attribute__((format(printf, 4, 5)));

/* As hearth_fail, for an errno value: picks the error that fits it (ENOSPC, ENOENT, ENOMEM, …; else
 * EIO) and ends the detail with the errno's text. */
int hearth_fail_errno(struct hearth_failure *failure, int errno_value, const char *code,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Add to a failure already made; failure may be NULL. */
void hearth_failure_field(struct hearth_failure *failure, const char *pointer);
void hearth_failure_hint(struct hearth_failure *failure, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Puts "context: " before the detail. */
void hearth_failure_context(struct hearth_failure *failure, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The HTTP-independent name of an error ("not_found"); never NULL. */
const char *hearth_error_name(enum hearth_error error);
