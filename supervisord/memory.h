/* How much memory the host can still give, as its kernel tells. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* MemAvailable of /proc/meminfo's text in MiB; UINT64_MAX where it does not say. Pure. */
uint64_t memory_parse_available(const char *meminfo);
/* Of /proc/pressure/memory's text: the share of the last ten seconds, in percent, in which some
 * process waited for memory; 0 where it does not say. Pure. */
unsigned memory_parse_pressure(const char *pressure);

/* Of /proc/PID/statm's text: what the process has in memory that is its own, in MiB; 0 where it
 * does not say. Pure. */
uint64_t memory_parse_own(const char *statm, uint64_t page_size);

struct memory_now {
    uint64_t available_mib;
    unsigned pressure; /* percent */
};
/* Reads two files of the kernel's memory. Any thread. */
struct memory_now memory_look(void);
/* memory_parse_own for a process that is there; else 0. */
uint64_t memory_of_process_mib(int pid);
