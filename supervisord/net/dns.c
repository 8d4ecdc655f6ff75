#include "supervisord/net/dns.h"

#include <ctype.h>
#include <string.h>

#define HEADER 12
#define CLASS_IN 1
#define IS_ANSWER 0x8000
#define OPCODE 0x7800
#define RECURSION_DESIRED 0x0100
#define RECURSION_AVAILABLE 0x0080
#define CODE 0x000f
#define POINTER 0xc0
#define POINTER_TO_QUESTION (POINTER << 8 | HEADER)

static unsigned get16(const unsigned char *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get32(const unsigned char *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static unsigned char *put16(unsigned char *at, unsigned value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
    return at + 2;
}

static unsigned char *put32(unsigned char *at, uint32_t value)
{
    return put16(put16(at, value >> 16), value & 0xffff);
}

/* A name that is not compressed, as text. Gives its size in the message, 0 where it is none. */
static size_t read_name(const unsigned char *at, size_t left, char out[NET_NAME_MAX + 1])
{
    size_t used = 0, length = 0;
    while (used < left && at[used] != 0) {
        size_t label = at[used];
        if (label > 63 || used + 1 + label >= left || length + label + 1 > NET_NAME_MAX + 1)
            return 0;
        for (size_t i = 1; i <= label; i++) {
            unsigned char c = at[used + i];
            if (!isalnum(c) && c != '-' && c != '_')
                return 0;
            out[length++] = (char)tolower(c);
        }
        out[length++] = '.';
        used += label + 1;
    }
    if (used >= left)
        return 0;
    out[length ? length - 1 : 0] = '\0';
    return used + 1;
}

/* Past a name of any kind; 0 where it does not end. */
static size_t skip_name(const unsigned char *message, size_t length, size_t at)
{
    while (at < length) {
        unsigned char label = message[at];
        if (label >= POINTER)
            return at + 2 <= length ? at + 2 : 0;
        if (label > 63)
            return 0;
        at += (size_t)label + 1;
        if (label == 0)
            return at;
    }
    return 0;
}

int dns_read_query(const unsigned char *message, size_t length, struct dns_question *ret_question)
{
    struct dns_question *question = ret_question;
    if (length < HEADER || get16(message + 2) & IS_ANSWER)
        return -1;
    *question = (struct dns_question){.id = (uint16_t)get16(message),
                                      .recursion = get16(message + 2) & RECURSION_DESIRED};
    if (get16(message + 2) & OPCODE)
        return DNS_NOTIMP;
    size_t name =
        get16(message + 4) == 1 ? read_name(message + HEADER, length - HEADER, question->name) : 0;
    if (name == 0 || HEADER + name + 4 > length)
        return DNS_FORMERR;
    question->size = name + 4;
    memcpy(question->bytes, message + HEADER, question->size);
    question->type = (uint16_t)get16(message + HEADER + name);
    return get16(message + HEADER + name + 2) == CLASS_IN ? DNS_OK : DNS_NOTIMP;
}

static unsigned char *put_header(unsigned char *out, unsigned id, unsigned flags, bool question,
                                 size_t answers)
{
    out = put16(put16(out, id), flags);
    out = put16(put16(out, question), (unsigned)answers);
    return put32(out, 0);
}

static unsigned char *put_question(unsigned char *out, const struct dns_question *question)
{
    memcpy(out, question->bytes, question->size);
    return out + question->size;
}

size_t dns_write_query(unsigned char out[DNS_MESSAGE_SIZE], const struct dns_question *question,
                       uint16_t id)
{
    return (size_t)(put_question(put_header(out, id, RECURSION_DESIRED, true, 0), question) - out);
}

bool dns_read_answer(const unsigned char *message, size_t length,
                     const struct dns_question *question, uint16_t id,
                     struct dns_answer *ret_answer)
{
    char name[NET_NAME_MAX + 1];
    struct dns_answer *answer = ret_answer;
    *answer = (struct dns_answer){0};
    if (length < HEADER + question->size || get16(message) != id ||
        !(get16(message + 2) & IS_ANSWER) || get16(message + 4) != 1 ||
        read_name(message + HEADER, length - HEADER, name) + 4 != question->size ||
        strcmp(name, question->name) != 0 ||
        get16(message + HEADER + question->size - 4) != question->type)
        return false;
    answer->code = get16(message + 2) & CODE;
    size_t at = HEADER + question->size;
    for (unsigned left = get16(message + 6); left > 0; left--) {
        at = skip_name(message, length, at);
        if (at == 0 || at + 10 > length)
            break;
        const unsigned char *record = message + at;
        size_t size = get16(record + 8);
        at += 10 + size;
        if (at > length)
            break;
        if (get16(record) != DNS_A || get16(record + 2) != CLASS_IN || size != 4 ||
            answer->count == DNS_ADDRESSES_MAX)
            continue;
        answer->items[answer->count].address = get32(record + 10);
        answer->items[answer->count++].ttl_seconds = get32(record + 4);
    }
    return true;
}

size_t dns_write_answer(unsigned char out[DNS_MESSAGE_SIZE], const struct dns_question *question,
                        const struct dns_answer *answer)
{
    unsigned flags = IS_ANSWER | RECURSION_AVAILABLE | answer->code |
                     (question->recursion ? RECURSION_DESIRED : 0);
    unsigned char *at = put_header(out, question->id, flags, question->size != 0, answer->count);
    at = put_question(at, question);
    for (size_t i = 0; i < answer->count; i++) {
        at = put16(put16(put16(at, POINTER_TO_QUESTION), DNS_A), CLASS_IN);
        at = put32(at, answer->items[i].ttl_seconds);
        at = put32(put16(at, 4), answer->items[i].address);
    }
    return (size_t)(at - out);
}
