#include "base/text.h"

#include <stdio.h>
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
        uint64_t eight;
        if (length - i >= sizeof eight) { /* nearly all text is ASCII */
            memcpy(&eight, data + i, sizeof eight);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                i += sizeof eight;
                continue;
            }
        }
        size_t step = utf8_sequence(data + i, length - i);
        if (!step)
            return false;
        i += step;
    }
    return true;
}

size_t utf8_begun(const char *data, size_t length)
{
    for (size_t back = 1; back < 4 && back <= length; back++) {
        unsigned char byte = (unsigned char)data[length - back];
        if ((byte & 0xc0) == 0x80)
            continue;
        size_t need = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
        return byte >= 0xc2 && byte <= 0xf4 && back < need ? back : 0;
    }
    return 0;
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

size_t utf8_length(const char *data, size_t length)
{
    size_t characters = 0;
    for (size_t i = 0; i < length; i++)
        characters += ((unsigned char)data[i] & 0xc0) != 0x80;
    return characters;
}

size_t utf8_skip(const char *data, size_t length, size_t at, uint64_t characters)
{
    while (at < length && characters--)
        for (at++; at < length && ((unsigned char)data[at] & 0xc0) == 0x80;)
            at++;
    return at;
}

int text_hex_digit(char digit)
{
    return digit >= '0' && digit <= '9'   ? digit - '0'
           : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
           : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                          : -1;
}

void text_pointer(char *out, size_t size, const char *base, const char *name)
{
    size_t used = (size_t)snprintf(out, size, "%s/", base);
    for (; *name && used + 3 < size; name++) {
        if (*name == '~' || *name == '/') {
            out[used++] = '~';
            out[used++] = *name == '~' ? '0' : '1';
        } else {
            out[used++] = (unsigned char)*name < 0x20 ? '?' : *name;
        }
    }
    out[used < size ? used : size - 1] = '\0';
}

bool text_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

size_t text_without_end(const char *text, size_t length)
{
    size_t line = strcspn(text, "\r\n"), rest = length - line;
    bool one_line =
        (rest == 1 && text[line] == '\n') || (rest == 2 && !memcmp(text + line, "\r\n", 2));
    return one_line ? line : length;
}

const char *text_literal(const char *const *list, const char *text)
{
    for (; list[1] && strcmp(*list, text) != 0; list++)
        ;
    return *list;
}

char *text_copy(const char *text)
{
    return text ? strdup(text) : NULL;
}
