/* A way to the agent in a machine. Each ends as one descriptor with a clean byte stream; nothing
 * above the driver can tell which it was but by asking. To add one: a struct vm_transport in a file
 * of its own, its device on the command line, and its place in transports[] (transport.c), where
 * the first usable one is what "auto" takes. Loop thread, save where a function says "blocking". */
#pragma once

#include "supervisord/drivers/arguments.h"
#include "supervisord/drivers/driver.h"

struct qemu_driver;
struct qemu_guest;

typedef void (*transport_connected)(void *arg, int fd, const struct hearth_failure *failure);

struct vm_transport {
    const char *name;           /* in driver_state: "serial", "vsock", … */
    const char *execution_mode; /* "guest_serial" or "guest_vsock" */
    const char *choice;         /* what it is asked for by: "serial" or "vsock" … */
    const char *exact;          /* … and where no other will do */
    bool restorable;            /* a guest that has it can be saved and cloned */
    const char *agent_words; /* … of its agent's command line, each after a blank; NULL: none */
    /* May this host use it? Cheap. The reason is one sentence. */
    bool (*usable)(const struct qemu_driver *driver, char *ret_reason, size_t size);
    /* Blocking, on a starter: makes what QEMU is given (guest->agent_fd becomes its descriptor
     * QEMU_FD_AGENT) or what must be there before QEMU is; called before every boot. */
    int (*prepare)(struct qemu_guest *guest, struct hearth_failure *failure);
    /* Adds the device to QEMU's command line. */
    void (*add_arguments)(const struct qemu_guest *guest, struct arguments *arguments);
    /* One stream to the agent, until deadline_us. The first may begin before QEMU is there. Gives
     * what cancel takes, or NULL where done has been told later of no memory. */
    void *(*connect)(struct qemu_guest *guest, int64_t deadline_us, transport_connected done,
                     void *arg);
    void (*cancel)(void *connecting);
    /* Blocking: after the machine's end, or of one that never was. May be NULL. */
    void (*clear)(struct qemu_guest *guest);
};

extern const struct vm_transport transport_serial, transport_vsock, transport_vhost_user;

/* choice is "auto", or a choice or exact name of one. HEARTH_EUNSUPPORTED `transport_unavailable`
 * where it cannot be had. */
int transport_choose(const struct vm_transport **ret_transport, const struct qemu_driver *driver,
                     const char *choice, struct hearth_failure *failure);
/* By its name in driver_state; NULL for none. */
const struct vm_transport *transport_by_name(const char *name);
