/* Copies of a running machine, from which others begin: struct guest_copy of driver.h. Loop thread,
 * save where "blocking" stands. */
#pragma once

#include "supervisord/drivers/qemu/qemu.h"

/* driver_operations::copy and copy_free. */
void qemu_copy(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
               unsigned count, struct guest_copy **ret_copy, guest_done done, void *arg);
void qemu_copy_free(struct guest_copy *copy);

/* How what begins with it is reached. */
const struct vm_transport *qemu_copy_transport(const struct guest_copy *copy);
/* Blocking: what was saved, from its beginning. */
int qemu_copy_open_state(const struct guest_copy *copy, int *ret_fd,
                         struct hearth_failure *failure);
/* Blocking: the disk, into an empty file; a negative errno. */
int qemu_copy_disk(const struct guest_copy *copy, int fd);
/* QEMU has been started and waits: has it load what was saved and go on, then calls done. Where
 * that fails QEMU's end, or the deadline, tells. No link is made before: the agent sees that the
 * one of its origin has ended. */
void qemu_copy_load(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest));
