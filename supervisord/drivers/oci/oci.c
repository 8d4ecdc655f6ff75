#include "supervisord/drivers/oci/oci.h"

#include "base/cleanup.h"
#include "base/path_at.h"
#include "base/text.h"
#include "supervisord/drivers/oci/bundle.h"
#include "supervisord/drivers/places.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STARTERS 2

/* --- guests --- */

static uint64_t ranges(const struct oci_driver *driver)
{
    return (UINT32_MAX - (uint64_t)driver->config.uid_base) / OCI_ID_RANGE;
}

struct oci_guest *oci_guest_data(struct driver *base, struct guest *guest)
{
    struct oci_driver *driver = container_of(base, struct oci_driver, driver);
    if (guest->driver_data)
        return guest->driver_data;
    struct oci_guest *data = calloc(1, sizeof *data);
    if (!data)
        return NULL;
    data->driver = driver;
    data->guest = guest;
    data->listen_fd = -1;
    snprintf(data->guest_id, sizeof data->guest_id, "%s", guest->guest_id);
    /* More guests than there are ranges are far beyond any machine; they would share. */
    data->owner =
        driver->as_root
            ? (uid_t)(driver->config.uid_base + guest->index % ranges(driver) * OCI_ID_RANGE)
            : getuid();
    timer_init(&data->timer, driver->config.loop, NULL, data);
    guest->driver_data = data;
    return data;
}

static void forget(struct driver *driver, struct guest *guest)
{
    struct oci_guest *data = guest->driver_data;
    guest->driver_data = NULL;
    pidref_close(&guest->process);
    if (!data)
        return;
    if (data->phase == OCI_IDLE)
        oci_guest_free(data);
    else
        data->forgotten = true;
}

struct version {
    struct list link; /* oci_driver::versions */
    char text[OCI_VERSION_SIZE];
};

const char *oci_version(struct oci_driver *driver, const char *text)
{
    list_for_each(cursor, following, &driver->versions)
    {
        struct version *version = container_of(cursor, struct version, link);
        if (strcmp(version->text, text) == 0)
            return version->text;
    }
    struct version *version = malloc(sizeof *version);
    if (!version)
        return "unknown";
    snprintf(version->text, sizeof version->text, "%s", text);
    list_append(&driver->versions, &version->link);
    return version->text;
}

void oci_fill_facts(struct oci_driver *driver, struct guest *guest)
{
    guest->facts = (struct guest_facts){
        .isolation = "container",
        .execution_mode = "guest_unix",
        .runtime = oci_version(driver, driver->runtime.version),
        .rootless = !driver->as_root,
        .memory_limited = driver->cgroups.memory,
        .pids_limited = driver->cgroups.pids,
        .cpu_limited = driver->cgroups.cpu,
        .disk_limited = false, /* an overlay's upper directory has no quota of its own */
        .user_namespace = true,
        .seccomp = true,
        .network_namespace = true,
    };
}

/* --- connect --- */

struct connecting {
    guest_connected done;
    void *arg;
    int fd;
    struct hearth_failure failure;
};

static void tell_connected(void *arg)
{
    struct connecting *connecting = arg;
    connecting->done(connecting->arg, connecting->fd,
                     connecting->fd < 0 ? &connecting->failure : NULL);
    free(connecting);
}

static int connect_agent(const struct oci_driver *driver, const char *guest_id,
                         struct hearth_failure *failure)
{
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s/agent.sock",
             driver->runtime_fd, guest_id);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return steal_fd(&fd);
    hearth_fail(failure, HEARTH_EUNAVAILABLE, "guest_unreachable",
                "cannot connect to the guest's agent: %s", strerror(errno));
    return -1;
}

/* The socket listens since before the agent was started: there is nothing to wait for. */
static void connect_guest(struct driver *base, struct guest *guest, unsigned timeout_ms,
                          guest_connected done, void *arg)
{
    struct oci_driver *driver = container_of(base, struct oci_driver, driver);
    struct connecting *connecting = malloc(sizeof *connecting);
    if (!connecting)
        abort();
    *connecting = (struct connecting){.done = done, .arg = arg};
    connecting->fd = connect_agent(driver, guest->guest_id, &connecting->failure);
    loop_defer(driver->config.loop, tell_connected, connecting);
}

/* --- after a restart --- */

struct adopting {
    guest_done done;
    void *arg;
    int error;
    struct hearth_failure failure;
};

