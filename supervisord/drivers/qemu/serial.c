/* The transport that every QEMU has: a virtio-serial port whose other end is a Unix socket. */
#include "supervisord/drivers/qemu/opening.h"
#include "supervisord/drivers/qemu/qemu.h"

#include "guestagent/preamble.h"

#include <errno.h>
#include <stdlib.h>

#define SOCKET "agent"

struct connecting {
    struct qemu_guest *guest;
    struct opening *opening;
    struct timer late; /* the end of a connect that failed at once */
    transport_connected done;
    void *arg;
    struct hearth_failure failure;
};

static bool usable(const struct qemu_driver *driver, char *ret_reason, size_t size)
{
    (void)driver;
    (void)ret_reason;
    (void)size;
    return true;
}

static int prepare(struct qemu_guest *guest, struct hearth_failure *failure)
{
    guest->agent_fd = qemu_files_listen(guest, SOCKET);
    return guest->agent_fd < 0 ? hearth_fail_errno(failure, -guest->agent_fd, "start_failed",
                                                   "cannot make the agent's socket")
                               : 0;
}

static void add_arguments(const struct qemu_guest *guest, struct arguments *arguments)
{
    (void)guest;
    arguments_add(arguments, "-chardev");
    arguments_add(arguments, "socket,id=agent,fd=%d,server=on,wait=off", QEMU_FD_AGENT);
    arguments_add(arguments, "-device");
    arguments_add(arguments, "virtio-serial-device,max_ports=2");
    arguments_add(arguments, "-device");
    arguments_add(arguments, "virtserialport,chardev=agent,nr=1,name=" AGENT_PORT_NAME);
}

static void connecting_free(void *arg)
{
    struct connecting *connecting = arg;
    timer_free(&connecting->late);
    free(connecting);
}

static void finish(struct connecting *connecting, int fd, const struct hearth_failure *failure)
{
    connecting->opening = NULL;
    timer_unset(&connecting->late);
    loop_defer(qemu_loop(connecting->guest), connecting_free, connecting);
    connecting->done(connecting->arg, fd, failure);
}

static void on_opened(void *arg, int fd, const struct hearth_failure *failure)
{
    finish(arg, fd, failure);
}

static void tell_failure(void *arg)
{
    struct connecting *connecting = arg;
    finish(connecting, -1, &connecting->failure);
}

static void *connect_agent(struct qemu_guest *guest, int64_t deadline_us, transport_connected done,
                           void *arg)
{
    struct connecting *connecting = calloc(1, sizeof *connecting);
    if (!connecting)
        abort();
    *connecting = (struct connecting){.guest = guest, .done = done, .arg = arg};
    timer_init(&connecting->late, qemu_loop(guest), tell_failure, connecting);
    int fd = qemu_files_connect(guest, SOCKET);
    if (fd >= 0)
        connecting->opening = opening_begin(qemu_loop(guest), fd, guest->linked, guest->making,
                                            deadline_us, on_opened, connecting);
    if (!connecting->opening) {
        hearth_fail_errno(&connecting->failure, fd < 0 ? -fd : ENOMEM, "guest_unreachable",
                          "cannot connect to the machine's agent");
        connecting->failure.error = HEARTH_EUNAVAILABLE;
        timer_set(&connecting->late, clock_monotonic_us());
    }
    return connecting;
}

static void cancel(void *arg)
{
    struct connecting *connecting = arg;
    if (connecting->opening)
        opening_cancel(connecting->opening);
    timer_unset(&connecting->late);
    loop_defer(qemu_loop(connecting->guest), connecting_free, connecting);
}

const struct vm_transport transport_serial = {
    .name = "serial",
    .execution_mode = "guest_serial",
    .choice = "serial",
    .exact = "serial",
    .restorable = true,
    .usable = usable,
    .prepare = prepare,
    .add_arguments = add_arguments,
    .connect = connect_agent,
    .cancel = cancel,
};
