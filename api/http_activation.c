/* systemd's socket activation (sd_listen_fds(3)): the protocol is three variables and descriptors
 * from 3 on, so it needs no library. */
#include "api/http_internal.h"

#include "base/log.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FIRST_FD 3

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 ==
               IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static int take(struct http_server *server, int fd, struct hearth_failure *failure)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int listening = 0, flags = fcntl(fd, F_GETFL);
    socklen_t size = sizeof listening;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening ||
        (address.ss_family != AF_UNIX && address.ss_family != AF_INET &&
         address.ss_family != AF_INET6))
        return hearth_fail(failure, HEARTH_EINVALID, "listen_failed",
                           "descriptor %d from systemd is not a listening stream socket", fd);
    bool local = address.ss_family == AF_UNIX;
    if (!local && !is_loopback(&address))
        return hearth_fail(failure, HEARTH_EINVALID, "listen_failed",
                           "descriptor %d from systemd listens beyond the loopback interface", fd);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return hearth_fail_errno(failure, errno, "listen_failed", "cannot set up descriptor %d",
                                 fd);
    return http_listener_add(server, fd, local, failure);
}

/* Ours are "api" and "tcp", or what systemd calls a socket whose unit names none. Others (the
 * descriptor store) belong to somebody else. */
static bool is_ours(const char *name, size_t length)
{
    static const char suffix[] = ".socket";
    size_t suffix_length = sizeof suffix - 1;
    return (length == 3 && (!strncmp(name, "api", 3) || !strncmp(name, "tcp", 3))) ||
           (length > suffix_length &&
            !strncmp(name + length - suffix_length, suffix, suffix_length)) ||
           (length == 7 && !strncmp(name, "unknown", 7));
}

int http_activation_take(struct http_server *server, struct hearth_failure *failure)
{
    const char *pid = getenv("LISTEN_PID"), *count_text = getenv("LISTEN_FDS");
    if (!pid || !count_text || strtol(pid, NULL, 10) != getpid())
        return 0;
    const char *names = getenv("LISTEN_FDNAMES");
    int count = (int)strtol(count_text, NULL, 10), error = 0;
    for (int i = 0; i < count && !error; i++) {
        size_t length = names ? strcspn(names, ":") : 0;
        if (!names || is_ours(names, length))
            error = take(server, FIRST_FD + i, failure);
        if (names)
            names = names[length] ? names + length + 1 : names + length;
    }
    /* Children must not take them for theirs. */
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return error;
}
