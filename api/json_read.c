#include "api/json_read.h"

#include "base/text.h"

#include <malloc.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 4096     /* in one object */
#define VALUES_MAX 100000 /* in all: each costs the tree many times its bytes */

struct reader {
    const char *start, *at, *end;
    unsigned depth, values;
    uint64_t hash_key; /* of the keys; 0: not drawn yet */
    const char *problem;
    bool unwanted; /* the problem is no fault of the grammar */
};

static bool fail(struct reader *reader, const char *problem)
{
    if (!reader->problem)
        reader->problem = problem;
    return false;
}

/* For what is JSON, and refused all the same. */
static bool refuse(struct reader *reader, const char *problem)
{
    reader->unwanted = reader->unwanted || !reader->problem;
    return fail(reader, problem);
}

static void skip_blanks(struct reader *reader)
{
    while (reader->at < reader->end && *reader->at && strchr(" \t\r\n", *reader->at))
        reader->at++;
}

static bool take(struct reader *reader, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0)
        return false;
    reader->at += length;
    return true;
}

static int hex_quad(struct reader *reader)
{
    int value = 0;
    if (reader->end - reader->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char digit = *reader->at++;
        int nibble = digit >= '0' && digit <= '9'   ? digit - '0'
                     : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                     : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                                    : -1;
        if (nibble < 0)
            return -1;
        value = value * 16 + nibble;
    }
    return value;
}

static bool check_escape(struct reader *reader)
{
    if (reader->at == reader->end)
        return fail(reader, "a string that does not end");
    char kind = *reader->at++;
    if (kind && strchr("\"\\/bfnrt", kind))
        return true;
    if (kind != 'u')
        return fail(reader, "an unknown escape");
    int unit = hex_quad(reader);
    if (unit < 0)
        return fail(reader, "a bad \\u escape");
    if (unit == 0)
        return refuse(reader, "a NUL character");
    if (unit >= 0xdc00 && unit <= 0xdfff)
        return refuse(reader, "a lone surrogate");
    if (unit < 0xd800 || unit > 0xdbff)
        return true;
    if (!take(reader, "\\u"))
        return refuse(reader, "a lone surrogate");
    unit = hex_quad(reader);
    return (unit >= 0xdc00 && unit <= 0xdfff) || refuse(reader, "a lone surrogate");
}

static bool check_string(struct reader *reader)
{
    reader->at++; /* the quote */
    while (reader->at < reader->end) {
        unsigned char byte = (unsigned char)*reader->at;
        if (byte == '"') {
            reader->at++;
            return true;
        }
        if (byte < 0x20)
            return fail(reader, "a control character in a string");
        if (byte == '\\') {
            reader->at++;
            if (!check_escape(reader))
                return false;
            continue;
        }
        size_t step = utf8_sequence(reader->at, (size_t)(reader->end - reader->at));
        if (!step)
            return fail(reader, "bytes that are no UTF-8");
        reader->at += step;
    }
    return fail(reader, "a string that does not end");
}

static bool digits(struct reader *reader)
{
    const char *first = reader->at;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
        reader->at++;
    return reader->at > first;
}

