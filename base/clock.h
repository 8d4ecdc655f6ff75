/* The two clocks. Deadlines and durations are monotonic microseconds; what is told or stored is
 * wall-clock microseconds since the epoch. Tests may shift either. Any thread. */
#pragma once

#include <stdint.h>

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)
#define CLOCK_NEVER INT64_MAX

int64_t clock_monotonic_us(void);
int64_t clock_wall_us(void);
/* Since the host's boot, its sleep too: what nobody can set. */
int64_t clock_boot_us(void);

/* For tests: added to what the clocks say from now on. */
void clock_shift(int64_t monotonic_us, int64_t wall_us);
