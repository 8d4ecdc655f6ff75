#include "supervisord/disk/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x514649fb /* "QFI\xfb" */
#define HEADER_SIZE 104
#define SIZE_MAX_BYTES (UINT64_C(64) << 40)
#define L1_MAX ((uint32_t)1 << 20)
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define COMPRESSED (UINT64_C(1) << 62)
#define ALL_ZEROS UINT64_C(1) /* in an L2 entry */
#define DIRTY UINT64_C(1)     /* an incompatible feature that is none to a reader */

/* Where the fields of the header are (docs/interop/qcow2.txt of QEMU). */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_CLUSTER_BITS = 20,
    AT_SIZE = 24,
    AT_CRYPT_METHOD = 32,
    AT_L1_SIZE = 36,
    AT_L1_OFFSET = 40,
    AT_INCOMPATIBLE = 72,
};

static uint32_t get32(const unsigned char *header, size_t at)
{
    uint32_t value;
    memcpy(&value, header + at, sizeof value);
    return be32toh(value);
}

static uint64_t get64(const unsigned char *header, size_t at)
{
    uint64_t value;
    memcpy(&value, header + at, sizeof value);
    return be64toh(value);
}

/* What lies beyond the file's end is zeros. */
static int read_at(int fd, uint64_t offset, void *data, size_t length)
{
    char *out = data;
    while (length) {
        ssize_t got = pread(fd, out, length, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0) {
            memset(out, 0, length);
            return 0;
        }
        out += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return 0;
}

static int read_table(int fd, uint64_t offset, uint64_t *table, size_t count)
{
    int error = offset & 511 || offset > INT64_MAX / 2
                    ? -EBADMSG
                    : read_at(fd, offset, table, count * sizeof *table);
    for (size_t i = 0; !error && i < count; i++)
        table[i] = be64toh(table[i]);
    return error;
}

static size_t l2_entries(const struct qcow2 *disk)
{
    return (size_t)1 << (disk->cluster_bits - 3);
}

static bool is_sound(const unsigned char *header)
{
    uint32_t cluster_bits = get32(header, AT_CLUSTER_BITS), l1_size = get32(header, AT_L1_SIZE);
    uint64_t size = get64(header, AT_SIZE);
    return get32(header, AT_MAGIC) == MAGIC && get32(header, AT_VERSION) == 3 &&
           cluster_bits >= 9 && cluster_bits <= 21 && size <= SIZE_MAX_BYTES &&
           get32(header, AT_CRYPT_METHOD) == 0 && l1_size <= L1_MAX &&
           (get64(header, AT_INCOMPATIBLE) & ~DIRTY) == 0 &&
           ((uint64_t)l1_size << (2 * cluster_bits - 3)) >= size;
}

int qcow2_open(struct qcow2 *ret_disk, int fd, int base_fd)
{
    unsigned char header[HEADER_SIZE];
    struct stat base;
    *ret_disk = (struct qcow2){.fd = fd, .base_fd = base_fd, .l2_of = UINT32_MAX};
    if (fstat(base_fd, &base) < 0)
        return -errno;
    int error = read_at(fd, 0, header, sizeof header);
    if (!error && !is_sound(header))
        error = -EBADMSG;
    if (error)
        return error;
    ret_disk->base_size = (uint64_t)base.st_size;
    ret_disk->cluster_bits = get32(header, AT_CLUSTER_BITS);
    ret_disk->size = get64(header, AT_SIZE);
    ret_disk->l1_size = get32(header, AT_L1_SIZE);
    ret_disk->l1 = calloc(ret_disk->l1_size + 1, sizeof *ret_disk->l1);
    ret_disk->l2 = calloc(l2_entries(ret_disk), sizeof *ret_disk->l2);
    error = ret_disk->l1 && ret_disk->l2
                ? read_table(fd, get64(header, AT_L1_OFFSET), ret_disk->l1, ret_disk->l1_size)
                : -ENOMEM;
    if (error)
        qcow2_close(ret_disk);
    return error;
}

void qcow2_close(struct qcow2 *disk)
{
    free(disk->l1);
    free(disk->l2);
    disk->l1 = disk->l2 = NULL;
}

static int find_entry(struct qcow2 *disk, uint64_t offset, uint64_t *ret_entry)
{
    uint64_t cluster = offset >> disk->cluster_bits;
    uint32_t l1_index = (uint32_t)(cluster / l2_entries(disk));
    *ret_entry = 0;
    if (l1_index >= disk->l1_size || !(disk->l1[l1_index] & OFFSET_MASK))
        return 0;
    if (disk->l2_of != l1_index) {
        disk->l2_of = UINT32_MAX;
        int error =
            read_table(disk->fd, disk->l1[l1_index] & OFFSET_MASK, disk->l2, l2_entries(disk));
        if (error)
            return error;
        disk->l2_of = l1_index;
    }
    *ret_entry = disk->l2[cluster % l2_entries(disk)];
    return *ret_entry & COMPRESSED ? -EBADMSG : 0;
}

/* Within one cluster. */
static int read_piece(struct qcow2 *disk, uint64_t offset, void *data, size_t length)
{
    uint64_t entry, within = offset & ((UINT64_C(1) << disk->cluster_bits) - 1);
    int error = find_entry(disk, offset, &entry);
    if (error)
        return error;
    if (entry & ALL_ZEROS || (!(entry & OFFSET_MASK) && offset >= disk->base_size)) {
        memset(data, 0, length);
        return 0;
    }
    if (!(entry & OFFSET_MASK))
        return read_at(disk->base_fd, offset, data, length);
    return read_at(disk->fd, (entry & OFFSET_MASK) + within, data, length);
}

int qcow2_read(struct qcow2 *disk, uint64_t offset, void *data, size_t length)
{
    char *out = data;
    int error = 0;
    while (length && !error) {
        uint64_t cluster = UINT64_C(1) << disk->cluster_bits;
        uint64_t left = cluster - (offset & (cluster - 1));
        size_t piece = left < length ? (size_t)left : length;
        if (offset >= disk->size) {
            memset(out, 0, length);
            return 0;
        }
        error = read_piece(disk, offset, out, piece);
        out += piece;
        offset += piece;
        length -= piece;
    }
    return error;
}
