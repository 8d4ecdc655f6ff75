/* Preloaded into a daemon under test: the wall clock that it sees is off by the microseconds that
 * the file CLOCK_SHIM holds (eight bytes, mapped: a test sets the clock by writing them). */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift_us;

__attribute__((constructor)) static void map_shift(void)
{
    const char *path = getenv("CLOCK_SHIM");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shift_us, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED)
        shift_us = page;
    if (fd >= 0)
        close(fd);
    unsetenv("LD_PRELOAD"); /* not for what the daemon starts */
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    int error = (int)syscall(SYS_clock_gettime, id, now);
    if (error || id != CLOCK_REALTIME || !shift_us)
        return error;
    int64_t us = (int64_t)now->tv_sec * 1000000 + now->tv_nsec / 1000 + *shift_us;
    *now = (struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    return 0;
}
