#include "supervisord/drivers/qemu/qemu.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "qemu-system-x86_64"
#define VERSION_TIMEOUT_MS 30000 /* a program that is not in memory, on a busy host */
#define INSTALL "apt-get install --no-install-recommends qemu-system-x86"

struct probe {
    struct qemu_driver *driver;
    struct child *child;
    driver_probed done;
    void *arg;
    int64_t began_us;
};

static void finish(struct probe *probe)
{
    struct qemu_driver *driver = probe->driver;
    probe->done(probe->arg, &driver->probe);
    free(probe);
}

static void refuse(struct driver_probe *probe, const char *why)
{
    *probe = (struct driver_probe){0};
    snprintf(probe->reason, sizeof probe->reason, "%.*s", (int)sizeof probe->reason - 1, why);
    snprintf(probe->install, sizeof probe->install, INSTALL);
}

/* "QEMU emulator version 7.2.22 (Debian …)" becomes "QEMU 7.2.22". */
static void on_version(void *arg, const struct child_result *result)
{
    struct probe *probe = arg;
    struct qemu_driver *driver = probe->driver;
    const char *number = strstr(result->output, "version ");
    if (result->exit_code || !number) {
        refuse(&driver->probe, result->timed_out ? "QEMU is installed, but --version does not end"
                                                 : "QEMU is installed, but --version fails");
        finish(probe);
        return;
    }
    number += strlen("version ");
    snprintf(driver->version, sizeof driver->version, "QEMU %.*s",
             (int)strspn(number, "0123456789."), number);
    driver->probe = (struct driver_probe){.usable = true};
    driver->probe.took_us = clock_monotonic_us() - probe->began_us;
    qemu_accelerator_begin(driver);
    finish(probe);
}

static void begin(void *arg)
{
    struct probe *probe = arg;
    struct qemu_driver *driver = probe->driver;
    const char *const argv[] = {driver->program, "--version", NULL};
    const struct spawn_spec spec = {.argv = argv,
                                    .stdin_fd = -1,
                                    .stdout_fd = -1,
                                    .stderr_fd = -1,
                                    .timeout_ms = VERSION_TIMEOUT_MS};
    struct hearth_failure failure;
    if (driver->probe.usable) {
        finish(probe);
        return;
    }
    if (!*driver->program)
        refuse(&driver->probe, "QEMU (" PROGRAM ") is not installed where PATH looks");
    else if (!driver->launch_path || !driver->agent_path || access(driver->agent_path, R_OK) < 0)
        refuse(&driver->probe, "hearth-launch or hearth-agent is not where it should be");
    else if (spawn(&probe->child, driver->config.loop, &spec, on_version, probe, &failure) == 0)
        return;
    else
        refuse(&driver->probe, failure.detail);
    finish(probe);
}

void qemu_probe(struct driver *base, driver_probed done, void *arg)
{
    struct probe *probe = calloc(1, sizeof *probe);
    if (!probe)
        abort();
    *probe = (struct probe){.driver = container_of(base, struct qemu_driver, driver),
                            .done = done,
                            .arg = arg,
                            .began_us = clock_monotonic_us()};
    loop_defer(probe->driver->config.loop, begin, probe);
}

void qemu_program_find(struct qemu_driver *driver)
{
    const char *configured = driver->config.qemu;
    if (configured && *configured && strcmp(configured, "auto") != 0)
        snprintf(driver->program, sizeof driver->program, "%s", configured);
    else if (!spawn_find(PROGRAM, driver->program))
        *driver->program = '\0';
}
