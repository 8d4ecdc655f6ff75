#include "guestagent/agent/machine.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define INTERFACE "eth0"
#define NETMASK "255.255.255.0"

static struct sockaddr address_of(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr any;
    inet_pton(AF_INET, text, &address.sin_addr);
    memcpy(&any, &address, sizeof any);
    return any;
}

static int raise_interface(const char *address, const char *router)
{
    auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = INTERFACE, .ifr_addr = address_of(address)};
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY,
                            .rt_dst = address_of("0.0.0.0"),
                            .rt_genmask = address_of("0.0.0.0"),
                            .rt_gateway = address_of(router)};
    if (fd < 0 || ioctl(fd, SIOCSIFADDR, &request) < 0)
        return -errno;
    request.ifr_netmask = address_of(NETMASK);
    if (ioctl(fd, SIOCSIFNETMASK, &request) < 0)
        return -errno;
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0 || ioctl(fd, SIOCADDRT, &route) < 0)
        return -errno;
    return 0;
}

static void write_file(const char *path, int flags, const char *text)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        log_warning("network_file_not_written", "%s: %s", path, strerror(errno));
}

void machine_network(const char *text)
{
    char address[16], router[16], server[16], resolver[32];
    if (sscanf(text, "%15[0-9.],%15[0-9.],%15[0-9.]", address, router, server) != 3) {
        log_warning("network_unreadable", "%s", text);
        return;
    }
    write_file("/proc/sys/net/ipv6/conf/" INTERFACE "/disable_ipv6", 0, "1");
    int error = raise_interface(address, router);
    if (error)
        log_error("network_down", "%s", strerror(-error));
    snprintf(resolver, sizeof resolver, "nameserver %s\n", server);
    unlink("/etc/resolv.conf"); /* it may be a symlink to a place that is nowhere yet */
    write_file("/etc/resolv.conf", O_CREAT | O_TRUNC, resolver);
}
