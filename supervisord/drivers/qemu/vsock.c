/* vsock by the host's kernel: /dev/vhost-vsock is opened here and given to QEMU, which may not open
 * it itself. The context ID is the guest's index, far above the reserved ones. */
#include "supervisord/drivers/qemu/qemu.h"

#include "base/cleanup.h"
#include "guestagent/preamble.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_CID 0x10000u
#define RETRY_US (20 * US_PER_MS)

struct connecting {
    struct qemu_guest *guest;
    int fd;
    int64_t deadline_us;
    struct timer retry;
    struct watch answer;
    transport_connected done;
    void *arg;
};

static const char *device(const struct qemu_driver *driver)
{
    return driver->config.vhost_vsock ? driver->config.vhost_vsock : "/dev/vhost-vsock";
}

static bool usable(const struct qemu_driver *driver, char *ret_reason, size_t size)
{
    auto_close int fd = open(device(driver), O_RDWR | O_CLOEXEC);
    if (fd < 0)
        snprintf(ret_reason, size, "%s cannot be opened: %s", device(driver), strerror(errno));
    return fd >= 0;
}

static unsigned context_id(const struct qemu_guest *guest)
{
    return FIRST_CID + guest->guest->index;
}

static int prepare(struct qemu_guest *guest, struct hearth_failure *failure)
{
    guest->agent_fd = open(device(guest->driver), O_RDWR | O_CLOEXEC);
    return guest->agent_fd < 0 ? hearth_fail_errno(failure, errno, "start_failed",
                                                   "cannot open %.200s", device(guest->driver))
                               : 0;
}

static void add_arguments(const struct qemu_guest *guest, struct arguments *arguments)
{
    arguments_add(arguments, "-device");
    arguments_add(arguments, "vhost-vsock-device,vhostfd=%d,guest-cid=%u", QEMU_FD_AGENT,
                  context_id(guest));
}

static void connecting_free(void *arg)
{
    struct connecting *connecting = arg;
    watch_free(&connecting->answer);
    timer_free(&connecting->retry);
    cleanup_close(&connecting->fd);
    free(connecting);
}

static void cancel(void *arg)
{
    struct connecting *connecting = arg;
    watch_free(&connecting->answer);
    timer_unset(&connecting->retry);
    loop_defer(qemu_loop(connecting->guest), connecting_free, connecting);
}

/* An HTTP/2 server speaks first: the byte is looked at, not taken. */
static void on_answer(void *arg)
{
    struct connecting *connecting = arg;
    char byte;
    if (recv(connecting->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
        int fd = steal_fd(&connecting->fd);
        cancel(connecting);
        connecting->done(connecting->arg, fd, NULL);
        return;
    }
    watch_free(&connecting->answer);
    cleanup_close(&connecting->fd);
    connecting->fd = -1;
    timer_set(&connecting->retry, clock_monotonic_us() + RETRY_US);
}

/* Until the guest's kernel has the socket a connect is refused, or has no device to go to. */
static void try_connect(void *arg)
{
    struct connecting *connecting = arg;
    int64_t now = clock_monotonic_us();
    struct sockaddr_vm address = {.svm_family = AF_VSOCK,
                                  .svm_cid = context_id(connecting->guest),
                                  .svm_port = AGENT_VSOCK_PORT};
    if (now >= connecting->deadline_us) {
        struct hearth_failure failure;
        hearth_fail(&failure, HEARTH_EUNAVAILABLE, "guest_unreachable",
                    "the agent did not answer in time");
        cancel(connecting);
        connecting->done(connecting->arg, -1, &failure);
        return;
    }
    if (connecting->fd < 0)
        connecting->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    timer_set(&connecting->retry, connecting->deadline_us);
    if (connecting->fd >= 0 &&
        (connect(connecting->fd, (struct sockaddr *)&address, sizeof address) == 0 ||
         errno == EINPROGRESS) &&
        watch_init(&connecting->answer, qemu_loop(connecting->guest), connecting->fd, on_answer,
                   connecting) == 0)
        return;
    cleanup_close(&connecting->fd);
    connecting->fd = -1;
    timer_set(&connecting->retry, now + RETRY_US);
}

static void *connect_agent(struct qemu_guest *guest, int64_t deadline_us, transport_connected done,
                           void *arg)
{
    struct connecting *connecting = calloc(1, sizeof *connecting);
    if (!connecting)
        abort();
    *connecting = (struct connecting){
        .guest = guest, .fd = -1, .deadline_us = deadline_us, .done = done, .arg = arg};
    timer_init(&connecting->retry, qemu_loop(guest), try_connect, connecting);
    timer_set(&connecting->retry, clock_monotonic_us());
    return connecting;
}

const struct vm_transport transport_vsock = {
    .name = "vsock",
    .execution_mode = "guest_vsock",
    .choice = "vsock",
    .exact = "vhost-vsock",
    .restorable = false, /* a clone would have the context ID of what it was cloned from */
    .usable = usable,
    .prepare = prepare,
    .add_arguments = add_arguments,
    .connect = connect_agent,
    .cancel = cancel,
};
