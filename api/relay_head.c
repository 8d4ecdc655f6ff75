#include "api/relay_head.h"

#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OVERHEAD_MAX 16384 /* of one chunk's extension, and of the trailers */
#define SIZE_DIGITS_MAX 15

static const char token_characters[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

int relay_not_http(struct hearth_failure *failure, const char *why)
{
    int error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "port_not_http",
                            "what listens on this port does not speak HTTP: %s", why);
    hearth_failure_hint(failure, "Ask a port that serves HTTP/1.1 without TLS; others can be "
                                 "published, and reached from inside.");
    return error;
}

size_t relay_head_end(const char *bytes, size_t length)
{
    for (size_t i = 0; i + 1 < length; i++) {
        if (bytes[i] != '\n')
            continue;
        if (bytes[i + 1] == '\n')
            return i + 2;
        if (bytes[i + 1] == '\r' && i + 2 < length && bytes[i + 2] == '\n')
            return i + 3;
    }
    return 0;
}

bool relay_list_has(const char *list, const char *token)
{
    size_t length = strlen(token);
    while (list && *list) {
        list += strspn(list, ", \t");
        size_t item = strcspn(list, ", \t");
        if (item == length && strncasecmp(list, token, length) == 0)
            return true;
        list += item;
    }
    return false;
}

bool relay_is_among(const char *name, const char *const *names)
{
    while (*names && strcasecmp(name, *names) != 0)
        names++;
    return *names != NULL;
}

bool relay_is_hop_by_hop(const char *name, const char *connection)
{
    static const char *const names[] = {"Connection",
                                        "Keep-Alive",
                                        "Proxy-Authenticate",
                                        "Proxy-Authorization",
                                        "Proxy-Connection",
                                        "TE",
                                        "Trailer",
                                        "Transfer-Encoding",
                                        "Upgrade",
                                        NULL};
    return relay_is_among(name, names) || relay_list_has(connection, name);
}

/* The next line of *text, without its end; NULL at the empty one. */
static char *take_line(char **text)
{
    char *line = *text, *end = strchr(line, '\n');
    if (!end)
        return NULL;
    *text = end + 1;
    if (end > line && end[-1] == '\r')
        end--;
    *end = '\0';
    return *line ? line : NULL;
}

static bool value_is_clean(const char *value)
{
    for (; *value; value++)
        if (((unsigned char)*value < ' ' && *value != '\t') || *value == 0x7f)
            return false;
    return true;
}

/* A header line, split in place. */
static bool split(char *line, struct http_pair *ret_pair)
{
    size_t name = strspn(line, token_characters);
    if (!name || line[name] != ':')
        return false;
    line[name] = '\0';
    char *value = line + name + 1;
    value += strspn(value, " \t");
    for (size_t length = strlen(value); length && strchr(" \t", value[length - 1]); length--)
        value[length - 1] = '\0';
    *ret_pair = (struct http_pair){.name = line, .value = value};
    return value_is_clean(value);
}

static bool take_length(struct relay_head *head, const char *value)
{
    char *end;
    if (!isdigit((unsigned char)*value) || strlen(value) > 18)
        return false;
    uint64_t length = strtoull(value, &end, 10);
    if (*end || (head->has_length && head->length != length))
        return false;
    head->has_length = true;
    head->length = length;
    return true;
}

struct framing_lines {
    const char *connection, *upgrade;
    bool chunked;
};

/* What says where the body ends, and what is for us alone. */
static const char *take_framing(struct relay_head *head, struct framing_lines *lines,
                                const struct http_pair *pair)
{
    if (strcasecmp(pair->name, "Content-Length") == 0)
        return take_length(head, pair->value) ? NULL : "its Content-Length is none";
    if (strcasecmp(pair->name, "Transfer-Encoding") == 0) {
        if (lines->chunked || strcasecmp(pair->value, "chunked") != 0)
            return "its Transfer-Encoding is not chunked alone";
        lines->chunked = true;
    } else if (strcasecmp(pair->name, "Upgrade") == 0) {
        lines->upgrade = pair->value;
    }
    return NULL;
}

static bool take_status(const char *line, int *ret_status)
{
    if (!line || strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) ||
        line[8] != ' ')
        return false;
    const char *digits = line + 9;
    if (strspn(digits, "0123456789") != 3 || (digits[3] && digits[3] != ' '))
        return false;
    *ret_status = atoi(digits);
    return *ret_status >= 100 && *ret_status <= 599;
}

