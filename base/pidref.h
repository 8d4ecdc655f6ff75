/* A process, named so that a reused PID is never taken for it: PID, start time (clock ticks since
 * boot, proc(5) field 22) and, while held, a pidfd. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pidref {
    pid_t pid; /* 0: none */
    uint64_t start_time;
    int fd; /* pidfd, -1 if not held */
};

#define PIDREF_NONE ((struct pidref){.fd = -1})

/* Opens a pidfd for pid and reads its start time. 0 or a negative errno (ESRCH: gone). */
int pidref_open(struct pidref *ret_pidref, pid_t pid);

/* As pidref_open, but fails with -ESRCH where the process there now started at another time. */
int pidref_reopen(struct pidref *ret_pidref, pid_t pid, uint64_t start_time);

/* Sends a signal through the pidfd. 0 or a negative errno. */
int pidref_signal(const struct pidref *pidref, int signal);

/* True until the process has exited (a zombie has). */
bool pidref_alive(const struct pidref *pidref);
void pidref_close(struct pidref *pidref);

/* Start time of pid, or 0 where there is no such process. */
uint64_t pidref_start_time(pid_t pid);
