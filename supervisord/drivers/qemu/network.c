#include "supervisord/drivers/qemu/qemu.h"

#include "supervisord/drivers/network.h"
#include "supervisord/drivers/remains.h"
#include "supervisord/net/net.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

int qemu_network_fd(const struct qemu_guest *guest)
{
    return guest->template_state_fd >= 0 ? QEMU_FD_END
           : guest->template_ram_fd >= 0 ? QEMU_FD_STATE
                                         : QEMU_FD_RAM;
}

/* A template has both ends: nobody else is to hear it, and its device is to be up. */
int qemu_network_fd_count(const struct qemu_guest *guest)
{
    return !guest->network ? 0 : guest->making ? 2 : 1;
}

void qemu_network_command(const struct qemu_guest *guest, struct arguments *arguments)
{
    arguments_add(arguments, "-netdev");
    arguments_add(arguments, "stream,id=net,server=off,addr.type=fd,addr.str=%d",
                  qemu_network_fd(guest));
    arguments_add(arguments, "-device");
    arguments_add(arguments,
                  "virtio-net-device,netdev=net,mac=" NET_GUEST_MAC ",host_mtu=" NET_GUEST_MTU);
}

static void on_connected(void *arg, int error, const struct hearth_failure *failure)
{
    struct qemu_guest *guest = arg;
    guest->child = NULL;
    if (error)
        guest->phase.failure = *failure;
    guest->network_connected(guest);
}

static int start(struct qemu_guest *guest)
{
    const struct qemu_driver *driver = guest->driver;
    char files[CGROUP_CONTROLLERS_MAX][CGROUP_PATH_SIZE], variable[64];
    char policy[PATH_MAX], log[PATH_MAX];
    const char *cgroup_files[CGROUP_CONTROLLERS_MAX];
    snprintf(variable, sizeof variable, GUEST_ID_VARIABLE "=%s", guest->guest_id);
    for (size_t i = 0; i < driver->cgroups.base_count; i++) {
        cgroup_join_file(&driver->cgroups, i, guest->guest_id, files[i]);
        cgroup_files[i] = files[i];
    }
    network_paths(driver->config.state_dir, guest->guest_id, policy, log);
    const struct network_spec spec = {.stream_fd = guest->network_fds[1],
                                      .as_root = driver->as_root,
                                      .owner = guest->owner,
                                      .policy = policy,
                                      .log = log,
                                      .environment = variable,
                                      .cgroup_files = cgroup_files,
                                      .cgroup_count = driver->cgroups.base_count};
    return network_connect(&guest->child, qemu_loop(guest), &spec, on_connected, guest,
                           &guest->phase.failure);
}

void qemu_network_connect(struct qemu_guest *guest, void (*done)(struct qemu_guest *guest))
{
    guest->network_connected = done;
    if (guest->network && !guest->phase.failure.error && !phase_unwanted(&guest->phase)) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, guest->network_fds) < 0)
            hearth_fail_errno(&guest->phase.failure, errno, "guest_start_failed",
                              "cannot make a socket");
        else if (!guest->making && start(guest) == 0)
            return;
    }
    done(guest);
}
