/* Connected stream sockets that do not block. Any thread. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Gives how much the socket takes now (0: nothing), or a negative errno where it is broken. */
ssize_t socket_write(int fd, const void *data, size_t length);
/* Closes a socket so that its peer sees a reset. */
void socket_reset(int fd);
