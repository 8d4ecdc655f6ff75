#include "base/redact_forms.h"

#include <stdbool.h>
#include <string.h>

static const char base64_plain[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char lower_digits[] = "0123456789abcdef", upper_digits[] = "0123456789ABCDEF";

size_t redact_form_room(size_t length)
{
    return 6 * length + 16;
}

static unsigned bit(const unsigned char *value, size_t at)
{
    return value[at / 8] >> (7 - at % 8) & 1u;
}

/* The characters that are of the value alone where `before` bytes of something else precede it in
 * its group of three. */
static size_t base64_core(const unsigned char *value, size_t length, unsigned before,
                          const char *alphabet, char *out)
{
    size_t used = 0;
    /* The first group of six bits that begins in the value, counted in its own bits. */
    size_t at = (6 - before * 8 % 6) % 6;
    for (; at + 6 <= length * 8; at += 6) {
        unsigned six = 0;
        for (size_t i = 0; i < 6; i++)
            six = six << 1 | bit(value, at + i);
        out[used++] = alphabet[six];
    }
    return used;
}

/* All of it, as an encoder ends it that gets nothing else: without the padding. */
static size_t base64_whole(const unsigned char *value, size_t length, const char *alphabet,
                           char *out)
{
    size_t used = base64_core(value, length, 0, alphabet, out);
    size_t rest = length * 8 - used * 6;
    unsigned six = 0;
    if (!rest)
        return used;
    for (size_t i = 0; i < rest; i++)
        six = six << 1 | bit(value, used * 6 + i);
    out[used++] = alphabet[six << (6 - rest)];
    return used;
}

static size_t pad(char *out, size_t length)
{
    while (length % 4)
        out[length++] = '=';
    return length;
}

static void base64(const unsigned char *value, size_t length, const char *alphabet, char *scratch,
                   redact_form_visit visit, void *arg)
{
    for (unsigned before = 0; before < 3; before++)
        visit(arg, scratch, base64_core(value, length, before, alphabet, scratch));
    size_t whole = base64_whole(value, length, alphabet, scratch);
    visit(arg, scratch, whole);
    visit(arg, scratch, pad(scratch, whole));
}

static bool unreserved(unsigned char character)
{
    return (character >= 'A' && character <= 'Z') || (character >= 'a' && character <= 'z') ||
           (character >= '0' && character <= '9') || (character && strchr("-._~", (char)character));
}

/* as_is: what this encoder leaves alone besides the unreserved ones. */
static size_t percent(const unsigned char *value, size_t length, const char *as_is, bool plus,
                      const char *digits, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (unreserved(value[i]) || (value[i] && strchr(as_is, value[i]))) {
            out[used++] = (char)value[i];
        } else if (plus && value[i] == ' ') {
            out[used++] = '+';
        } else {
            out[used++] = '%';
            out[used++] = digits[value[i] >> 4];
            out[used++] = digits[value[i] & 15];
        }
    }
    return used;
}

static size_t hex(const unsigned char *value, size_t length, const char *digits, char *out)
{
    for (size_t i = 0; i < length; i++) {
        out[2 * i] = digits[value[i] >> 4];
        out[2 * i + 1] = digits[value[i] & 15];
    }
    return 2 * length;
}

/* As a terminal shows several lines. */
static size_t terminal(const unsigned char *value, size_t length, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (value[i] == '\n' && (!i || value[i - 1] != '\r'))
            out[used++] = '\r';
        out[used++] = (char)value[i];
    }
    return used;
}

/* Within quotes, as JSON and most languages write it. */
static size_t quoted(const unsigned char *value, size_t length, char *out)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        const char *found = value[i] ? strchr(escaped, value[i]) : NULL;
        if (!found && value[i] >= ' ') {
            out[used++] = (char)value[i];
            continue;
        }
        out[used++] = '\\';
        out[used++] = found ? letters[found - escaped] : 'u';
        if (found)
            continue;
        memset(out + used, '0', 2);
        out[used + 2] = lower_digits[value[i] >> 4];
        out[used + 3] = lower_digits[value[i] & 15];
        used += 4;
    }
    return used;
}

void redact_forms(const unsigned char *value, size_t length, char *scratch, redact_form_visit visit,
                  void *arg)
{
    static const char *const digits[] = {upper_digits, lower_digits};
    visit(arg, scratch, terminal(value, length, scratch));
    visit(arg, scratch, quoted(value, length, scratch));
    base64(value, length, base64_plain, scratch, visit, arg);
    base64(value, length, base64_url, scratch, visit, arg);
    for (int i = 0; i < 2; i++) {
        visit(arg, scratch, hex(value, length, digits[i], scratch));
        /* RFC 3986; with a path's slashes; a form's; what scripts in browsers leave alone. */
        visit(arg, scratch, percent(value, length, "", false, digits[i], scratch));
        visit(arg, scratch, percent(value, length, "/", false, digits[i], scratch));
        visit(arg, scratch, percent(value, length, "", true, digits[i], scratch));
        visit(arg, scratch, percent(value, length, "!*'()", false, digits[i], scratch));
    }
}
