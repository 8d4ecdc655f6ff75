#include "base/failure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const names[HEARTH_ERROR_MAX] = {
    [0] = "ok",
    [-HEARTH_EINVALID] = "invalid_argument",
    [-HEARTH_EMALFORMED] = "malformed_request",
    [-HEARTH_EUNAUTHENTICATED] = "unauthenticated",
    [-HEARTH_EFORBIDDEN] = "forbidden",
    [-HEARTH_ENOTFOUND] = "not_found",
    [-HEARTH_ECONFLICT] = "conflict",
    [-HEARTH_ETOOLARGE] = "too_large",
    [-HEARTH_EMEDIATYPE] = "unsupported_media_type",
    [-HEARTH_EQUOTA] = "quota_exceeded",
    [-HEARTH_EUNSUPPORTED] = "unsupported",
    [-HEARTH_EUNAVAILABLE] = "unavailable",
    [-HEARTH_ETIMEDOUT] = "timed_out",
    [-HEARTH_ENOSPACE] = "no_space",
    [-HEARTH_ECANCELLED] = "cancelled",
    [-HEARTH_ENOMEMORY] = "out_of_memory",
    [-HEARTH_EIO] = "io_error",
    [-HEARTH_EINTERNAL] = "internal_error",
};

const char *hearth_error_name(enum hearth_error error)
{
    int index = -(int)error;
    return index >= 0 && index < HEARTH_ERROR_MAX ? names[index] : "internal_error";
}

static void set(struct hearth_failure *failure, enum hearth_error error, const char *code)
{
    *failure = HEARTH_FAILURE_NONE;
    failure->error = error;
    failure->retryable = error == HEARTH_EUNAVAILABLE || error == HEARTH_EQUOTA ||
                         error == HEARTH_ETIMEDOUT || error == HEARTH_ENOMEMORY;
    snprintf(failure->code, sizeof failure->code, "%s", code ? code : hearth_error_name(error));
}

int hearth_fail(struct hearth_failure *failure, enum hearth_error error, const char *code,
                const char *format, ...)
{
    if (failure) {
        set(failure, error, code);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(failure->detail, sizeof failure->detail, format, arguments);
        va_end(arguments);
    }
    return (int)error;
}

static enum hearth_error from_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
        return HEARTH_ENOTFOUND;
    case ENOSPC:
    case EDQUOT:
        return HEARTH_ENOSPACE;
    case ENOMEM:
        return HEARTH_ENOMEMORY;
    case EACCES:
    case EPERM:
        return HEARTH_EFORBIDDEN;
    case EEXIST:
        return HEARTH_ECONFLICT;
    case ETIMEDOUT:
        return HEARTH_ETIMEDOUT;
    default:
        return HEARTH_EIO;
    }
}

int hearth_fail_errno(struct hearth_failure *failure, int errno_value, const char *code,
                      const char *format, ...)
{
    enum hearth_error error = from_errno(errno_value);
    if (failure) {
        set(failure, error, code);
        va_list arguments;
        va_start(arguments, format);
        int used = vsnprintf(failure->detail, sizeof failure->detail, format, arguments);
        va_end(arguments);
        if (used >= 0 && (size_t)used < sizeof failure->detail)
            snprintf(failure->detail + used, sizeof failure->detail - (size_t)used, ": %s",
                     strerror(errno_value));
    }
    return (int)error;
}

void hearth_failure_field(struct hearth_failure *failure, const char *pointer)
{
    if (failure)
        snprintf(failure->field, sizeof failure->field, "%s", pointer);
}

void hearth_failure_hint(struct hearth_failure *failure, const char *format, ...)
{
    if (!failure)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure->hint, sizeof failure->hint, format, arguments);
    va_end(arguments);
}

void hearth_failure_context(struct hearth_failure *failure, const char *format, ...)
{
    if (!failure)
        return;
    char before[sizeof failure->detail];
    memcpy(before, failure->detail, sizeof before);
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(failure->detail, sizeof failure->detail, format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used + 3 < sizeof failure->detail)
        snprintf(failure->detail + used, sizeof failure->detail - (size_t)used, ": %.*s",
                 (int)(sizeof failure->detail - (size_t)used - 3), before);
}
