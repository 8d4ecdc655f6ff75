/* Places between two steps, where the fault tests end the daemon as kill -9 would. Loop thread. */
#pragma once

/* Ends the process at once where HEARTHD_CRASH_AT names this point. */
void crash_point(const char *name);
