#include "supervisord/drivers/qemu/timestamp.h"

#include <time.h>

#define ENOUGH_NS INT64_C(50000000)
#define NS_PER_S INT64_C(1000000000)

struct timestamp timestamp_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_RAW, &time);
    struct timestamp now = {.ns = time.tv_sec * NS_PER_S + time.tv_nsec};
#ifdef __x86_64__
    now.ticks = __builtin_ia32_rdtsc();
#endif
    return now;
}

unsigned timestamp_khz(const struct timestamp *since)
{
    struct timestamp now = timestamp_now();
    if (now.ns - since->ns < ENOUGH_NS) {
        struct timespec rest = {.tv_nsec = since->ns + ENOUGH_NS - now.ns};
        nanosleep(&rest, NULL);
        now = timestamp_now();
    }
    return now.ticks > since->ticks
               ? (unsigned)((double)(now.ticks - since->ticks) * 1e6 / (double)(now.ns - since->ns))
               : 0;
}
