#include "supervisord/memory.h"

#include "base/path_at.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

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
