/* The microVM driver: QEMU's microvm machine, by KVM where it really works and else by TCG. */
#include "supervisord/drivers/qemu/qemu.h"

#include "base/cleanup.h"
#include "base/path_at.h"
#include "base/text.h"
#include "supervisord/drivers/places.h"
#include "supervisord/drivers/qemu/fork.h"
#include "supervisord/drivers/qemu/load.h"
#include "supervisord/drivers/qemu/qmp.h"
#include "supervisord/drivers/qemu/template.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STARTERS 2
/* What is sealed and opened is as long as a machine's memory: a resume waits for neither. */
#define SEALERS 2
#define OPENERS 4

/* --- guests --- */

struct loop *qemu_loop(const struct qemu_guest *guest)
{
    return guest->driver->config.loop;
}

static void guest_free(void *arg)
{
    struct qemu_guest *guest = arg;
    qemu_disconnect(guest);
    qemu_let_template_go(guest);
    qemu_unseal_drop(guest);
    watch_free(&guest->exit_watch);
    timer_free(&guest->timer);
    tail_free(&guest->console);
    tail_free(&guest->errors);
    free(guest->image_path);
    free(guest);
}

static uint64_t ranges(const struct qemu_driver *driver)
{
    return (UINT32_MAX - (uint64_t)driver->config.uid_base) / QEMU_ID_RANGE;
}

struct qemu_guest *qemu_guest_data(struct driver *base, struct guest *guest)
{
    struct qemu_driver *driver = container_of(base, struct qemu_driver, driver);
    if (guest->driver_data)
        return guest->driver_data;
    struct qemu_guest *data = calloc(1, sizeof *data);
    if (!data)
        abort();
    *data = (struct qemu_guest){
        .driver = driver,
        .guest = guest,
        .ready_fd = -1,
        .greeting_fd = -1,
        .qmp_fd = -1,
        .console_fd = -1,
        .agent_fd = -1,
        .network_fds = {-1, -1},
        .template_ram_fd = -1,
        .template_state_fd = -1,
        .accelerator = "tcg",
        .phase = {.loop = driver->config.loop,
                  .destroy = qemu_destroy_begin,
                  .free = guest_free,
                  .owner = data},
    };
    snprintf(data->guest_id, sizeof data->guest_id, "%s", guest->guest_id);
    /* More guests than there are ranges are far beyond any machine; they would share. */
    data->owner =
        driver->as_root
            ? (uid_t)(driver->config.uid_base + guest->index % ranges(driver) * QEMU_ID_RANGE)
            : getuid();
    timer_init(&data->timer, driver->config.loop, NULL, data);
    tail_init(&data->console, driver->config.loop);
    tail_init(&data->errors, driver->config.loop);
    guest->driver_data = data;
    return data;
}

static void forget(struct driver *driver, struct guest *guest)
{
    struct qemu_guest *data = guest->driver_data;
    (void)driver;
    guest->driver_data = NULL;
    pidref_close(&guest->process);
    if (data)
        phase_forget(&data->phase);
}

void qemu_fill_facts(struct qemu_guest *guest)
{
    const struct qemu_driver *driver = guest->driver;
    guest->guest->facts = (struct guest_facts){
        .isolation = "vm",
        .execution_mode = guest->transport->execution_mode,
        .vm_accelerator = guest->accelerator,
        .runtime = guest->version,
        .rootless = !driver->as_root,
        .memory_limited = true, /* it has no more than it was made with */
        .pids_limited = false,  /* its kernel's own limits alone */
        .cpu_limited = true,
        .disk_limited = true,
        .user_namespace = !driver->as_root,
        .seccomp = true,
        .network_namespace = true,
        .cloned = guest->template || guest->copy,
    };
}

/* --- connect --- */

struct qemu_asked {
    struct qemu_guest *guest;
    guest_connected done;
    void *arg;
    int fd;
};

static void answer(struct qemu_asked *asked, int fd, const struct hearth_failure *failure)
{
    asked->done(asked->arg, fd, failure);
    free(asked);
}

static void tell_connected(void *arg)
{
    struct qemu_asked *asked = arg;
    answer(asked, asked->fd, NULL);
}

static void tell_refused(void *arg)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EUNAVAILABLE, "guest_unreachable", "the machine does not run");
    answer(arg, -1, &failure);
}

static void on_connected(void *arg, int fd, const struct hearth_failure *failure)
{
    struct qemu_asked *asked = arg;
    asked->guest->connecting = NULL;
    asked->guest->asked = NULL;
    answer(asked, fd, failure);
}

/* The first asks for what start has waited for. */
static void connect_guest(struct driver *base, struct guest *guest, unsigned timeout_ms,
                          guest_connected done, void *arg)
{
    struct qemu_guest *data = qemu_guest_data(base, guest);
    struct qemu_asked *asked = malloc(sizeof *asked);
    if (!asked)
        abort();
    *asked = (struct qemu_asked){.guest = data, .done = done, .arg = arg, .fd = -1};
    if (data->ready_fd >= 0) {
        asked->fd = steal_fd(&data->ready_fd);
        loop_defer(qemu_loop(data), tell_connected, asked);
    } else if (!data->transport || guest->process.fd < 0 || data->connecting) {
        loop_defer(qemu_loop(data), tell_refused, asked);
    } else {
        data->asked = asked;
        data->connecting = data->transport->connect(
            data, clock_monotonic_us() + timeout_ms * US_PER_MS, on_connected, asked);
    }
}

