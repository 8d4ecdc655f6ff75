#include "base/tar_header.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

/* Of the fields name, linkname and size. */
#define NAME_MAX_BYTES 100
#define SIZE_MAX_OCTAL (UINT64_C(077777777777))
#define NS_PER_S INT64_C(1000000000)

struct ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
    char linkname[100], magic[6], version[2], user[32], group[32];
    char device_major[8], device_minor[8], prefix[155], unused[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "a ustar header is one block");

size_t tar_padding(uint64_t size)
{
    return (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

static void octal(char *field, size_t size, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%0*llo", (int)size - 1, (unsigned long long)value);
    memcpy(field, text, size);
}

/* A full field has no NUL at its end. */
static void text_field(char *field, size_t size, const char *text)
{
    size_t length = strlen(text);
    memcpy(field, text, length < size ? length : size);
}

static int block_write(struct buf *out, const struct tar_member *member, char type, uint64_t size)
{
    struct ustar header;
    memset(&header, 0, sizeof header);
    text_field(header.name, sizeof header.name, member->path);
    octal(header.mode, sizeof header.mode, member->mode & 0777);
    octal(header.uid, sizeof header.uid, 0);
    octal(header.gid, sizeof header.gid, 0);
    octal(header.size, sizeof header.size, size > SIZE_MAX_OCTAL ? 0 : size);
    int64_t seconds = member->mtime_ns / NS_PER_S;
    octal(header.mtime, sizeof header.mtime,
          seconds > 0 && (uint64_t)seconds <= SIZE_MAX_OCTAL ? (uint64_t)seconds : 0);
    header.type = type;
    if (member->link_target)
        text_field(header.linkname, sizeof header.linkname, member->link_target);
    memcpy(header.magic, "ustar", sizeof header.magic);
    memcpy(header.version, "00", sizeof header.version);

    /* The sum of all bytes, with its own field as blanks: six digits, NUL, blank. */
    memset(header.checksum, ' ', sizeof header.checksum);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof header; i++)
        sum += ((const unsigned char *)&header)[i];
    octal(header.checksum, 7, sum);
    return buf_append(out, &header, sizeof header);
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static int pax_record(struct buf *out, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3;
    size_t length = rest;
    for (;;) {
        char digits[24];
        size_t whole = rest + (size_t)snprintf(digits, sizeof digits, "%zu", length);
        if (whole == length)
            break;
        length = whole;
    }
    return buf_printf(out, "%zu %s=%s\n", length, key, value);
}

/* "SECONDS.NANOSECONDS", where whole seconds since the epoch do not say it all. */
static int pax_time(struct buf *out, int64_t mtime_ns)
{
    if (mtime_ns >= 0 && mtime_ns % NS_PER_S == 0)
        return 0;
    char text[40];
    uint64_t distance = mtime_ns < 0 ? -(uint64_t)mtime_ns : (uint64_t)mtime_ns;
    snprintf(text, sizeof text, "%s%llu.%09llu", mtime_ns < 0 ? "-" : "",
             (unsigned long long)(distance / NS_PER_S), (unsigned long long)(distance % NS_PER_S));
    return pax_record(out, "mtime", text);
}

static bool is_text(const char *name)
{
    return !name || utf8_valid(name, strlen(name));
}

static int records_write(struct buf *out, char type, const struct buf *records)
{
    static const char zeroes[TAR_BLOCK];
    const struct tar_member pax = {.path = "pax", .mode = 0644};
    int error = block_write(out, &pax, type, records->length);
    if (!error)
        error = buf_append(out, records->data, records->length);
    if (!error)
        error = buf_append(out, zeroes, tar_padding(records->length));
    return error;
}

static int pax_write(struct buf *out, const struct tar_member *member)
{
    auto_buf struct buf records = {0};
    int error = 0;
    /* Pax names are UTF-8 unless this says that they are bytes. */
    if (!is_text(member->path) || !is_text(member->link_target))
        error = pax_record(&records, "hdrcharset", "BINARY");
    if (!error && strlen(member->path) > NAME_MAX_BYTES)
        error = pax_record(&records, "path", member->path);
    if (!error && member->link_target && strlen(member->link_target) > NAME_MAX_BYTES)
        error = pax_record(&records, "linkpath", member->link_target);
    if (!error && member->size > SIZE_MAX_OCTAL) {
        char digits[24];
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)member->size);
        error = pax_record(&records, "size", digits);
    }
    if (!error)
        error = pax_time(&records, member->mtime_ns);
    return error || !records.length ? error : records_write(out, 'x', &records);
}

int tar_comment_write(struct buf *out, const char *comment)
{
    auto_buf struct buf records = {0};
    int error = pax_record(&records, "comment", comment);
    return error ? error : records_write(out, 'g', &records);
}

int tar_header_write(struct buf *out, const struct tar_member *member)
{
    int error = pax_write(out, member);
    return error ? error : block_write(out, member, (char)member->type, member->size);
}
