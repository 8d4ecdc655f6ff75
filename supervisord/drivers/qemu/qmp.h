/* QEMU's monitor, as far as we need it: a few commands one after the other, then the end of a
 * migration. What QEMU says is bounded and looked at for what was asked alone. Loop thread. */
#pragma once

#include "supervisord/loop.h"

#include <stddef.h>

struct qmp;

struct qmp_command {
    const char *text; /* {"execute": …} */
    int fd;           /* goes with it (borrowed); -1: none */
};

typedef void (*qmp_done)(void *arg, int error, const struct hearth_failure *failure);

/* Takes fd, a connection to the monitor. commands are borrowed until done. migration: wait for the
 * MIGRATION event that says completed. done comes once, never before this returns. NULL without
 * memory. */
struct qmp *qmp_run(struct loop *loop, int fd, const struct qmp_command *commands, size_t count,
                    bool migration, int64_t deadline_us, qmp_done done, void *arg);
/* done is not called. */
void qmp_cancel(struct qmp *qmp);
