#include "supervisord/drivers/qemu/gate.h"

#include "supervisord/drivers/qemu/qemu.h"

#include <unistd.h>

void gate_init(struct qemu_driver *driver)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    list_init(&driver->gate.waiting);
    list_init(&driver->gate.background);
    /* One more than there are processors: now and then one waits for a disk. */
    driver->gate.places = (processors < 1 ? 1 : (unsigned)processors) + 1;
}

static void admit(struct qemu_guest *guest)
{
    guest->driver->gate.taken++;
    guest->gate.inside = true;
}

void gate_enter(struct qemu_guest *guest, bool background, void (*go)(void *guest))
{
    struct gate *gate = &guest->driver->gate;
    guest->gate.go = go;
    list_init(&guest->gate.link);
    if (gate->taken < gate->places) {
        admit(guest);
        go(guest);
    } else {
        list_append(background ? &gate->background : &gate->waiting, &guest->gate.link);
    }
}

void gate_leave(struct qemu_guest *guest)
{
    struct gate *gate = &guest->driver->gate;
    if (!guest->gate.inside)
        return;
    guest->gate.inside = false;
    gate->taken--;
    struct list *line = list_empty(&gate->waiting) ? &gate->background : &gate->waiting;
    if (list_empty(line))
        return;
    struct qemu_guest *next = container_of(line->next, struct qemu_guest, gate.link);
    list_remove(&next->gate.link);
    admit(next);
    loop_defer(qemu_loop(next), next->gate.go, next);
}
