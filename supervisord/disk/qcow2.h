/* Reads a machine's disk: a qcow2 overlay, as QEMU leaves it, over an image that the caller names.
 * (The name of a backing file that may stand in an overlay is never looked at.) What QEMU has
 * written is taken for hostile: every offset is checked. Version 3 with plain, standard clusters;
 * no compression, no encryption, no data file. One thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct qcow2 {
    int fd, base_fd; /* borrowed */
    uint64_t size, base_size;
    unsigned cluster_bits;
    uint64_t *l1, *l2;       /* l2: the table that was used last */
    uint32_t l1_size, l2_of; /* l2_of: its entry in l1; UINT32_MAX: none is */
};

/* 0 or a negative errno: -EBADMSG where it is no such overlay. */
int qcow2_open(struct qcow2 *ret_disk, int fd, int base_fd);
void qcow2_close(struct qcow2 *disk);
/* length bytes from offset, zeros beyond the end. 0 or a negative errno. */
int qcow2_read(struct qcow2 *disk, uint64_t offset, void *data, size_t length);
