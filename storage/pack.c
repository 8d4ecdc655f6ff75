#include "storage/pack.h"

#include "base/cleanup.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define MAGIC 0x31425248u /* "HRB1" */
#define LEVEL 1           /* contents are written once, on a worker that others wait for */

static void pack_name(char out[24], uint32_t number)
{
    snprintf(out, 24, "pack-%08u", number);
}

void store_hash_blob(struct store_hash *ret_hash, enum store_kind kind, const void *data,
                     size_t length)
{
    crypto_generichash_state state;
    unsigned char tag = (unsigned char)kind;
    crypto_generichash_init(&state, NULL, 0, sizeof ret_hash->bytes);
    crypto_generichash_update(&state, &tag, 1);
    crypto_generichash_update(&state, data, length);
    crypto_generichash_final(&state, ret_hash->bytes, sizeof ret_hash->bytes);
}

static int fail(struct hearth_failure *failure, int errno_value, const char *what)
{
    return hearth_fail_errno(failure, errno_value, "store_failed", "the store cannot be %s", what);
}

int pack_open(struct pack *ret_pack, int dir_fd, uint32_t number, bool make,
              struct hearth_failure *failure)
{
    char name[24];
    struct stat status;
    pack_name(name, number);
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT | O_EXCL : 0);
    auto_close int fd = openat(dir_fd, name, flags, 0600);
    if (fd < 0 || fstat(fd, &status) < 0)
        return fail(failure, errno, "opened");
    if (make && fsync(dir_fd) < 0)
        return fail(failure, errno, "made durable");
    *ret_pack =
        (struct pack){.number = number, .fd = steal_fd(&fd), .size = (uint64_t)status.st_size};
    return 0;
}

void pack_close(struct pack *pack)
{
    cleanup_close(&pack->fd);
    pack->fd = -1;
}

