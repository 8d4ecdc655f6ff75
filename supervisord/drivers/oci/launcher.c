#include "supervisord/drivers/oci/oci.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "supervisord/drivers/arguments.h"
#include "supervisord/drivers/network.h"

#include <stdio.h>
#include <string.h>

#define LAUNCH_TIMEOUT_MS 30000
#define REMOVE_TIMEOUT_MS (10 * 60 * 1000)

static int run(struct oci_guest *guest, struct arguments *arguments, const int *pass_fds,
               size_t pass_count, unsigned timeout_ms, child_done done,
               struct hearth_failure *failure)
{
    if (arguments->failed)
        return hearth_fail(failure, HEARTH_ENOMEMORY, "launch_failed", "cannot start a program");
    char variable[64];
    snprintf(variable, sizeof variable, GUEST_ID_VARIABLE "=%s", guest->guest_id);
    const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", variable, NULL};
    const struct spawn_spec spec = {
        .argv = (const char *const *)arguments->items,
        .environment = environment,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = -1,
        .pass_fds = pass_fds,
        .pass_count = pass_count,
        .capture_limit = 1024,
        .timeout_ms = timeout_ms,
    };
    return spawn(&guest->child, guest->driver->config.loop, &spec, done, guest, failure);
}

int oci_launch(struct oci_guest *guest, child_done done, struct hearth_failure *failure)
{
    const struct oci_driver *driver = guest->driver;
    const struct driver_config *config = &driver->config;
    auto_arguments struct arguments arguments = {0};
    arguments_add(&arguments, "%s", driver->launch_path);
    if (driver->as_root)
        arguments_add(&arguments, "--uid-base=%u", (unsigned)guest->owner);
    for (size_t i = 0; i < driver->cgroups.base_count; i++) {
        char file[CGROUP_PATH_SIZE];
        cgroup_join_file(&driver->cgroups, i, guest->guest_id, file);
        arguments_add(&arguments, "--cgroup=%s", file);
    }
    arguments_add(&arguments, "--bundle=%s/guests/%s/bundle", config->runtime_dir, guest->guest_id);
    arguments_add(&arguments, "--disk=%s/guests/%s", config->state_dir, guest->guest_id);
    arguments_add(&arguments, "--tree=%s", guest->tree_path);
    arguments_add(&arguments, "--agent=%s", driver->agent_path);
    arguments_add(&arguments, "--");
    arguments_add(&arguments, "%s", driver->runtime.path);
    if (oci_runtime_is_crun(&driver->runtime))
        arguments_add(&arguments, "--cgroup-manager=disabled"); /* hearth-launch has done it */
    static const char *const rest[] = {
        "--root", "/tmp/state", "--log",    "/tmp/log",       "run", "--detach", "--bundle",
        "/tmp",   "--pid-file", "/tmp/pid", "--preserve-fds", "1",
    };
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        arguments_add(&arguments, "%s", rest[i]);
    arguments_add(&arguments, "%s", guest->guest_id);
    return run(guest, &arguments, &guest->listen_fd, 1, LAUNCH_TIMEOUT_MS, done, failure);
}

int oci_launch_network(struct oci_guest *guest, guest_done done, struct hearth_failure *failure)
{
    const struct oci_driver *driver = guest->driver;
    char files[CGROUP_CONTROLLERS_MAX][CGROUP_PATH_SIZE], variable[64];
    char policy[PATH_MAX], log[PATH_MAX];
    const char *cgroup_files[CGROUP_CONTROLLERS_MAX];
    snprintf(variable, sizeof variable, GUEST_ID_VARIABLE "=%s", guest->guest_id);
    for (size_t i = 0; i < driver->cgroups.base_count; i++) {
        cgroup_join_file(&driver->cgroups, i, guest->guest_id, files[i]);
        cgroup_files[i] = files[i];
    }
    network_paths(driver->config.state_dir, guest->guest_id, policy, log);
    const struct network_spec spec = {.guest = guest->guest->process.pid,
                                      .stream_fd = -1,
                                      .policy = policy,
                                      .log = log,
                                      .environment = variable,
                                      .cgroup_files = cgroup_files,
                                      .cgroup_count = driver->cgroups.base_count};
    return network_connect(&guest->child, driver->config.loop, &spec, done, guest, failure);
}

int oci_launch_remove(struct oci_guest *guest, child_done done, struct hearth_failure *failure)
{
    const struct oci_driver *driver = guest->driver;
    auto_arguments struct arguments arguments = {0};
    arguments_add(&arguments, "%s", driver->launch_path);
    if (driver->as_root)
        arguments_add(&arguments, "--uid-base=%u", (unsigned)guest->owner);
    arguments_add(&arguments, "--remove");
    arguments_add(&arguments, "%s/guests/%s", driver->config.runtime_dir, guest->guest_id);
    arguments_add(&arguments, "%s/guests/%s", driver->config.state_dir, guest->guest_id);
    return run(guest, &arguments, NULL, 0, REMOVE_TIMEOUT_MS, done, failure);
}

int oci_disk(struct driver *driver, struct guest *guest, const struct guest_spec *spec,
             struct guest_disk *ret_disk, struct hearth_failure *failure)
{
    const struct oci_driver *oci = container_of(driver, struct oci_driver, driver);
    const struct oci_guest *data = oci_guest_data(driver, guest);
    struct guest_disk *disk = ret_disk;
    if (!data)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (!spec->tree_path)
        return hearth_fail(failure, HEARTH_EINVALID, "environment_missing",
                           "the workspace's environment is not there any more");
    *disk = (struct guest_disk){.owner = geteuid()};
    snprintf(disk->base, sizeof disk->base, "%s", spec->tree_path);
    snprintf(disk->disk, sizeof disk->disk, "%s/guests/%s", oci->config.state_dir, guest->guest_id);
    const char *const words[] = {"--tree", disk->base, "--disk", disk->disk};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        disk->words[disk->word_count++] = words[i];
    if (oci->as_root) {
        disk->owner = data->owner;
        snprintf(disk->number, sizeof disk->number, "%u", (unsigned)disk->owner);
        disk->words[disk->word_count++] = "--uid-base";
        disk->words[disk->word_count++] = disk->number;
    }
    return 0;
}
