#include "base/socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t socket_write(int fd, const void *data, size_t length)
{
    ssize_t written = send(fd, data, length, MSG_NOSIGNAL);
    if (written < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return written;
}

void socket_reset(int fd)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}
