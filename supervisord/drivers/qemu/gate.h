/* How many machines come up at one time. Each needs a processor for itself: many at once would all
 * be late together and miss their deadlines, where one after the other each is in time. A deadline
 * begins when a machine's turn has come. Loop thread. */
#pragma once

#include <stdbool.h>

struct qemu_driver;
struct qemu_guest;

void gate_init(struct qemu_driver *driver);
/* Calls go(guest), now or when its turn has come, in the order of entering; those of the background
 * after all others. Every guest that has entered leaves, after its turn has come. */
void gate_enter(struct qemu_guest *guest, bool background, void (*go)(void *guest));
/* One that has not entered may leave too. */
void gate_leave(struct qemu_guest *guest);
