#include "base/id.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

void id_random_bytes(void *out, size_t length)
{
    char *cursor = out;
    while (length) {
        size_t turn = length > 256 ? 256 : length;
        if (getrandom(cursor, turn, 0) != (ssize_t)turn)
            abort();
        cursor += turn;
        length -= turn;
    }
}

void id_random_text(char *out, size_t length)
{
    unsigned char bytes[64];
    for (size_t i = 0; i < length; i++) {
        if (i % sizeof bytes == 0)
            id_random_bytes(bytes, sizeof bytes);
        out[i] = alphabet[bytes[i % sizeof bytes] & 31];
    }
    out[length] = '\0';
}

void id_make(char out[ID_SIZE], const char *prefix, const char *node_tag)
{
    char random[15];
    id_random_text(random, sizeof random - 1);
    snprintf(out, ID_SIZE, "%.3s_%.2s%s", prefix, node_tag, random);
}

static bool all_base32(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] == '\0' || !strchr(alphabet, text[i]))
            return false;
    return true;
}

bool id_node_tag_valid(const char *text)
{
    return strlen(text) == ID_NODE_TAG_LENGTH && all_base32(text, ID_NODE_TAG_LENGTH);
}

bool id_valid(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 && text[length] == '_' &&
           strlen(text + length + 1) == 16 && all_base32(text + length + 1, 16);
}
