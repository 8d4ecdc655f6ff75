#include "api/operations/output.h"

#include "api/call.h"
#include "base/text.h"

#include <inttypes.h>
#include <string.h>

/* The bytes that the character at data takes in JSON, at most: what is no UTF-8 is replaced, byte
 * by byte. Gives its own length. */
static size_t character(const char *data, size_t length, size_t *ret_cost)
{
    unsigned char byte = (unsigned char)*data;
    size_t own = byte < 0x80 ? 1 : utf8_sequence(data, length);
    bool escaped = byte == '"' || byte == '\\' || byte == '\n' || byte == '\r' || byte == '\t';
    *ret_cost = own > 1                       ? own
                : byte >= 0x80                ? 3
                : escaped                     ? 2
                : byte >= 0x20 && byte < 0x7f ? 1
                                              : 6;
    return own ? own : 1;
}

/* How many bytes from the beginning take at most room in JSON; what they take. */
static size_t text_fits(const char *data, size_t length, size_t room, size_t *ret_used)
{
    size_t at = 0, used = 0, more = 0;
    while (at < length) {
        size_t own = character(data + at, length - at, &more);
        if (used + more > room)
            break;
        used += more;
        at += own;
    }
    *ret_used = used;
    return at;
}

size_t text_that_fits(const char *data, size_t length, size_t room)
{
    size_t used;
    return text_fits(data, length, room, &used);
}

static size_t bytes_fit(size_t length, size_t room)
{
    return length < room / 4 * 3 ? length : room / 4 * 3;
}

static size_t fits(const char *data, size_t length, size_t room, enum text_encoding encoding)
{
    size_t used;
    return encoding == ENCODING_UTF8 ? text_fits(data, length, room, &used)
                                     : bytes_fit(length, room);
}

static size_t fits_from_end(const char *data, size_t length, size_t room,
                            enum text_encoding encoding)
{
    size_t most = length < room ? length : room, at = 0, all = 0, one = 0;
    if (encoding == ENCODING_BASE64)
        return bytes_fit(length, room);
    data += length - most; /* no byte takes less than one */
    for (size_t i = 0; i < most; all += one)
        i += character(data + i, most - i, &one);
    for (; all > room; all -= one)
        at += character(data + at, most - at, &one);
    return most - at;
}

/* Its size in JSON, or room where it is larger. */
static size_t output_size(const char *data, size_t length, size_t room, enum text_encoding encoding)
{
    size_t used;
    if (encoding == ENCODING_BASE64)
        return bytes_fit(length, room) < length ? room : (length + 2) / 3 * 4;
    return text_fits(data, length, room, &used) < length ? room : used;
}

void write_encoded(struct json_writer *json, const char *key, const char *data, size_t length,
                   enum text_encoding encoding)
{
    if (encoding == ENCODING_BASE64)
        json_base64(json, key, data, length);
    else
        json_bytes(json, key, data, length);
}

bool write_content(struct json_writer *json, const char *data, size_t length,
                   enum text_encoding encoding, size_t room)
{
    size_t told = encoding == ENCODING_BASE64 ? length : fits(data, length, room, encoding);
    write_encoded(json, "content", data, told, encoding);
    return told < length;
}

/* Output with a line in its hole that says how much is left out; at most room bytes once escaped.
 * Gives whether anything is left out. */
static bool write_output(struct json_writer *json, const char *key, const char *data, size_t length,
                         size_t head, uint64_t omitted, enum text_encoding encoding, size_t room)
{
    size_t tail = length - head;
    if (fits(data, length, room, encoding) < length) {
        size_t kept_head = fits(data, head, room / 2, encoding), rest = length - kept_head;
        size_t kept_tail = fits_from_end(data + kept_head, rest, room / 2, encoding);
        /* Where there is a hole already, the end stays behind it. */
        if (omitted && kept_tail > tail)
            kept_tail = tail;
        omitted += length - kept_head - kept_tail;
        head = kept_head;
        tail = kept_tail;
    }
    if (!omitted) {
        write_encoded(json, key, data, length, encoding);
        return false;
    }
    auto_buf struct buf text = {0};
    int error = buf_append(&text, data, head);
    if (!error && encoding == ENCODING_UTF8)
        error = buf_printf(&text, "\n[%" PRIu64 " bytes left out]\n", omitted);
    if (!error)
        error = buf_append(&text, data + length - tail, tail);
    if (error && !json->error)
        json->error = error;
    write_encoded(json, key, text.data, text.length, encoding);
    return true;
}

bool write_streams(struct json_writer *json, const struct exec_status *status,
                   enum text_encoding encoding, size_t stream_room)
{
    size_t command =
        output_size(status->command, strlen(status->command), CALL_TEXTS_ROOM / 2, ENCODING_UTF8);
    size_t room = CALL_TEXTS_ROOM - command, half = room / 2; /* the answer repeats it */
    size_t out = output_size(status->stdout_data, status->stdout_length, half, encoding);
    size_t err = output_size(status->stderr_data, status->stderr_length, half, encoding);
    size_t out_room = room - err, err_room = room - out;
    bool cut = write_output(json, "stdout", status->stdout_data, status->stdout_length,
                            status->stdout_head, status->stdout_omitted, encoding,
                            out_room < stream_room ? out_room : stream_room);
    return write_output(json, "stderr", status->stderr_data, status->stderr_length,
                        status->stderr_head, status->stderr_omitted, encoding,
                        err_room < stream_room ? err_room : stream_room) ||
           cut;
}

size_t streams_size(const struct exec_status *status, enum text_encoding encoding,
                    size_t stream_room)
{
    return output_size(status->command, strlen(status->command), SIZE_MAX, ENCODING_UTF8) +
           output_size(status->stdout_data, status->stdout_length, stream_room, encoding) +
           output_size(status->stderr_data, status->stderr_length, stream_room, encoding);
}
