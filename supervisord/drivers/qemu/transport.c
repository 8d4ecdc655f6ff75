#include "supervisord/drivers/qemu/transport.h"

#include <string.h>

/* The best first. vsock without the kernel's help is slower than serial, and cannot be saved: it is
 * for who asks for vsock. */
static const struct vm_transport *const transports[] = {&transport_vsock, &transport_serial,
                                                        &transport_vhost_user};
#define TRANSPORTS (sizeof transports / sizeof transports[0])

int transport_choose(const struct vm_transport **ret_transport, const struct qemu_driver *driver,
                     const char *choice, struct hearth_failure *failure)
{
    char reason[200] = "there is no such transport";
    for (size_t i = 0; i < TRANSPORTS; i++) {
        if (strcmp(choice, "auto") != 0 && strcmp(choice, transports[i]->choice) != 0 &&
            strcmp(choice, transports[i]->exact) != 0)
            continue;
        if (transports[i]->usable(driver, reason, sizeof reason)) {
            *ret_transport = transports[i];
            return 0;
        }
    }
    int error = hearth_fail(failure, HEARTH_EUNSUPPORTED, "transport_unavailable",
                            "a machine cannot be reached by %s here: %s", choice, reason);
    hearth_failure_hint(failure, "Leave transport out, or take serial, which every host has.");
    return error;
}

const struct vm_transport *transport_by_name(const char *name)
{
    for (size_t i = 0; i < TRANSPORTS; i++)
        if (strcmp(transports[i]->name, name) == 0)
            return transports[i];
    return NULL;
}
