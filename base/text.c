#include "base/text.h"

#include <string.h>

size_t utf8_sequence(const char *data, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)data;
    if (length == 0)
        return 0;
    if (bytes[0] < 0x80)
        return 1;
    size_t need = bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;
    if (bytes[0] < 0xc2 || bytes[0] > 0xf4 || length < need)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies past U+10FFFF. */
    if ((bytes[0] == 0xe0 && bytes[1] < 0xa0) || (bytes[0] == 0xed && bytes[1] > 0x9f) ||
        (bytes[0] == 0xf0 && bytes[1] < 0x90) || (bytes[0] == 0xf4 && bytes[1] > 0x8f))
        return 0;
    return need;
}

bool utf8_valid(const char *data, size_t length)
{
    for (size_t i = 0; i < length;) {
        size_t step = utf8_sequence(data + i, length - i);
        if (!step)
            return false;
        i += step;
    }
    return true;
}

int utf8_repair(struct buf *out, const char *data, size_t length)
{
    size_t start = 0;
    for (size_t i = 0; i < length;) {
        size_t step = utf8_sequence(data + i, length - i);
        if (step) {
            i += step;
            continue;
        }
        int error = buf_append(out, data + start, i - start);
        if (!error)
            error = buf_append(out, "\xef\xbf\xbd", 3);
        if (error)
            return error;
        start = ++i;
    }
    return buf_append(out, data + start, length - start);
}

int text_hex_digit(char digit)
{
    return digit >= '0' && digit <= '9'   ? digit - '0'
           : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
           : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                          : -1;
}

bool text_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

char *text_copy(const char *text)
{
    return text ? strdup(text) : NULL;
}
