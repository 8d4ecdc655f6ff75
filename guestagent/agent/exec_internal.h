/* What the exec files of the agent share: one command. */
#pragma once

#include "guestagent/agent/agent.h"
#include "guestagent/agent/ring.h"

struct output {
    struct exec *exec;
    struct ring ring;             /* what may be shown */
    struct redact_stream *redact; /* NULL: nothing is to be redacted */
    int fd;                       /* -1 once ended or given up */
    struct event *event;
    bool ended; /* end of file was seen */
};

struct exec {
    struct agent *agent;
    char exec_id[64];
    struct map_entry entry; // agent::execs
    struct list link;       // agent::running or agent::finished
    struct list waiters;    // exec_waiter::link
    struct list inputs;     // exec_input::link
    pid_t pid;              /* 0 once reaped */
    pid_t rest;             /* the group, while others of it have a grace to end in; 0 */
    bool running;           /* exit or streams are still awaited */
    bool started, exited, timed_out, cancelled, drained;
    int exit_code, signal;
    char problem[160];
    int64_t started_wall_us, started_us, ended_us;
    struct output out, err;
    int stdin_fd;
    bool stdin_open; /* more may come by ExecInput */
    struct event *stdin_event;
    char *pending; /* not yet taken by the pipe */
    size_t pending_length, pending_at;
    uint64_t queued, taken; /* bytes of input ever queued and ever taken */
    uint32_t kill_grace_ms, drain_ms;
    struct event *timeout, *killer, *drainer;
};

/* exec.c */
struct exec *exec_find_or_refuse(struct agent *agent, struct link_call *call, const char *exec_id);

/* exec_answer.c: readers */
/* Answers by what the request asks for, now or later. */
void exec_wait_for(struct exec *exec, struct link_call *call,
                   const Hearth__Agent__V1__ExecReadRequest *request);
/* Something has happened: answers those who waited for it. */
void exec_answer_satisfied(struct exec *exec);
/* Drops the waiters of call; of any call where it is NULL. */
void exec_drop_waiters(struct exec *exec, const struct link_call *call);

/* exec_input.c */
int exec_input_queue(struct exec *exec, const void *data, size_t length); /* 0 or -ENOMEM */
/* As much as the pipe takes now, and closes it after the last. */
void exec_input_write(struct exec *exec);
int exec_input_watch(struct exec *exec, int fd); /* takes fd into exec */
/* Nobody reads it any more: tells those who wait. */
void exec_input_close(struct exec *exec);
void exec_drop_inputs(struct exec *exec, const struct link_call *call);
