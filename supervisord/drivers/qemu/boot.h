/* What boot.c (a boot up to the agent's first answer) and boot_end.c (how one ends) share. */
#pragma once

#include "supervisord/drivers/qemu/qemu.h"

/* boot.c: one boot, of which there may be another where this one fails. */
void boot_once(struct qemu_guest *guest);

/* boot_end.c. Our own copies of what QEMU is passed. */
void boot_close_listening(struct qemu_guest *guest);
/* The start is over: it is another's turn. */
void boot_end(struct qemu_guest *guest, int error);
/* Fills phase.failure: somebody wants the guest gone. */
int boot_cancel(struct qemu_guest *guest);
/* A boot that is to be tried again has been cleared away: as the work's end. */
void boot_cleared_for_retry(void *guest);
/* phase.failure says why. again: unless it has been tried often enough. A clone whose template did
 * not work is booted as any other in any case. */
void boot_give_up(struct qemu_guest *guest, bool again);
/* The same, with what QEMU and the console tell as the reason. */
void boot_fail(struct qemu_guest *guest, const char *what, bool again);
