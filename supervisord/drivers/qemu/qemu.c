/* The place of the microVM driver. What is here says truthfully that microVMs cannot be run yet;
 * the rest of the supervisor treats it as a driver whose probe found nothing. */
#include "supervisord/drivers/driver.h"

#include <stdlib.h>

struct qemu_driver {
    struct driver driver;
    struct loop *loop;
};

/* Completions never come before the call returns. */
struct late {
    driver_probed probed;
    guest_done done;
    void *arg;
};

static void complete(void *arg)
{
    struct late *late = arg;
    struct hearth_failure failure;
    static const struct driver_probe probe = {
        .reason = "this build of hearth has no microVM driver yet; containers are what it runs",
    };
    if (late->probed) {
        late->probed(late->arg, &probe);
    } else {
        hearth_fail(&failure, HEARTH_EUNSUPPORTED, "vm_unsupported", "%s", probe.reason);
        late->done(late->arg, (int)failure.error, &failure);
    }
    free(late);
}

static void complete_later(struct driver *driver, driver_probed probed, guest_done done, void *arg)
{
    struct late *late = malloc(sizeof *late);
    if (!late)
        abort();
    *late = (struct late){probed, done, arg};
    loop_defer(container_of(driver, struct qemu_driver, driver)->loop, complete, late);
}

static void qemu_probe(struct driver *driver, driver_probed done, void *arg)
{
    complete_later(driver, done, NULL, arg);
}

static void qemu_refuse(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
                        guest_done done, void *arg)
{
    (void)guest;
    (void)spec;
    complete_later(driver, NULL, done, arg);
}

static void qemu_connect(struct driver *driver, struct guest *guest, unsigned timeout_ms,
                         guest_connected done, void *arg)
{
    struct hearth_failure failure;
    (void)driver;
    (void)guest;
    (void)timeout_ms;
    hearth_fail(&failure, HEARTH_EUNSUPPORTED, "vm_unsupported",
                "there is no microVM to connect to");
    done(arg, -1, &failure);
}

static void qemu_stop(struct driver *driver, struct guest *guest, unsigned timeout_ms,
                      guest_done done, void *arg)
{
    (void)guest;
    (void)timeout_ms;
    complete_later(driver, NULL, done, arg);
}

static void qemu_end(struct driver *driver, struct guest *guest, guest_done done, void *arg)
{
    (void)guest;
    complete_later(driver, NULL, done, arg);
}

static void qemu_each_trace(struct driver *driver, void (*visit)(void *arg, const char *guest_id),
                            void *arg)
{
    (void)driver;
    (void)visit;
    (void)arg;
}

static void qemu_free(struct driver *driver)
{
    free(container_of(driver, struct qemu_driver, driver));
}

static void qemu_forget(struct driver *driver, struct guest *guest)
{
    (void)driver;
    (void)guest;
}

static const struct driver_operations operations = {
    .name = "qemu",
    .probe = qemu_probe,
    .prepare = qemu_refuse,
    .start = qemu_refuse,
    .connect = qemu_connect,
    .stop = qemu_stop,
    .destroy = qemu_end,
    .adopt = qemu_end,
    .each_trace = qemu_each_trace,
    .free = qemu_free,
    .forget = qemu_forget,
};

int qemu_driver_new(struct driver **ret_driver, const struct driver_config *config,
                    struct hearth_failure *failure)
{
    struct qemu_driver *driver = calloc(1, sizeof *driver);
    if (!driver)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    driver->driver.operations = &operations;
    driver->loop = config->loop;
    *ret_driver = &driver->driver;
    return 0;
}