static bool check_number(struct reader *reader)
{
    const char *first = reader->at;
    take(reader, "-");
    if (take(reader, "0")) {
        if (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
            return fail(reader, "a number with a leading zero");
    } else if (!digits(reader)) {
        return fail(reader, "something that is no value");
    }
    if (take(reader, ".") && !digits(reader))
        return fail(reader, "a number without digits after its point");
    if (take(reader, "e") || take(reader, "E")) {
        if (!take(reader, "+"))
            take(reader, "-");
        if (!digits(reader))
            return fail(reader, "a number without digits in its exponent");
    }
    char text[64];
    size_t length = (size_t)(reader->at - first);
    if (length >= sizeof text)
        return refuse(reader, "a number of more than 63 characters");
    memcpy(text, first, length);
    text[length] = '\0';
    return isfinite(strtod(text, NULL)) || refuse(reader, "a number that is too large");
}

static bool check_value(struct reader *reader);

struct key {
    const char *start; /* its opening quote */
    uint64_t hash;     /* of what it means */
};

/* The next byte of a key as it is meant: escapes are UTF-8 too. pending holds the rest of one. */
struct spelling {
    const char *at;
    char pending[5];
    unsigned pending_at;
};

static void put_point(struct spelling *spelling, uint32_t point)
{
    char *out = spelling->pending;
    spelling->pending_at = 0;
    if (point < 0x80) {
        *out++ = (char)point;
    } else if (point < 0x800) {
        *out++ = (char)(0xc0 | point >> 6);
        *out++ = (char)(0x80 | (point & 0x3f));
    } else {
        if (point < 0x10000) {
            *out++ = (char)(0xe0 | point >> 12);
        } else {
            *out++ = (char)(0xf0 | point >> 18);
            *out++ = (char)(0x80 | (point >> 12 & 0x3f));
        }
        *out++ = (char)(0x80 | (point >> 6 & 0x3f));
        *out++ = (char)(0x80 | (point & 0x3f));
    }
    *out = '\0';
}

/* 0 at the key's closing quote; the key has passed check_string. */
static unsigned char next_byte(struct spelling *spelling)
{
    static const char names[] = "bfnrt", meant[] = "\b\f\n\r\t";
    if (spelling->pending[spelling->pending_at])
        return (unsigned char)spelling->pending[spelling->pending_at++];
    if (*spelling->at == '"')
        return 0;
    if (*spelling->at != '\\')
        return (unsigned char)*spelling->at++;
    char kind = spelling->at[1];
    const char *name = strchr(names, kind);
    spelling->at += 2;
    if (kind != 'u')
        return (unsigned char)(name ? meant[name - names] : kind);
    struct reader quad = {.at = spelling->at, .end = spelling->at + 4};
    uint32_t point = (uint32_t)hex_quad(&quad);
    spelling->at += 4;
    if (point >= 0xd800 && point <= 0xdbff) {
        quad = (struct reader){.at = spelling->at + 2, .end = spelling->at + 6};
        point = 0x10000 + ((point - 0xd800) << 10) + ((uint32_t)hex_quad(&quad) - 0xdc00);
        spelling->at += 6;
    }
    put_point(spelling, point);
    return (unsigned char)spelling->pending[spelling->pending_at++];
}

/* A polynomial over 2^61 - 1 at a point that nobody can guess: who writes keys cannot make them
 * meet, so that each is read once and not once for each that it is held against. */
static uint64_t hash_of(const struct reader *reader, const char *start)
{
    static const uint64_t prime = (UINT64_C(1) << 61) - 1;
    struct spelling spelling = {.at = start + 1};
    uint64_t hash = 0;
    for (unsigned char byte; (byte = next_byte(&spelling));) {
        unsigned __int128 product = (unsigned __int128)hash * reader->hash_key + byte;
        hash = (uint64_t)(product & prime) + (uint64_t)(product >> 61);
        hash = hash >= prime ? hash - prime : hash;
    }
    return hash;
}

static int compare_hashes(const void *left, const void *right)
{
    uint64_t one = ((const struct key *)left)->hash, other = ((const struct key *)right)->hash;
    return one < other ? -1 : one > other;
}

static bool same_key(const struct key *left, const struct key *right)
{
    struct spelling a = {.at = left->start + 1}, b = {.at = right->start + 1};
    if (left->hash != right->hash)
        return false;
    for (;;) {
        unsigned char one = next_byte(&a), other = next_byte(&b);
        if (one != other || !one)
            return one == other;
    }
}

static bool check_duplicates(struct reader *reader, struct key *keys, size_t count)
{
    if (count < 2)
        return true;
    while (!reader->hash_key) {
        randombytes_buf(&reader->hash_key, sizeof reader->hash_key);
        reader->hash_key >>= 4;
    }
    for (size_t i = 0; i < count; i++)
        keys[i].hash = hash_of(reader, keys[i].start);
    qsort(keys, count, sizeof *keys, compare_hashes);
    for (size_t i = 1; i < count; i++)
        if (same_key(&keys[i - 1], &keys[i])) {
            reader->at = keys[i].start;
            return refuse(reader, "a key that stands twice");
        }
    return true;
}

static bool check_members(struct reader *reader, struct key **keys, size_t *count)
{
    size_t capacity = 0;
    do {
        skip_blanks(reader);
        if (reader->at == reader->end || *reader->at != '"')
            return fail(reader, "a key that is no string");
        const char *start = reader->at;
        if (!check_string(reader))
            return false;
        if (*count == KEYS_MAX)
            return refuse(reader, "an object of too many keys");
        if (*count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            struct key *grown = realloc(*keys, capacity * sizeof *grown);
            if (!grown)
                return fail(reader, "more than there is memory for");
            *keys = grown;
        }
        (*keys)[(*count)++] = (struct key){.start = start};
        skip_blanks(reader);
        if (!take(reader, ":"))
            return fail(reader, "a key without a value");
        if (!check_value(reader))
            return false;
        skip_blanks(reader);
    } while (take(reader, ","));
    return take(reader, "}") || fail(reader, "an object that does not end");
}

static bool check_object(struct reader *reader)
{
    reader->at++;
    skip_blanks(reader);
    if (take(reader, "}"))
        return true;
    struct key *keys = NULL;
    size_t count = 0;
    bool good = check_members(reader, &keys, &count) && check_duplicates(reader, keys, count);
    free(keys);
    return good;
}

static bool check_array(struct reader *reader)
{
    reader->at++;
    skip_blanks(reader);
    if (take(reader, "]"))
        return true;
    do {
        if (!check_value(reader))
            return false;
        skip_blanks(reader);
    } while (take(reader, ","));
    return take(reader, "]") || fail(reader, "an array that does not end");
}

static bool check_value(struct reader *reader)
{
    skip_blanks(reader);
    if (reader->at == reader->end)
        return fail(reader, "nothing where a value should be");
    if (++reader->values > VALUES_MAX) /* no refusal: nothing of it is looked for in a tree */
        return fail(reader, "more values than a request may have");
    switch (*reader->at) {
    case '{':
    case '[': {
        if (reader->depth == JSON_DEPTH_MAX)
            return refuse(reader, "nesting that is too deep");
        reader->depth++;
        bool good = *reader->at == '{' ? check_object(reader) : check_array(reader);
        reader->depth--;
        return good;
    }
    case '"':
        return check_string(reader);
    case 't':
        return take(reader, "true") || fail(reader, "something that is no value");
    case 'f':
        return take(reader, "false") || fail(reader, "something that is no value");
    case 'n':
        return take(reader, "null") || fail(reader, "something that is no value");
    default:
        return check_number(reader);
    }
}

static int check(const char *text, size_t length, bool *ret_unwanted,
                 struct hearth_failure *failure)
{
    struct reader reader = {.start = text, .at = text, .end = text + length};
    bool good = check_value(&reader);
    skip_blanks(&reader);
    if (good && reader.at != reader.end)
        fail(&reader, "something after the value");
    *ret_unwanted = reader.unwanted;
    if (!reader.problem)
        return 0;
    return hearth_fail(failure, HEARTH_EMALFORMED, "malformed_json",
                       "the JSON holds %s at byte %zu", reader.problem,
                       (size_t)(reader.at - reader.start));
}

int json_check(const char *text, size_t length, struct hearth_failure *failure)
{
    bool unwanted;
    return check(text, length, &unwanted, failure);
}

int json_parse_envelope(cJSON **ret_tree, const char *text, size_t length,
                        struct hearth_failure *failure)
{
    bool unwanted;
    int error = check(text, length, &unwanted, failure);
    *ret_tree = NULL;
    if (error && !unwanted)
        return error;
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, length, &end, false);
    while (tree && end < text + length && strchr(" \t\r\n", *end) && *end)
        end++;
    if (error && tree && end != text + length) {
        cJSON_Delete(tree);
        tree = NULL;
    }
    *ret_tree = tree;
    if (!error && !tree)
        error = hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    return error;
}

static void wipe_and_free(void *memory)
{
    if (memory)
        explicit_bzero(memory, malloc_usable_size(memory));
    free(memory);
}

void json_wipe_what_is_freed(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = malloc, .free_fn = wipe_and_free});
}

int json_parse(cJSON **ret_tree, const char *text, size_t length, struct hearth_failure *failure)
{
    int error = json_check(text, length, failure);
    if (error)
        return error;
    *ret_tree = cJSON_ParseWithLength(text, length);
    return *ret_tree ? 0 : hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
}

bool json_integer_of(const cJSON *item, int64_t *ret_value)
{
    /* 2^53: past it a double skips numbers. */
    if (!cJSON_IsNumber(item) || item->valuedouble != floor(item->valuedouble) ||
        fabs(item->valuedouble) > 9007199254740992.0)
        return false;
    *ret_value = (int64_t)item->valuedouble;
    return true;
}
