#include "base/standard_fds.h"

#include <fcntl.h>
#include <unistd.h>

void standard_fds_hold(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        /* The lowest that is free: this one. The wrong way round, so that neither end works. */
        int held = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        if (held > STDERR_FILENO)
            close(held);
    }
}
