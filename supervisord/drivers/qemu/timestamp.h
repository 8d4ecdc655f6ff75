/* The rate of this host's time stamp counter. A guest under TCG reads that counter, but cannot find
 * its rate out by itself when the host is busy: it measures it against a timer chip that is
 * emulated, and where that fails its kernel waits for ever for an interrupt that does not come. So
 * it is told. Any thread. */
#pragma once

#include <stdint.h>

struct timestamp {
    uint64_t ticks;
    int64_t ns;
};

struct timestamp timestamp_now(void);
/* In kHz, since an earlier time; sleeps until enough time has gone by to be exact (blocking). 0 on
 * a machine that has no such counter. */
unsigned timestamp_khz(const struct timestamp *since);
