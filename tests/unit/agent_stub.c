/* Stands in for hearth-agent where a test wants a guest but not the link: PID 1 of a container that
 * greets every connection with one byte and then runs a shell on it. SIGUSR1 ends it in order. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void);

static void end(int signal)
{
    (void)signal;
    _exit(0);
}

int main(void)
{
    signal(SIGCHLD, SIG_IGN); /* no zombies */
    signal(SIGUSR1, end);
    fcntl(3, F_SETFL, 0); /* it is made for an event loop */
    for (;;) {
        int fd = accept(3, NULL, NULL);
        if (fd < 0 || write(fd, "*", 1) != 1 || fork() != 0) {
            close(fd);
            continue;
        }
        signal(SIGCHLD, SIG_DFL);
        for (int i = 0; i < 3; i++)
            dup2(fd, i);
        close_range(3, ~0U, 0);
        execl("/bin/sh", "sh", (char *)NULL);
        _exit(127);
    }
}
