#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

static _Atomic int64_t monotonic_shift, wall_shift;

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

int64_t clock_monotonic_us(void)
{
    return read_clock(CLOCK_MONOTONIC) + monotonic_shift;
}

int64_t clock_wall_us(void)
{
    return read_clock(CLOCK_REALTIME) + wall_shift;
}

int64_t clock_boot_us(void)
{
    return read_clock(CLOCK_BOOTTIME) + monotonic_shift;
}

void clock_shift(int64_t monotonic_us, int64_t wall_us)
{
    monotonic_shift += monotonic_us;
    wall_shift += wall_us;
}
