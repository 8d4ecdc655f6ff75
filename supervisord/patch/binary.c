/* git's binary patches: base85 of deflated bytes, which are the new content or, as a delta, what is
 * to be taken from the old one. What each comes to is bounded by what it says of itself. */
#include "supervisord/patch/internal.h"

#include "base/buf.h"
#include "supervisord/tree/blob_id.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define LINE_BYTES_MAX 52 /* of content in a line */
#define ID_LENGTH 40

/* Reading the text. */

static int base85_digit(char c)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                 "!#$%&()*+-;<=>?@^_`{|}~";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* The first character of a line tells how many bytes it holds. */
static size_t line_bytes(char c)
{
    return c >= 'A' && c <= 'Z'   ? (size_t)(c - 'A') + 1
           : c >= 'a' && c <= 'z' ? (size_t)(c - 'a') + 27
                                  : 0;
}

/* Five digits are four bytes, the last of which a line may not need. */
static bool decode_line(const char *line, size_t length, unsigned char out[LINE_BYTES_MAX],
                        size_t *ret_bytes)
{
    size_t bytes = length ? line_bytes(line[0]) : 0;
    if (!bytes || length != 1 + (bytes + 3) / 4 * 5)
        return false;
    for (size_t at = 0; at < bytes; at += 4) {
        uint64_t value = 0;
        for (size_t i = 0; i < 5; i++) {
            int digit = base85_digit(line[1 + at / 4 * 5 + i]);
            if (digit < 0)
                return false;
            value = value * 85 + (uint64_t)digit;
        }
        if (value > UINT32_MAX)
            return false;
        for (size_t i = 0; i < 4 && at + i < bytes; i++)
            out[at + i] = (unsigned char)(value >> (24 - 8 * i));
    }
    *ret_bytes = bytes;
    return true;
}

static bool next_line(struct patch_text *text, const char **ret_line, size_t *ret_length)
{
    if (!patch_peek(text, ret_line, ret_length))
        return false;
    if (*ret_length && (*ret_line)[*ret_length - 1] == '\r')
        (*ret_length)--;
    return true;
}

/* "literal 123" and lines up to an empty one; *ret_there false where none begins here. */
static int take_part(struct patch_text *text, struct patch_binary *part, bool *ret_there,
                     struct hearth_failure *failure)
{
    const char *line;
    size_t length, bytes;
    unsigned char decoded[LINE_BYTES_MAX];
    bool there = next_line(text, &line, &length);
    bool literal = there && patch_line_is(line, length, "literal ");
    *ret_there = literal || (there && patch_line_is(line, length, "delta "));
    if (!*ret_there)
        return 0;
    const char *at = line + strlen(literal ? "literal " : "delta "), *end = line + length;
    if (!patch_take_number(&at, end, &part->size) || at != end)
        return patch_malformed(failure, text->number + 1, "literal or delta, and a size in bytes");
    part->kind = literal ? PATCH_LITERAL : PATCH_DELTA;
    patch_next(text);
    part->text = text->at;
    while (next_line(text, &line, &length) && length) {
        if (!decode_line(line, length, decoded, &bytes))
            return patch_malformed(failure, text->number + 1, "it is no line of a binary patch");
        patch_next(text);
    }
    part->length = (size_t)(text->at - part->text);
    if (text->at != text->end)
        patch_next(text);
    return 0;
}

int patch_parse_binary(struct patch_file *file, struct patch_text *text,
                       struct hearth_failure *failure)
{
    struct patch_binary back = {0}; /* how to undo it: nothing that is of use here */
    bool there = false;
    patch_next(text);
    int error = take_part(text, &file->binary, &there, failure);
    if (!error && !there)
        error = patch_malformed(failure, text->number + 1, "literal or delta was expected");
    return error ? error : take_part(text, &back, &there, failure);
}

/* Applying. */

struct output {
    char *data; /* owned */
    size_t length, size;
};

static int inflate_lines(const struct patch_binary *binary, z_stream *stream)
{
    struct patch_text text = {.at = binary->text, .end = binary->text + binary->length};
    const char *line;
    size_t length, bytes;
    unsigned char decoded[LINE_BYTES_MAX];
    int status = Z_OK;
    while (status == Z_OK && next_line(&text, &line, &length) && length) {
        if (!decode_line(line, length, decoded, &bytes))
            return Z_DATA_ERROR;
        stream->next_in = decoded;
        stream->avail_in = (uInt)bytes;
        status = inflate(stream, Z_NO_FLUSH);
        patch_next(&text);
        if (status == Z_BUF_ERROR && !stream->avail_in)
            status = Z_OK;
        else if (status == Z_OK && stream->avail_in)
            return Z_DATA_ERROR; /* more than the size that is told */
    }
    return status;
}

/* 0, HEARTH_EINVALID where it is not what it says, or HEARTH_ENOMEMORY. */
static int inflate_all(const struct patch_binary *binary, struct output *out)
{
    z_stream stream = {0};
    out->size = binary->size;
    /* A byte more: zlib wants room to see the end of an empty stream. */
    out->data = malloc(out->size + 1);
    if (!out->data || inflateInit(&stream) != Z_OK)
        return HEARTH_ENOMEMORY;
    stream.next_out = (unsigned char *)out->data;
    stream.avail_out = (uInt)out->size + 1;
    int status = inflate_lines(binary, &stream);
    out->length = stream.total_out;
    inflateEnd(&stream);
    return status == Z_STREAM_END && out->length == out->size ? 0 : HEARTH_EINVALID;
}

