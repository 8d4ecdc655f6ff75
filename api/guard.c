#include "api/guard.h"

#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BLANKS_MAX 32 /* colon and blanks between a name and its value */

/* Decodes [text, end) into out, which may be text itself. Gives the end of what was written, or
 * NULL for a bad escape, a NUL, or a byte that may not stand in a target as it is. */
static char *decode(const char *text, const char *end, char *out, bool query)
{
    for (; text < end; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte <= ' ' || byte >= 0x7f || byte == '#')
            return NULL;
        if (byte == '%') {
            int high = end - text > 2 ? text_hex_digit(text[1]) : -1;
            int low = high >= 0 ? text_hex_digit(text[2]) : -1;
            if (low < 0)
                return NULL;
            byte = (unsigned char)(high << 4 | low);
            if (byte == '\0' || (!query && (byte < ' ' || byte == 0x7f || byte == '/')))
                return NULL;
            text += 2;
        } else if (query && byte == '+') {
            byte = ' ';
        }
        *out++ = (char)byte;
    }
    return out;
}

/* No empty, "." or ".." segment; one trailing slash is the router's to judge. */
static bool path_is_plain(const char *path)
{
    for (const char *segment = path + 1;; segment++) {
        size_t length = strcspn(segment, "/");
        bool last = segment[length] == '\0';
        if (length == 0 && !last)
            return false;
        if ((length == 1 && segment[0] == '.') || (length == 2 && !strncmp(segment, "..", 2)))
            return false;
        if (last)
            return true;
        segment += length;
    }
}

static int bad_target(struct hearth_failure *failure, const char *detail)
{
    return hearth_fail(failure, HEARTH_EMALFORMED, "malformed_target", "%s", detail);
}

static int add_argument(struct guard_target *target, char *text, char *end,
                        struct hearth_failure *failure)
{
    char *equals = memchr(text, '=', (size_t)(end - text));
    char *name_end = equals ? equals : end;
    char *value = equals ? equals + 1 : end;
    char *decoded_name = decode(text, name_end, text, true);
    char *decoded_value = decode(value, end, value, true);
    if (!decoded_name || !decoded_value || !utf8_valid(text, (size_t)(decoded_name - text)) ||
        !utf8_valid(value, (size_t)(decoded_value - value)))
        return bad_target(failure, "the query has a byte or an escape that is not allowed");
    *decoded_name = *decoded_value = '\0';
    if (target->query_count == GUARD_QUERY_MAX)
        return bad_target(failure, "the query has too many arguments");
    /* Without '=' the end of the name is an empty text and as good a value as any. */
    target->query[target->query_count++] =
        (struct http_pair){.name = text, .value = equals ? value : decoded_name};
    return 0;
}

int guard_path_parse(char *text, struct guard_target *ret_target, char **ret_query,
                     struct hearth_failure *failure)
{
    ret_target->query_count = 0;
    if (text[0] != '/')
        return bad_target(failure, "the target must be a path");
    char *end = text + strlen(text);
    char *query = strchr(text, '?');
    char *path_end = decode(text, query ? query : end, text, false);
    if (!path_end)
        return bad_target(failure, "the path has a byte or an escape that is not allowed");
    *path_end = '\0';
    if (!utf8_valid(text, (size_t)(path_end - text)))
        return bad_target(failure, "the path is not UTF-8");
    if (!path_is_plain(text))
        return bad_target(failure, "the path has an empty, '.' or '..' segment");
    ret_target->path = text;
    *ret_query = query ? query + 1 : NULL;
    return 0;
}

int guard_query_parse(char *query, struct guard_target *target, struct hearth_failure *failure)
{
    char *end = query + strlen(query);
    for (char *argument = query; argument < end;) {
        char *argument_end = argument + strcspn(argument, "&");
        char *following = argument_end + 1;
        if (argument_end > argument) {
            int error = add_argument(target, argument, argument_end, failure);
            if (error)
                return error;
        }
        argument = following;
    }
    return 0;
}

int guard_target_parse(char *text, struct guard_target *ret_target, struct hearth_failure *failure)
{
    char *query;
    int error = guard_path_parse(text, ret_target, &query, failure);
    return error || !query ? error : guard_query_parse(query, ret_target, failure);
}

