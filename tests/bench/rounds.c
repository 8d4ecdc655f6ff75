#include "rounds.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct interval {
    int64_t from, to; /* ns */
};

struct thread {
    const struct rounds *rounds;
    pthread_t id;
    unsigned number;
    struct interval *intervals; /* count rounds of step_count */
};

static pthread_barrier_t barrier;

void rounds_die(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void *run_thread(void *arg)
{
    struct thread *thread = arg;
    const struct rounds *rounds = thread->rounds;
    void *state = rounds->begin(thread->number);
    struct interval *at = thread->intervals;
    pthread_barrier_wait(&barrier);
    for (unsigned round = 0; round < rounds->count; round++) {
        for (unsigned step = 0; step < rounds->step_count; step++, at++) {
            if (rounds->together)
                pthread_barrier_wait(&barrier);
            at->from = now();
            rounds->step(state, round, step);
            at->to = now();
        }
    }
    return NULL;
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Steps first..last of every round of every thread. */
static void print_steps(const struct rounds *rounds, const struct thread *threads, unsigned first,
                        unsigned last)
{
    size_t total = (size_t)rounds->count * rounds->threads;
    int64_t *times = malloc(total * sizeof *times), begun = INT64_MAX, ended = 0;
    if (!times)
        rounds_die("out of memory");
    for (unsigned i = 0; i < rounds->threads; i++) {
        for (unsigned round = 0; round < rounds->count; round++) {
            const struct interval *steps =
                threads[i].intervals + (size_t)round * rounds->step_count;
            times[(size_t)i * rounds->count + round] = steps[last].to - steps[first].from;
            if (round == rounds->count - 1 && steps[first].from < begun)
                begun = steps[first].from;
            if (steps[last].to > ended)
                ended = steps[last].to;
        }
    }
    qsort(times, total, sizeof *times, compare);
    printf("{\"median_us\":%.1f,\"p99_us\":%.1f,\"wall_us\":%.1f}", (double)times[total / 2] / 1e3,
           (double)times[(total - 1) * 99 / 100] / 1e3, (double)(ended - begun) / 1e3);
    free(times);
}

static void print(const struct rounds *rounds, const struct thread *threads)
{
    size_t last = (size_t)rounds->count * rounds->step_count - 1;
    int64_t begun = INT64_MAX, ended = 0;
    for (unsigned i = 0; i < rounds->threads; i++) {
        if (threads[i].intervals[0].from < begun)
            begun = threads[i].intervals[0].from;
        if (threads[i].intervals[last].to > ended)
            ended = threads[i].intervals[last].to;
    }
    printf("{\"steps\":[");
    for (unsigned step = 0; step < rounds->step_count; step++) {
        if (step)
            putchar(',');
        print_steps(rounds, threads, step, step);
    }
    printf("],\"whole\":");
    print_steps(rounds, threads, 0, rounds->step_count - 1);
    printf(",\"per_second\":%.1f}\n",
           (double)rounds->count * rounds->threads * 1e9 / (double)(ended - begun));
}

void rounds_run(const struct rounds *rounds)
{
    if (!rounds->count || !rounds->threads || !rounds->step_count)
        rounds_die("nothing to do");
    struct thread *threads = calloc(rounds->threads, sizeof *threads);
    if (!threads || pthread_barrier_init(&barrier, NULL, rounds->threads))
        rounds_die("out of memory");
    for (unsigned i = 0; i < rounds->threads; i++) {
        struct thread *thread = &threads[i];
        *thread = (struct thread){.rounds = rounds, .number = i};
        thread->intervals =
            calloc((size_t)rounds->count * rounds->step_count, sizeof *thread->intervals);
        if (!thread->intervals || pthread_create(&thread->id, NULL, run_thread, thread))
            rounds_die("cannot start a thread");
    }
    for (unsigned i = 0; i < rounds->threads; i++)
        pthread_join(threads[i].id, NULL);
    print(rounds, threads);
    for (unsigned i = 0; i < rounds->threads; i++)
        free(threads[i].intervals);
    free(threads);
}
