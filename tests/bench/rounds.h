/* Times of steps that are taken over and over, by some threads side by side. Printed as one JSON
 * object on stdout: for each step its median_us and p99_us, and wall_us, from the start of its last
 * round until every thread had taken it; the same for all steps of a round together, as "whole";
 * and per_second, the rounds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct rounds {
    unsigned count, threads; /* rounds of each thread */
    bool together;           /* every thread begins a step when all have taken the one before */
    unsigned step_count;
    /* Called in the thread, numbered from 0. NULL ends the program. */
    void *(*begin)(unsigned thread);
    void (*step)(void *state, unsigned round, unsigned step);
};

void rounds_run(const struct rounds *rounds);

/* One line on stderr and exit status 1. */
__attribute__((format(printf, 1, 2), noreturn)) void rounds_die(const char *format, ...);