/* Headers that mean something to us, each allowed once. */
static const struct {
    const char *name;
    size_t length, offset;
} singletons[] = {
#define SINGLETON(text, member)                                                                    \
    {                                                                                              \
        text, sizeof text - 1, offsetof(struct guard_head, member)                                 \
    }
    SINGLETON("Host", host),
    SINGLETON("Content-Length", content_length),
    SINGLETON("Transfer-Encoding", transfer_encoding),
    SINGLETON("Expect", expect),
    SINGLETON("Authorization", authorization),
    SINGLETON("Origin", origin),
    SINGLETON("Sec-Fetch-Site", fetch_site),
    SINGLETON("X-Request-Id", request_id),
    SINGLETON("Content-Type", content_type),
    SINGLETON("Idempotency-Key", idempotency_key),
    SINGLETON("MCP-Protocol-Version", mcp_version),
    SINGLETON("Mcp-Session-Id", mcp_session_id),
    SINGLETON("Mcp-Method", mcp_method),
    SINGLETON("Mcp-Name", mcp_name),
    SINGLETON("Last-Event-ID", last_event_id),
#undef SINGLETON
};

/* RFC 9110, 5.6.2 */
static const bool token_character[256] = {
    ['!'] = true,         ['#' ... '\''] = true, ['*'] = true,         ['+'] = true,
    ['-'] = true,         ['.'] = true,          ['0' ... '9'] = true, ['A' ... 'Z'] = true,
    ['^' ... '`'] = true, ['a' ... 'z'] = true,  ['|'] = true,         ['~'] = true,
};

static int bad_header(struct hearth_failure *failure, const char *detail)
{
    return hearth_fail(failure, HEARTH_EMALFORMED, "malformed_header", "%s", detail);
}

int guard_head_add(struct guard_head *head, const char *name, size_t name_length, const char *value,
                   size_t value_length, size_t blanks, struct hearth_failure *failure)
{
    if (name_length == 0)
        return bad_header(failure, "a header has no name");
    for (size_t i = 0; i < name_length; i++) {
        if (!token_character[(unsigned char)name[i]])
            return bad_header(failure, "a header's name has a byte that is not allowed");
    }
    for (size_t i = 0; i < value_length; i++) {
        unsigned char byte = (unsigned char)value[i];
        if ((byte < ' ' && byte != '\t') || byte == 0x7f)
            return bad_header(failure, "a header's value has a control character");
    }
    if (blanks < 1 || blanks > BLANKS_MAX)
        return bad_header(failure, "a header is folded or padded too far");
    head->line_count++;
    head->byte_count += name_length + blanks + value_length;
    for (size_t i = 0; i < sizeof singletons / sizeof singletons[0]; i++) {
        if (name_length != singletons[i].length || strcasecmp(name, singletons[i].name))
            continue;
        const char **member = (const char **)(void *)((char *)head + singletons[i].offset);
        if (*member)
            return hearth_fail(failure, HEARTH_EMALFORMED, "malformed_header",
                               "the header %s is there twice", singletons[i].name);
        *member = value;
        break;
    }
    return 0;
}

int guard_head_check(const struct guard_head *head, const char *version, size_t line_length,
                     size_t block_size, struct hearth_failure *failure)
{
    if (strcmp(version, "HTTP/1.1") && strcmp(version, "HTTP/1.0"))
        return hearth_fail(failure, HEARTH_EMALFORMED, "http_version_not_supported",
                           "only HTTP/1.1 and HTTP/1.0 are spoken here");
    if (!head->host)
        return bad_header(failure, "the header Host is missing");
    if (head->transfer_encoding) {
        if (head->content_length)
            return bad_header(failure, "both Content-Length and Transfer-Encoding are there");
        if (strcasecmp(head->transfer_encoding, "chunked") || !strcmp(version, "HTTP/1.0"))
            return bad_header(failure, "only the transfer coding chunked is known");
    }
    if (head->expect && strcasecmp(head->expect, "100-continue"))
        return bad_header(failure, "only the expectation 100-continue is known");
    /* Lines end in CRLF throughout or in LF throughout: then the sizes agree to the byte. */
    size_t lines = head->line_count + 2; /* the request line and the empty one */
    size_t bytes = line_length + head->byte_count;
    if (block_size != bytes + 2 * lines && block_size != bytes + lines)
        return bad_header(failure, "the header block holds bytes that no header accounts for");
    return 0;
}

