#include "base/text.h"
#include "guestagent/link_internal.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

size_t grpc_message_encode(char *out, size_t size, const char *text)
{
    size_t used = 0;
    for (; *text && used + 4 <= size; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte > 0x7e || byte == '%')
            used += (size_t)snprintf(out + used, 4, "%%%02X", byte);
        else
            out[used++] = (char)byte;
    }
    out[used] = '\0';
    return used;
}

char *grpc_message_decode(const uint8_t *data, size_t length)
{
    char bytes[LINK_STATUS_TEXT_MAX];
    size_t used = 0;
    for (size_t i = 0; i < length && used < sizeof bytes; i++) {
        int high = -1, low = -1;
        if (data[i] == '%' && length - i > 2) {
            high = text_hex_digit(data[i + 1]);
            low = text_hex_digit(data[i + 2]);
        }
        /* What is no escape stands for itself, as gRPC says; a NUL would cut the text. */
        uint8_t byte = high >= 0 && low >= 0 ? (uint8_t)(high << 4 | low) : data[i];
        if (high >= 0 && low >= 0)
            i += 2;
        bytes[used++] = byte ? (char)byte : ' ';
    }
    struct buf text = {0};
    if (utf8_repair(&text, bytes, used)) {
        buf_free(&text);
        return NULL;
    }
    return buf_steal(&text);
}

unsigned grpc_timeout_parse(const uint8_t *text, size_t length)
{
    if (length < 2 || length > 9)
        return 0;
    uint64_t value = 0;
    for (size_t i = 0; i < length - 1; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    uint64_t ms;
    switch (text[length - 1]) {
    case 'H':
        ms = value * 3600 * 1000;
        break;
    case 'M':
        ms = value * 60 * 1000;
        break;
    case 'S':
        ms = value * 1000;
        break;
    case 'm':
        ms = value;
        break;
    case 'u':
        ms = value / 1000;
        break;
    case 'n':
        ms = value / 1000000;
        break;
    default:
        return 0;
    }
    if (ms == 0)
        return 1;
    return ms < UINT_MAX ? (unsigned)ms : UINT_MAX;
}

size_t grpc_timeout_format(char out[16], unsigned timeout_ms)
{
    /* At most 8 digits. */
    if (timeout_ms < 100000000)
        return (size_t)snprintf(out, 16, "%um", timeout_ms);
    return (size_t)snprintf(out, 16, "%uS", timeout_ms / 1000 + 1);
}

int small_number(const uint8_t *text, size_t length)
{
    if (length < 1 || length > 3)
        return -1;
    int value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

enum link_status status_of_h2_error(uint32_t h2_error)
{
    switch (h2_error) {
    case NGHTTP2_REFUSED_STREAM:
        return LINK_STATUS_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return LINK_STATUS_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return LINK_STATUS_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return LINK_STATUS_PERMISSION_DENIED;
    default:
        return LINK_STATUS_INTERNAL;
    }
}

enum link_status status_of_http(int http_status)
{
    switch (http_status) {
    case 400:
        return LINK_STATUS_INTERNAL;
    case 403:
        return LINK_STATUS_PERMISSION_DENIED;
    case 404:
        return LINK_STATUS_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return LINK_STATUS_UNAVAILABLE;
    default:
        return LINK_STATUS_UNKNOWN;
    }
}

static const struct {
    enum hearth_error error;
    const char *code;
} failures[] = {
    [LINK_STATUS_OK] = {HEARTH_EINTERNAL, "agent_failed"},
    [LINK_STATUS_CANCELLED] = {HEARTH_ECANCELLED, "cancelled"},
    [LINK_STATUS_UNKNOWN] = {HEARTH_EIO, "agent_failed"},
    [LINK_STATUS_INVALID_ARGUMENT] = {HEARTH_EINVALID, "invalid_argument"},
    [LINK_STATUS_DEADLINE_EXCEEDED] = {HEARTH_ETIMEDOUT, "agent_timed_out"},
    [LINK_STATUS_NOT_FOUND] = {HEARTH_ENOTFOUND, "not_found"},
    [LINK_STATUS_ALREADY_EXISTS] = {HEARTH_ECONFLICT, "already_exists"},
    [LINK_STATUS_PERMISSION_DENIED] = {HEARTH_EFORBIDDEN, "permission_denied"},
    [LINK_STATUS_RESOURCE_EXHAUSTED] = {HEARTH_ETOOLARGE, "resource_exhausted"},
    [LINK_STATUS_FAILED_PRECONDITION] = {HEARTH_ECONFLICT, "failed_precondition"},
    [LINK_STATUS_ABORTED] = {HEARTH_ECONFLICT, "changed_meanwhile"},
    [LINK_STATUS_OUT_OF_RANGE] = {HEARTH_EINVALID, "out_of_range"},
    [LINK_STATUS_UNIMPLEMENTED] = {HEARTH_EUNSUPPORTED, "agent_too_old"},
    [LINK_STATUS_INTERNAL] = {HEARTH_EIO, "agent_failed"},
    [LINK_STATUS_UNAVAILABLE] = {HEARTH_EUNAVAILABLE, "agent_unavailable"},
    [LINK_STATUS_DATA_LOSS] = {HEARTH_EIO, "agent_failed"},
};

int link_status_failure(enum link_status status, const char *message,
                        struct hearth_failure *failure)
{
    size_t row = (size_t)status;
    /* The peer may say any number: what is none of ours is unknown. */
    if (row >= sizeof failures / sizeof *failures || !failures[row].code)
        row = LINK_STATUS_UNKNOWN;
    return hearth_fail(failure, failures[row].error, failures[row].code, "%s",
                       message && *message ? message : "the agent gave no reason");
}
