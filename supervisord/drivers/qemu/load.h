/* A machine that begins with a memory: QEMU loads a copy's (fork.h) or, on its way out of the seal,
 * what a machine was suspended to. Loop thread, save where "blocking" stands. */
#pragma once

#include "supervisord/drivers/qemu/qemu.h"

/* Takes up what a start is to open what was saved with. HEARTH_ENOMEMORY. */
int qemu_unseal_begin(struct qemu_guest *guest, const unsigned char *key);
/* Blocking: opens what the guest was saved to, and makes the pipe that QEMU is to read,
 * guest->template_state_fd. HEARTH_EIO `suspend_lost`: there is nothing. */
int qemu_unseal_open(struct qemu_guest *guest, struct hearth_failure *failure);
/* Whatever comes of it, nobody wants it any more; of one that has none it is nothing. */
void qemu_unseal_drop(struct qemu_guest *guest);

/* QEMU's process is known: gives it what was sealed. What cannot be opened ends the boot. */
void qemu_unseal(struct qemu_guest *guest);
/* Has QEMU load a state with the memory in it, of a machine that does not run by itself after it,
 * then done(guest): when all is loaded and, where it was sealed, proved to be whole. What else goes
 * wrong is seen by QEMU's end, or is late. */
void qemu_load_whole(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest));