int pack_remove(struct pack *pack, int dir_fd)
{
    char name[24];
    pack_name(name, pack->number);
    pack_close(pack);
    return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int pack_cut(struct pack *pack, uint64_t size)
{
    if (ftruncate(pack->fd, (off_t)size) < 0)
        return -errno;
    pack->size = size;
    pack->unsynced = true;
    return 0;
}

/* Headers: magic, kind, compressed, 0, stored, raw (little-endian), hash. */

static void header_put(unsigned char out[PACK_HEADER_SIZE], const struct pack_record *record)
{
    uint32_t magic = htole32(MAGIC), stored = htole32(record->stored), raw = htole32(record->raw);
    memset(out, 0, PACK_HEADER_SIZE);
    memcpy(out, &magic, 4);
    out[4] = (unsigned char)record->kind;
    out[5] = record->compressed;
    memcpy(out + 8, &stored, 4);
    memcpy(out + 12, &raw, 4);
    memcpy(out + 16, record->hash.bytes, sizeof record->hash.bytes);
}

static bool header_get(const unsigned char in[PACK_HEADER_SIZE], struct pack_record *ret_record)
{
    uint32_t magic, stored, raw;
    memcpy(&magic, in, 4);
    memcpy(&stored, in + 8, 4);
    memcpy(&raw, in + 12, 4);
    *ret_record = (struct pack_record){.kind = (enum store_kind)in[4],
                                       .compressed = in[5] == 1,
                                       .stored = le32toh(stored),
                                       .raw = le32toh(raw)};
    memcpy(ret_record->hash.bytes, in + 16, sizeof ret_record->hash.bytes);
    return le32toh(magic) == MAGIC && (in[4] == STORE_DATA || in[4] == STORE_NODE) && in[5] <= 1 &&
           ret_record->raw <= PACK_BLOB_MAX && ret_record->stored <= ret_record->raw &&
           (ret_record->compressed || ret_record->stored == ret_record->raw);
}

static ssize_t read_at(int fd, void *out, size_t length, uint64_t offset)
{
    size_t done = 0;
    while (done < length) {
        ssize_t got = pread(fd, (char *)out + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

int pack_scan(struct pack *pack,
              int (*visit)(void *arg, uint64_t offset, const struct pack_record *record), void *arg,
              struct hearth_failure *failure)
{
    unsigned char header[PACK_HEADER_SIZE];
    struct pack_record record;
    uint64_t at = 0;
    while (at < pack->size) {
        ssize_t got = read_at(pack->fd, header, sizeof header, at);
        if (got < 0)
            return fail(failure, errno, "read");
        if ((size_t)got < sizeof header || !header_get(header, &record) ||
            pack->size - at - sizeof header < record.stored)
            break;
        int error = visit(arg, at, &record);
        if (error)
            return hearth_fail(failure, (enum hearth_error)error, NULL, "the store cannot be read");
        at += sizeof header + record.stored;
    }
    if (at < pack->size) {
        int error = pack_cut(pack, at);
        if (error)
            return fail(failure, -error, "mended");
    }
    return 0;
}

static int write_record(struct pack *pack, const void *data, size_t length, uint64_t *ret_offset,
                        struct hearth_failure *failure)
{
    size_t done = 0;
    while (done < length) {
        ssize_t put =
            pwrite(pack->fd, (const char *)data + done, length - done, (off_t)(pack->size + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            int error = errno;
            (void)!ftruncate(pack->fd, (off_t)pack->size); /* else the next start does */
            return fail(failure, error, "written");
        }
        done += (size_t)put;
    }
    *ret_offset = pack->size;
    pack->size += length;
    pack->unsynced = true;
    return 0;
}

int pack_append(struct pack *pack, struct pack_record *record, const void *data, void *scratch,
                void *context, uint64_t *ret_offset, struct hearth_failure *failure)
{
    unsigned char *at = scratch;
    /* Room for one byte less than the blob: what does not shrink is kept as it is. */
    size_t stored = record->raw > 64 ? ZSTD_compressCCtx(context, at + PACK_HEADER_SIZE,
                                                         record->raw - 1, data, record->raw, LEVEL)
                                     : (size_t)-1;
    record->compressed = record->raw > 64 && !ZSTD_isError(stored);
    record->stored = record->compressed ? (uint32_t)stored : record->raw;
    if (!record->compressed && record->raw)
        memcpy(at + PACK_HEADER_SIZE, data, record->raw);
    header_put(at, record);
    return write_record(pack, at, PACK_HEADER_SIZE + record->stored, ret_offset, failure);
}

int pack_copy(struct pack *to, const struct pack *from, uint64_t offset,
              const struct pack_record *record, void *scratch, uint64_t *ret_offset,
              struct hearth_failure *failure)
{
    size_t length = PACK_HEADER_SIZE + record->stored;
    ssize_t got = read_at(from->fd, scratch, length, offset);
    if (got < 0 || (size_t)got < length)
        return fail(failure, got < 0 ? errno : EIO, "read");
    return write_record(to, scratch, length, ret_offset, failure);
}

static int damaged(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_EIO, "store_damaged",
                       "a stored blob is not what was put into the store");
}

int pack_read(const struct pack *pack, uint64_t offset, const struct pack_record *record, void *out,
              void *scratch, struct hearth_failure *failure)
{
    void *into = record->compressed ? scratch : out;
    ssize_t got = read_at(pack->fd, into, record->stored, offset + PACK_HEADER_SIZE);
    if (got < 0)
        return fail(failure, errno, "read");
    if ((size_t)got < record->stored ||
        (record->compressed &&
         ZSTD_decompress(out, record->raw, scratch, record->stored) != record->raw))
        return damaged(failure);
    struct store_hash hash;
    store_hash_blob(&hash, record->kind, out, record->raw);
    return memcmp(&hash, &record->hash, sizeof hash) ? damaged(failure) : 0;
}

int pack_sync(struct pack *pack, struct hearth_failure *failure)
{
    if (!pack->unsynced)
        return 0;
    if (fdatasync(pack->fd) < 0)
        return fail(failure, errno, "made durable");
    pack->unsynced = false;
    return 0;
}
