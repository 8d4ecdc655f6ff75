/* Sockets in the network of a container. A socket belongs for good to the network namespace that
 * the thread which made it was in, so a thread goes there for the length of one socket(2). It is a
 * thread of its own that does nothing else, ever: what the rest of the daemon makes meanwhile, on
 * whatever thread, is of the host's network, and a thread that could not come back has nothing to
 * do there. */
#include "supervisord/drivers/oci/oci.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Names a network namespace, for as long as the system runs (Linux 5.14). */
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
/* What waits in the kernel for a connection, each way. By itself it would grow to megabytes that no
 * limit of the guest's counts. */
#define SOCKET_BUFFER (256 << 10)

struct making {
    struct oci_driver *driver;
    int process_fd, fd;
    struct hearth_failure failure;
    guest_connected done;
    void *arg;
};

static uint64_t network_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0 ? 0 : cookie;
}

static int make_socket(void)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

void oci_sockets_open(struct oci_driver *driver)
{
    struct hearth_failure failure;
    auto_close int probe = make_socket();
    driver->network_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    driver->network_cookie = probe < 0 ? 0 : network_of(probe);
    /* Without privilege over the guests' user namespaces there is no way into them for a process
     * of several threads. */
    if (driver->as_root && driver->network_fd >= 0 && driver->network_cookie)
        (void)worker_pool_new(&driver->socket_maker, driver->config.loop, 1, &failure);
}

void oci_sockets_close(struct oci_driver *driver)
{
    worker_pool_free(driver->socket_maker);
    cleanup_close(&driver->network_fd);
}

static int go_home(struct oci_driver *driver)
{
    driver->is_astray = setns(driver->network_fd, CLONE_NEWNET) < 0;
    return driver->is_astray ? -errno : 0;
}

/* The pidfd says whose network it is: no other process is ever taken for the guest's. */
static int make_there(struct making *making)
{
    struct oci_driver *driver = making->driver;
    const int size = SOCKET_BUFFER;
    if (driver->is_astray && go_home(driver))
        return HEARTH_EUNAVAILABLE;
    if (setns(making->process_fd, CLONE_NEWNET) < 0)
        return hearth_fail_errno(&making->failure, errno, "guest_unreachable",
                                 "the guest's network cannot be entered");
    auto_close int fd = make_socket();
    int error = errno;
    (void)go_home(driver);
    if (fd < 0)
        return hearth_fail_errno(&making->failure, error, "guest_unreachable",
                                 "cannot make a socket");
    /* Never the host's, whatever the runtime made of the namespace that it was told to make. */
    uint64_t cookie = network_of(fd);
    if (!cookie || cookie == driver->network_cookie)
        return hearth_fail(&making->failure, HEARTH_EUNAVAILABLE, "guest_unreachable",
                           "the guest has no network of its own");
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return steal_fd(&fd);
}

static void make(void *arg)
{
    struct making *making = arg;
    making->fd = make_there(making);
}

static void tell(void *arg)
{
    struct making *making = arg;
    making->done(making->arg, making->fd < 0 ? -1 : making->fd,
                 making->fd < 0 ? &making->failure : NULL);
    cleanup_close(&making->process_fd);
    free(making);
}

/* One whose first process is in the network that its programs see: gVisor's is not. */
static bool shares_kernel(const struct guest *guest)
{
    const char *runtime = guest->facts.runtime ? guest->facts.runtime : "";
    return strncmp(runtime, "crun ", 5) == 0 || strncmp(runtime, "runc ", 5) == 0;
}

void oci_port_socket(struct driver *base, struct guest *guest, guest_connected done, void *arg)
{
    struct oci_driver *driver = container_of(base, struct oci_driver, driver);
    struct making *making = malloc(sizeof *making);
    if (!making)
        abort();
    *making = (struct making){.driver = driver, .fd = -1, .done = done, .arg = arg};
    hearth_fail(&making->failure, HEARTH_EUNAVAILABLE, "guest_unreachable",
                "the guest's network cannot be entered");
    making->process_fd = driver->socket_maker && shares_kernel(guest)
                             ? fcntl(guest->process.fd, F_DUPFD_CLOEXEC, 0)
                             : -1;
    if (making->process_fd >= 0)
        worker_submit(driver->socket_maker, make, tell, making);
    else
        loop_defer(driver->config.loop, tell, making);
}
