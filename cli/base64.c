#include "cli/base64.h"

#include "base/failure.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int value_of(char character)
{
    const char *at = character ? strchr(alphabet, character) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

int base64_decode(struct buf *out, const char *text)
{
    size_t length = strlen(text);
    if (length % 4)
        return HEARTH_EINVALID;
    for (size_t i = 0; i < length; i += 4) {
        /* Padding is one or two '=' in the last four, nowhere else. */
        bool last = i + 4 == length;
        size_t given = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 3) : 4;
        uint32_t bits = 0;
        for (size_t j = 0; j < 4; j++) {
            int value = j < given ? value_of(text[i + j]) : 0;
            if (value < 0)
                return HEARTH_EINVALID;
            bits = bits << 6 | (uint32_t)value;
        }
        const char bytes[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
        int error = buf_append(out, bytes, given - 1);
        if (error)
            return error;
    }
    return 0;
}