uint64_t guard_body_length(const struct guard_head *head)
{
    if (head->transfer_encoding)
        return UINT64_MAX;
    /* Digits alone and no overflow: libmicrohttpd answers 400 or 413 to all else by itself. */
    return head->content_length ? strtoull(head->content_length, NULL, 10) : 0;
}

/* Splits "host", "host:port", "[v6]" and "[v6]:port". False where it is none of them. */
static bool split_host(const char *text, size_t *ret_host_length, const char **ret_port)
{
    size_t length = text[0] == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":");
    if (length == 0 || length > strlen(text))
        return false;
    const char *rest = text + length;
    if (*rest == '\0') {
        *ret_port = NULL;
    } else {
        size_t digits = rest[0] == ':' ? strspn(rest + 1, "0123456789") : 0;
        if (digits < 1 || digits > 5 || rest[1 + digits] != '\0')
            return false;
        *ret_port = rest + 1;
    }
    *ret_host_length = length;
    return true;
}

static bool is_host(const char *text, size_t length, const char *name)
{
    return length == strlen(name) && !strncasecmp(text, name, length);
}

/* Is [text, length) an item of a comma-separated list? */
static bool listed(const char *list, const char *text, size_t length)
{
    while (list && *list) {
        list += strspn(list, ", \t");
        size_t item = strcspn(list, ", \t");
        if (item && item == length && !strncasecmp(list, text, length))
            return true;
        list += item;
    }
    return false;
}

static bool host_allowed(const char *host, uint16_t port, const char *allowed_hosts)
{
    size_t length;
    const char *port_text;
    if (!split_host(host, &length, &port_text))
        return false;
    if (listed(allowed_hosts, host, strlen(host)) || listed(allowed_hosts, host, length))
        return true;
    if (port_text && strtoul(port_text, NULL, 10) != port)
        return false;
    return is_host(host, length, "localhost") || is_host(host, length, "127.0.0.1") ||
           is_host(host, length, "[::1]");
}

int guard_origin(const struct guard_head *head, uint16_t port, const char *allowed_hosts,
                 const char *allowed_origins, struct hearth_failure *failure)
{
    /* A page of another site that got its name to point here (DNS rebinding) still says that name
     * in Host. */
    if (port && !host_allowed(head->host, port, allowed_hosts)) {
        int error = hearth_fail(failure, HEARTH_EFORBIDDEN, "host_not_allowed",
                                "the header Host names a host that is not served here");
        hearth_failure_hint(failure, "Use localhost, 127.0.0.1 or [::1] with the daemon's port, or "
                                     "add the name to allowed_hosts.");
        return error;
    }
    if (head->origin) {
        static const char scheme[] = "http://";
        size_t length = strlen(head->origin);
        if (listed(allowed_origins, head->origin, length))
            return 0;
        if (!port || strncasecmp(head->origin, scheme, sizeof scheme - 1) ||
            strcasecmp(head->origin + sizeof scheme - 1, head->host)) {
            int error = hearth_fail(failure, HEARTH_EFORBIDDEN, "origin_not_allowed",
                                    "requests from pages of this origin are not taken");
            hearth_failure_hint(failure, "Add the origin to allowed_origins if its pages may act "
                                         "for you.");
            return error;
        }
    }
    if (head->fetch_site && strcasecmp(head->fetch_site, "same-origin") &&
        strcasecmp(head->fetch_site, "none"))
        return hearth_fail(failure, HEARTH_EFORBIDDEN, "origin_not_allowed",
                           "requests from pages of other sites are not taken");
    return 0;
}

bool guard_request_id_valid(const char *text)
{
    size_t length = 0;
    for (; text[length]; length++) {
        unsigned char byte = (unsigned char)text[length];
        if (length == GUARD_REQUEST_ID_MAX || (!isalnum(byte) && !strchr("._-", byte)))
            return false;
    }
    return length > 0;
}

const char *guard_bearer(const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (strncasecmp(authorization, scheme, sizeof scheme - 1))
        return NULL;
    const char *token = authorization + sizeof scheme - 1;
    token += strspn(token, " ");
    return *token && !strpbrk(token, " \t,") ? token : NULL;
}