void qemu_disconnect(struct qemu_guest *guest)
{
    void *connecting = steal_pointer(guest->connecting);
    struct qemu_asked *asked = steal_pointer(guest->asked);
    if (guest->qmp)
        qmp_cancel(steal_pointer(guest->qmp));
    if (connecting)
        guest->transport->cancel(connecting);
    if (asked)
        loop_defer(qemu_loop(guest), tell_refused, asked);
    if (guest->ready_fd >= 0)
        close(steal_fd(&guest->ready_fd));
    if (guest->greeting_fd >= 0)
        close(steal_fd(&guest->greeting_fd));
}

static int check_transport(struct driver *base, const char *transport,
                           struct hearth_failure *failure)
{
    const struct vm_transport *found;
    return transport_choose(&found, container_of(base, struct qemu_driver, driver), transport,
                            failure);
}

static void each_trace(struct driver *base, void (*visit)(void *arg, const char *guest_id),
                       void *arg)
{
    struct qemu_driver *driver = container_of(base, struct qemu_driver, driver);
    qemu_files_each(driver, visit, arg);
    cgroup_each(&driver->cgroups, visit, arg);
}

/* --- the driver --- */

static void free_driver(struct driver *base)
{
    struct qemu_driver *driver = container_of(base, struct qemu_driver, driver);
    worker_pool_free(driver->starters);
    worker_pool_free(driver->sealers);
    worker_pool_free(driver->openers);
    templates_free(driver);
    if (driver->trial)
        qemu_end_now(driver->trial->driver_data);
    cgroups_leave(&driver->cgroups);
    cleanup_close(&driver->state_fd);
    cleanup_close(&driver->runtime_fd);
    pthread_mutex_destroy(&driver->initramfs->lock);
    free(driver->initramfs);
    free(driver->launch_path);
    free(driver->agent_path);
    free(driver);
}

static const struct driver_operations operations = {
    .name = "qemu",
    .wants_image = true,
    .probe = qemu_probe,
    .check_transport = check_transport,
    .prepare = qemu_prepare,
    .start = qemu_start,
    .may_standby = qemu_may_standby,
    .standby = qemu_standby,
    .outdated = qemu_outdated,
    .clone_refused = qemu_clone_refused,
    .pause = qemu_pause,
    .unpause = qemu_unpause,
    .may_suspend = qemu_may_suspend,
    .suspend = qemu_suspend,
    .saved = qemu_saved,
    .carry_on = qemu_carry_on,
    .copy = qemu_copy,
    .copy_free = qemu_copy_free,
    .connect = connect_guest,
    .stop = qemu_stop,
    .disk = qemu_disk,
    .destroy = qemu_destroy,
    .adopt = qemu_adopt,
    .each_trace = each_trace,
    .free = free_driver,
    .forget = forget,
};

int qemu_driver_new(struct driver **ret_driver, const struct driver_config *config,
                    struct hearth_failure *failure)
{
    struct qemu_driver *driver = calloc(1, sizeof *driver);
    if (!driver)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "cannot allocate the driver");
    *driver = (struct qemu_driver){
        .driver.operations = &operations,
        .config = *config,
        .as_root = geteuid() == 0,
        .state_fd = -1,
        .runtime_fd = -1,
        .launch_path = spawn_sibling("hearth-launch"),
        .agent_path = text_copy(config->agent_path),
        .accelerator = "tcg",
        .made = timestamp_now(),
    };
    driver->initramfs = calloc(1, sizeof *driver->initramfs);
    if (!driver->initramfs)
        abort();
    pthread_mutex_init(&driver->initramfs->lock, NULL);
    list_init(&driver->accelerator_waiters);
    list_init(&driver->templates);
    list_init(&driver->copies);
    gate_init(driver);
    qemu_program_find(driver);
    if (path_read_small(AT_FDCWD, "/proc/sys/kernel/random/boot_id", driver->boot_id,
                        sizeof driver->boot_id) > 0)
        driver->boot_id[strcspn(driver->boot_id, "\n")] = '\0';
    int error = 0;
    if ((driver->state_fd = guests_directory(config->state_dir, "machines", failure)) < 0)
        error = driver->state_fd;
    else if ((driver->runtime_fd = guests_directory(config->runtime_dir, "machines", failure)) < 0)
        error = driver->runtime_fd;
    else
        error = worker_pool_new(&driver->starters, config->loop, STARTERS, failure);
    if (!error)
        error = worker_pool_new(&driver->sealers, config->loop, SEALERS, failure);
    if (!error)
        error = worker_pool_new(&driver->openers, config->loop, OPENERS, failure);
    if (error) {
        free_driver(&driver->driver);
        return error;
    }
    guests_find_cgroups(&driver->cgroups, driver->state_fd);
    templates_begin(driver);
    *ret_driver = &driver->driver;
    return 0;
}
