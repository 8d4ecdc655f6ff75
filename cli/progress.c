#include "cli/progress.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REDRAW_US (100 * US_PER_MS)
#define BAR_WIDTH 24

void progress_begin(struct progress *progress, const char *label)
{
    *progress = (struct progress){.label = label, .terminal = isatty(STDERR_FILENO)};
}

static void format_amount(char *out, size_t size, uint64_t amount, bool bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    double scaled = (double)amount;
    size_t unit = 0;
    while (bytes && scaled >= 1024 && unit < 3) {
        scaled /= 1024;
        unit++;
    }
    if (bytes)
        snprintf(out, size, "%.*f %s", unit ? 1 : 0, scaled, units[unit]);
    else
        snprintf(out, size, "%llu", (unsigned long long)amount);
}

static void draw(struct progress *progress, uint64_t done, uint64_t total, bool bytes)
{
    char amount[32], whole[32], bar[BAR_WIDTH + 1];
    format_amount(amount, sizeof amount, done, bytes);
    format_amount(whole, sizeof whole, total, bytes);

    fprintf(stderr, "\r\033[K%s  %-12s ", progress->label, progress->stage);
    if (total) {
        size_t filled =
            done >= total ? BAR_WIDTH : (size_t)((double)done / (double)total * BAR_WIDTH);
        memset(bar, '.', BAR_WIDTH);
        memset(bar, '#', filled);
        bar[BAR_WIDTH] = '\0';
        fprintf(stderr, "[%s] %s of %s", bar, amount, whole);
    } else if (done) {
        fputs(amount, stderr);
    }
    fflush(stderr);
    progress->drawn = true;
}

void progress_update(struct progress *progress, const char *stage, uint64_t done, uint64_t total,
                     bool bytes)
{
    bool changed = strncmp(stage, progress->stage, sizeof progress->stage - 1) != 0;
    if (changed)
        snprintf(progress->stage, sizeof progress->stage, "%s", stage);
    if (!progress->terminal) {
        if (changed)
            fprintf(stderr, "%s: %s\n", progress->label, progress->stage);
        return;
    }
    int64_t now = clock_monotonic_us();
    if (!changed && now < progress->next_us)
        return;
    progress->next_us = now + REDRAW_US;
    draw(progress, done, total, bytes);
}

void progress_end(struct progress *progress)
{
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    progress->drawn = false;
}
