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

/* Initializers. The capabilities that one or the other of us needs: an event where a migration
 * ends, and memory that is a shared mapping left out of it. */
#define QMP_CAPABILITIES(events, ignore_shared)                                                    \
    {                                                                                              \
        "{\"execute\": \"migrate-set-capabilities\", \"arguments\": {\"capabilities\": ["          \
        "{\"capability\": \"events\", \"state\": " #events "}, "                                   \
        "{\"capability\": \"x-ignore-shared\", \"state\": " #ignore_shared "}]}}",                 \
            -1                                                                                     \
    }
/* The file that QMP_MIGRATE writes. */
#define QMP_GIVE_STATE(fd)                                                                         \
    {                                                                                              \
        "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"state\"}}", fd                     \
    }
#define QMP_MIGRATE                                                                                \
    {                                                                                              \
        "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"fd:state\"}}", -1                   \
    }
#define QMP_FULL_SPEED                                                                             \
    {                                                                                              \
        "{\"execute\": \"migrate-set-parameters\", \"arguments\": {\"max-bandwidth\": "            \
        "17179869184}}",                                                                           \
            -1                                                                                     \
    }
/* What QEMU was given as its seventh descriptor. */
#define QMP_LOAD                                                                                   \
    {                                                                                              \
        "{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"fd:7\"}}", -1              \
    }
#define QMP_STOP                                                                                   \
    {                                                                                              \
        "{\"execute\": \"stop\"}", -1                                                              \
    }
#define QMP_CONTINUE                                                                               \
    {                                                                                              \
        "{\"execute\": \"cont\"}", -1                                                              \
    }

typedef void (*qmp_done)(void *arg, int error, const struct hearth_failure *failure);

/* Takes fd, a connection to the monitor. commands are borrowed until done. migration: wait for the
 * MIGRATION event that says completed. done comes once, never before this returns. NULL without
 * memory. */
struct qmp *qmp_run(struct loop *loop, int fd, const struct qmp_command *commands, size_t count,
                    bool migration, int64_t deadline_us, qmp_done done, void *arg);
/* done is not called. */
void qmp_cancel(struct qmp *qmp);
