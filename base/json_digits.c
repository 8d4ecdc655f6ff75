#include "base/json_digits.h"

#include <string.h>

struct cursor {
    const char *at, *end;
};

static void skip_blanks(struct cursor *cursor)
{
    while (cursor->at < cursor->end && *cursor->at && strchr(" \t\r\n", *cursor->at))
        cursor->at++;
}

static bool take(struct cursor *cursor, char character)
{
    bool there = cursor->at < cursor->end && *cursor->at == character;
    cursor->at += there;
    return there;
}

/* From behind its first quote to behind its last. */
static bool skip_string(struct cursor *cursor)
{
    for (; cursor->at < cursor->end; cursor->at++) {
        if (*cursor->at == '"') {
            cursor->at++;
            return true;
        }
        cursor->at += *cursor->at == '\\';
    }
    return false;
}

static bool skip_value(struct cursor *cursor)
{
    unsigned depth = 0;
    while (cursor->at < cursor->end) {
        char character = *cursor->at;
        bool closes = character == '}' || character == ']';
        if (!depth && (closes || character == ','))
            return true;
        cursor->at++;
        depth += character == '{' || character == '[';
        depth -= closes;
        if (character == '"' && !skip_string(cursor))
            return false;
    }
    return false;
}

/* Goes to the value of the object's member. */
static bool find(struct cursor *cursor, const char *name)
{
    size_t length = strlen(name);
    skip_blanks(cursor);
    if (!take(cursor, '{'))
        return false;
    do {
        skip_blanks(cursor);
        const char *key = cursor->at + 1;
        if (!take(cursor, '"') || !skip_string(cursor))
            return false;
        bool wanted = (size_t)(cursor->at - 1 - key) == length && memcmp(key, name, length) == 0;
        skip_blanks(cursor);
        if (!take(cursor, ':'))
            return false;
        skip_blanks(cursor);
        if (wanted)
            return true;
    } while (skip_value(cursor) && take(cursor, ','));
    return false;
}

bool json_digits(const char *text, size_t length, const char *const *path, const char **ret_digits,
                 size_t *ret_length)
{
    struct cursor cursor = {text, text + length};
    for (; *path; path++)
        if (!find(&cursor, *path))
            return false;
    const char *begin = cursor.at;
    take(&cursor, '-');
    const char *digits = cursor.at;
    while (cursor.at < cursor.end && *cursor.at >= '0' && *cursor.at <= '9')
        cursor.at++;
    if (cursor.at == digits || cursor.at == cursor.end || !*cursor.at ||
        !strchr(",}] \t\r\n", *cursor.at))
        return false;
    *ret_digits = begin;
    *ret_length = (size_t)(cursor.at - begin);
    return true;
}
