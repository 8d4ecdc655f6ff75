#include "supervisord/memory.h"

#include "base/path_at.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

uint64_t memory_parse_available(const char *meminfo)
{
    const char *line = strstr(meminfo, "MemAvailable:");
    unsigned long long kib;
    return line && sscanf(line, "MemAvailable: %llu kB", &kib) == 1 ? kib >> 10 : UINT64_MAX;
}

unsigned memory_parse_pressure(const char *pressure)
{
    unsigned percent;
    return sscanf(pressure, "some avg10=%u", &percent) == 1 ? percent : 0;
}

uint64_t memory_parse_own(const char *statm, uint64_t page_size)
{
    unsigned long long resident, shared;
    if (sscanf(statm, "%*u %llu %llu", &resident, &shared) != 2 || shared > resident)
        return 0;
    return ((resident - shared) * page_size) >> 20;
}

uint64_t memory_of_process_mib(int pid)
{
    char path[32], text[128];
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    return pid > 0 && path_read_small(AT_FDCWD, path, text, sizeof text) > 0
               ? memory_parse_own(text, (uint64_t)sysconf(_SC_PAGESIZE))
               : 0;
}

struct memory_now memory_look(void)
{
    char text[512];
    struct memory_now now = {.available_mib = UINT64_MAX};
    if (path_read_small(AT_FDCWD, "/proc/meminfo", text, sizeof text) > 0)
        now.available_mib = memory_parse_available(text);
    if (path_read_small(AT_FDCWD, "/proc/pressure/memory", text, sizeof text) > 0)
        now.pressure = memory_parse_pressure(text);
    return now;
}
