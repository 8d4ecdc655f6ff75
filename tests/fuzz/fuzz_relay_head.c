/* api/relay_head.c: a byte that says how (odd: the answer is one to HEAD; the rest: how long the
 * pieces of the body are), an answer's head, and what follows it as a chunked body. */
#include "fuzz.h"

#include "api/relay_head.h"
#include "base/buf.h"

#include <string.h>

static void check_head(const struct relay_head *head, bool to_head)
{
    PROMISE(head->status >= 100 && head->status <= 599);
    PROMISE(head->header_count <= RELAY_HEADERS_MAX);
    PROMISE(!to_head || head->framing == RELAY_NONE);
    PROMISE(head->framing != RELAY_LENGTH || head->has_length);
    PROMISE(head->framing != RELAY_CHUNKED || !head->has_length);
    for (size_t i = 0; i < head->header_count; i++) {
        PROMISE(*head->headers[i].name && !strpbrk(head->headers[i].name, " \t\r\n:"));
        PROMISE(!strpbrk(head->headers[i].value, "\r\n\x7f"));
        PROMISE(!relay_is_hop_by_hop(head->headers[i].name, NULL));
    }
}

static void collect(void *arg, const char *data, size_t length)
{
    PROMISE(buf_append(arg, data, length) == 0);
}

/* The content comes out the same however it comes in. */
static void check_chunks(const char *data, size_t length, size_t piece)
{
    struct relay_chunks whole = {0}, pieces = {0};
    auto_buf struct buf wanted = {0}, got = {0};
    int end = relay_chunks_take(&whole, data, length, collect, &wanted), now = 0;
    PROMISE(wanted.length <= length);
    for (size_t at = 0; at < length && !now; at += piece)
        now = relay_chunks_take(&pieces, data + at, length - at < piece ? length - at : piece,
                                collect, &got);
    PROMISE(now == end);
    PROMISE(got.length == wanted.length &&
            (!got.length || memcmp(got.data, wanted.data, got.length) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct relay_head head;
    if (!size)
        return 0;
    bool to_head = data[0] & 1;
    const char *text = (const char *)data + 1;
    size_t end = relay_head_end(text, size - 1);
    PROMISE(end <= size - 1);
    if (!end)
        return 0;
    PROMISE(text[end - 1] == '\n');
    char *copy = malloc(end + 1);
    memcpy(copy, text, end);
    copy[end] = '\0';
    if (relay_head_parse(copy, end, to_head, &head, &failure) == 0)
        check_head(&head, to_head);
    else
        PROMISE(strcmp(failure.code, "port_not_http") == 0 && *failure.hint);
    free(copy);
    check_chunks(text + end, size - 1 - end, 1 + data[0] / 2 % 16);
    return 0;
}
