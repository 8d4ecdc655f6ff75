#include "supervisord/drivers/qemu/overlay.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER_BITS 16
#define CLUSTER (UINT64_C(1) << CLUSTER_BITS)
#define L1_COVERS (CLUSTER * (CLUSTER / 8)) /* bytes that one L1 entry stands for */
#define REFCOUNT_ORDER 4                    /* 16 bits each */

/* The header as it lies in the file, big-endian (docs/interop/qcow2.txt of QEMU). */
struct header {
    uint32_t magic, version;
    uint64_t backing_file_offset;
    uint32_t backing_file_size, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_size;
    uint64_t l1_table_offset, refcount_table_offset;
    uint32_t refcount_table_clusters, snapshot_count;
    uint64_t snapshots_offset, incompatible_features, compatible_features, autoclear_features;
    uint32_t refcount_order, header_length;
};

/* Cluster by cluster: header, reference count table, its one block, L1 table. */
enum { AT_HEADER, AT_REFCOUNT_TABLE, AT_REFCOUNT_BLOCK, AT_L1_TABLE, CLUSTERS };

static int put(int fd, uint64_t cluster, const void *data, size_t length)
{
    ssize_t written = pwrite(fd, data, length, (off_t)(cluster * CLUSTER));
    return written < 0 ? -errno : (size_t)written < length ? -ENOSPC : 0;
}

int overlay_write(int fd, uint64_t virtual_bytes)
{
    uint64_t l1_size = (virtual_bytes + L1_COVERS - 1) / L1_COVERS;
    if (l1_size > CLUSTER / 8)
        return -EFBIG;
    const struct header header = {
        .magic = htobe32(0x514649fb), /* "QFI\xfb" */
        .version = htobe32(3),
        .cluster_bits = htobe32(CLUSTER_BITS),
        .size = htobe64(virtual_bytes),
        .l1_size = htobe32((uint32_t)l1_size),
        .l1_table_offset = htobe64(AT_L1_TABLE * CLUSTER),
        .refcount_table_offset = htobe64(AT_REFCOUNT_TABLE * CLUSTER),
        .refcount_table_clusters = htobe32(1),
        .refcount_order = htobe32(REFCOUNT_ORDER),
        .header_length = htobe32(sizeof(struct header)),
    };
    const uint64_t refcount_block = htobe64(AT_REFCOUNT_BLOCK * CLUSTER);
    uint16_t counts[CLUSTERS];
    for (size_t i = 0; i < CLUSTERS; i++)
        counts[i] = htobe16(1);
    if (ftruncate(fd, (off_t)(CLUSTERS * CLUSTER)) < 0)
        return -errno;
    int error = put(fd, AT_HEADER, &header, sizeof header);
    if (!error)
        error = put(fd, AT_REFCOUNT_TABLE, &refcount_block, sizeof refcount_block);
    return error ? error : put(fd, AT_REFCOUNT_BLOCK, counts, sizeof counts);
}