struct delta {
    const unsigned char *at, *end;
};

static bool take_size(struct delta *delta, uint64_t *ret_size)
{
    uint64_t size = 0;
    for (unsigned shift = 0; delta->at < delta->end && shift < 56; shift += 7) {
        unsigned char byte = *delta->at++;
        size |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_size = size;
            return true;
        }
    }
    return false;
}

/* The bytes of a little-endian number that are not zero; bits of the command say which. */
static bool take_sparse(struct delta *delta, unsigned bits, unsigned count, size_t *ret_value)
{
    size_t value = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!(bits >> i & 1))
            continue;
        if (delta->at == delta->end)
            return false;
        value |= (size_t)*delta->at++ << (8 * i);
    }
    *ret_value = value;
    return true;
}

static bool run_delta(struct delta *delta, const char *old, size_t old_length, struct output *out)
{
    while (delta->at < delta->end) {
        unsigned char command = *delta->at++;
        size_t offset = 0, length = command;
        const char *from = (const char *)delta->at;
        if (command & 0x80) {
            if (!take_sparse(delta, command & 0x0f, 4, &offset) ||
                !take_sparse(delta, command >> 4 & 7, 3, &length))
                return false;
            length = length ? length : 0x10000;
            if (offset > old_length || length > old_length - offset)
                return false;
            from = old + offset;
        } else if (!command || length > (size_t)(delta->end - delta->at)) {
            return false;
        } else {
            delta->at += length;
        }
        if (length > out->size - out->length)
            return false;
        memcpy(out->data + out->length, from, length);
        out->length += length;
    }
    return out->length == out->size;
}

static int apply_delta(const struct output *inflated, const char *old, size_t old_length,
                       size_t room, struct output *out)
{
    struct delta delta = {.at = (const unsigned char *)inflated->data};
    uint64_t from, to;
    delta.end = delta.at + inflated->length;
    if (!take_size(&delta, &from) || !take_size(&delta, &to) || from != old_length)
        return HEARTH_EINVALID;
    if (to > room)
        return HEARTH_ETOOLARGE;
    out->size = (size_t)to;
    out->data = malloc(out->size + 1);
    if (!out->data)
        return HEARTH_ENOMEMORY;
    return run_delta(&delta, old, old_length, out) ? 0 : HEARTH_EINVALID;
}

static int refuse(struct hearth_failure *failure, const struct patch_file *file, const char *path,
                  const char *code, const char *what)
{
    enum hearth_error error =
        strcmp(code, "patch_does_not_apply") == 0 ? HEARTH_ECONFLICT : HEARTH_EINVALID;
    hearth_fail(failure, error, code, "%.200s (line %zu of the patch): %s", path, file->at_line,
                what);
    hearth_failure_field(failure, "/patch");
    hearth_failure_hint(failure, "Make it with `git diff --binary --full-index`, or write the "
                                 "file with workspace_file_write. Nothing was changed.");
    return (int)error;
}

/* What git looks at as well: a delta on other content, or a damaged patch, would give something
 * that nobody has ever had. */
static int check_id(const struct patch_file *file, const char *path, bool old, const char *content,
                    size_t length, struct hearth_failure *failure)
{
    char id[ID_LENGTH + 1];
    const char *told = old ? file->old_id : file->new_id;
    bool nothing = old ? file->kind == PATCH_ADD : file->kind == PATCH_DELETE;
    if (nothing)
        return 0;
    if (strlen(told) != ID_LENGTH)
        return refuse(failure, file, path, "patch_binary", "its index line has no full hashes");
    int error = tree_blob_id(id, content, length, failure);
    if (error || strcmp(id, told) == 0)
        return error;
    return refuse(failure, file, path, "patch_does_not_apply",
                  old ? "it is not the file that the binary patch was made of"
                      : "the binary patch does not give what its index line says");
}

int patch_apply_binary(const struct patch_file *file, const char *path, const char *content,
                       size_t length, size_t room, char **ret_content, size_t *ret_length,
                       struct hearth_failure *failure)
{
    struct output inflated = {0}, made = {0};
    int error = check_id(file, path, true, content, length, failure);
    if (error)
        return error;
    error = file->binary.size > room ? HEARTH_ETOOLARGE : inflate_all(&file->binary, &inflated);
    if (!error && file->binary.kind == PATCH_DELTA) {
        error = apply_delta(&inflated, content, length, room, &made);
        free(inflated.data);
    } else {
        made = inflated;
    }
    if (error == HEARTH_EINVALID)
        error = refuse(failure, file, path, "patch_malformed", "the binary patch is damaged");
    else if (error == HEARTH_ETOOLARGE)
        error = patch_out_of_room(failure);
    else if (error)
        hearth_fail(failure, (enum hearth_error)error, NULL, "no memory for %.200s", path);
    else
        error = check_id(file, path, false, made.data, made.length, failure);
    if (error) {
        free(made.data);
        return error;
    }
    made.data[made.length] = '\0';
    *ret_content = made.data;
    *ret_length = made.length;
    return 0;
}