static void tell_adopted(void *arg)
{
    struct adopting *adopting = arg;
    adopting->done(adopting->arg, adopting->error, adopting->error ? &adopting->failure : NULL);
    free(adopting);
}

static void adopt(struct driver *base, struct guest *guest, guest_done done, void *arg)
{
    struct oci_driver *driver = container_of(base, struct oci_driver, driver);
    struct oci_guest *data = oci_guest_data(base, guest);
    struct adopting *adopting = malloc(sizeof *adopting);
    if (!data || !adopting)
        abort();
    *adopting = (struct adopting){.done = done, .arg = arg};
    adopting->error = guest_state_load(driver, guest, &adopting->failure);
    if (!adopting->error)
        adopting->error = oci_watch_process(data, &adopting->failure);
    loop_defer(driver->config.loop, tell_adopted, adopting);
}

static void each_trace(struct driver *base, void (*visit)(void *arg, const char *guest_id),
                       void *arg)
{
    struct oci_driver *driver = container_of(base, struct oci_driver, driver);
    guest_files_each(driver, visit, arg);
    cgroup_each(&driver->cgroups, visit, arg);
}

/* --- the driver --- */

static void free_driver(struct driver *base)
{
    struct oci_driver *driver = container_of(base, struct oci_driver, driver);
    worker_pool_free(driver->starters);
    oci_sockets_close(driver);
    cgroups_leave(&driver->cgroups);
    list_for_each(cursor, following, &driver->versions)
    {
        free(container_of(cursor, struct version, link));
    }
    cleanup_close(&driver->state_fd);
    cleanup_close(&driver->runtime_fd);
    free(driver->launch_path);
    free(driver->agent_path);
    free(driver->seccomp_program);
    free(driver);
}

/* Guests come and go, and ext4 gives the inode of a file that was deleted just now to nobody: where
 * one guest's files lie beside those of another that is gone, each new one passes over all of
 * those. So each guest's directory is placed as one below the root of the disk is: anywhere. What
 * other file systems make of it does not matter. */
static void spread_over_disk(int directory_fd)
{
    int flags;
    if (ioctl(directory_fd, FS_IOC_GETFLAGS, &flags) < 0)
        return;
    flags |= FS_TOPDIR_FL;
    (void)ioctl(directory_fd, FS_IOC_SETFLAGS, &flags);
}

static const struct driver_operations operations = {
    .name = "oci",
    .probe = oci_probe,
    .prepare = oci_prepare,
    .start = oci_start,
    .connect = connect_guest,
    .port_socket = oci_port_socket,
    .stop = oci_stop,
    .destroy = oci_destroy,
    .resize = oci_resize,
    .disk = oci_disk,
    .adopt = adopt,
    .each_trace = each_trace,
    .free = free_driver,
    .forget = forget,
};

int oci_driver_new(struct driver **ret_driver, const struct driver_config *config,
                   struct hearth_failure *failure)
{
    struct oci_driver *driver = calloc(1, sizeof *driver);
    if (!driver)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "cannot allocate the driver");
    *driver = (struct oci_driver){
        .driver.operations = &operations,
        .config = *config,
        .as_root = geteuid() == 0,
        .state_fd = -1,
        .runtime_fd = -1,
        .network_fd = -1,
        .launch_path = spawn_sibling("hearth-launch"),
        .agent_path = text_copy(config->agent_path),
        .seccomp_program = bundle_seccomp_program(),
    };
    list_init(&driver->versions);
    oci_runtime_find(&driver->runtime, config->runtime);
    if (path_read_small(AT_FDCWD, "/proc/sys/kernel/random/boot_id", driver->boot_id,
                        sizeof driver->boot_id) > 0)
        driver->boot_id[strcspn(driver->boot_id, "\n")] = '\0';
    int error = 0;
    if ((driver->state_fd = guests_directory(config->state_dir, "guests", failure)) < 0)
        error = driver->state_fd;
    else if ((driver->runtime_fd = guests_directory(config->runtime_dir, "guests", failure)) < 0)
        error = driver->runtime_fd;
    else
        error = worker_pool_new(&driver->starters, config->loop, STARTERS, failure);
    if (error) {
        free_driver(&driver->driver);
        return error;
    }
    oci_sockets_open(driver);
    guests_find_cgroups(&driver->cgroups, driver->state_fd);
    spread_over_disk(driver->state_fd);
    *ret_driver = &driver->driver;
    return 0;
}