static void keep_end_to_end(struct relay_head *head, const char *connection)
{
    size_t kept = 0;
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_pair *pair = &head->headers[i];
        if (!relay_is_hop_by_hop(pair->name, connection) &&
            strcasecmp(pair->name, "Content-Length") != 0)
            head->headers[kept++] = *pair;
    }
    head->header_count = kept;
}

int relay_head_parse(char *text, size_t length, bool to_head, struct relay_head *ret_head,
                     struct hearth_failure *failure)
{
    struct framing_lines lines = {0};
    char connections[256] = "";
    *ret_head = (struct relay_head){0};
    if (memchr(text, '\0', length))
        return relay_not_http(failure, "its head holds a NUL");
    if (!take_status(take_line(&text), &ret_head->status))
        return relay_not_http(failure, "there is no status line");
    for (char *line; (line = take_line(&text));) {
        struct http_pair pair;
        if (ret_head->header_count == RELAY_HEADERS_MAX)
            return relay_not_http(failure, "its head has too many lines");
        if (!split(line, &pair))
            return relay_not_http(failure, "a line of its head is no header");
        const char *wrong = take_framing(ret_head, &lines, &pair);
        if (wrong)
            return relay_not_http(failure, wrong);
        if (strcasecmp(pair.name, "Connection") == 0) {
            if (strlen(connections) + strlen(pair.value) + 2 > sizeof connections)
                return relay_not_http(failure, "its Connection header is too long");
            strcat(strcat(connections, ","), pair.value);
        }
        ret_head->headers[ret_head->header_count++] = pair;
    }
    if (lines.chunked && ret_head->has_length)
        return relay_not_http(failure, "its length is told in two ways");
    ret_head->upgrade = lines.upgrade;
    bool bare =
        to_head || ret_head->status < 200 || ret_head->status == 204 || ret_head->status == 304;
    ret_head->framing = bare                   ? RELAY_NONE
                        : lines.chunked        ? RELAY_CHUNKED
                        : ret_head->has_length ? RELAY_LENGTH
                                               : RELAY_CLOSE;
    keep_end_to_end(ret_head, connections);
    return 0;
}

/* Chunks. */

enum { SIZE, EXTENSION, DATA, DATA_END, TRAILER, ENDED };

static bool size_ended(struct relay_chunks *chunks)
{
    if (!chunks->digits)
        return false;
    chunks->state = chunks->left ? DATA : TRAILER;
    chunks->digits = chunks->overhead = 0;
    chunks->line_empty = true;
    return true;
}

/* One byte that is not content. */
static bool take_byte(struct relay_chunks *chunks, char byte)
{
    int digit;
    switch (chunks->state) {
    case SIZE:
        if ((digit = text_hex_digit(byte)) >= 0) {
            chunks->left = chunks->left * 16 + (unsigned)digit;
            return ++chunks->digits <= SIZE_DIGITS_MAX;
        }
        if (byte == '\n')
            return size_ended(chunks);
        chunks->state = EXTENSION;
        return chunks->digits && (byte == ';' || byte == '\r' || byte == ' ' || byte == '\t');
    case EXTENSION:
        return byte == '\n' ? size_ended(chunks) : ++chunks->overhead <= OVERHEAD_MAX;
    case DATA_END:
        if (byte == '\n')
            chunks->state = SIZE;
        return byte == '\n' || byte == '\r';
    case TRAILER:
        if (byte == '\n' && chunks->line_empty)
            chunks->state = ENDED;
        else if (byte != '\r')
            chunks->line_empty = byte == '\n';
        return ++chunks->overhead <= OVERHEAD_MAX;
    default:
        return false;
    }
}

int relay_chunks_take(struct relay_chunks *chunks, const char *data, size_t length,
                      void (*give)(void *arg, const char *data, size_t length), void *arg)
{
    while (length && chunks->state != ENDED) {
        if (chunks->state == DATA) {
            size_t piece = length < chunks->left ? length : (size_t)chunks->left;
            give(arg, data, piece);
            chunks->left -= piece;
            data += piece;
            length -= piece;
            if (!chunks->left)
                chunks->state = DATA_END;
            continue;
        }
        if (!take_byte(chunks, *data))
            return HEARTH_EMALFORMED;
        data++;
        length--;
    }
    return chunks->state == ENDED;
}
