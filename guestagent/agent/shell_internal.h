/* What the shell files of the agent share. */
#pragma once

#include "guestagent/agent/agent.h"
#include "guestagent/agent/pty.h"
#include "guestagent/agent/text_ring.h"

#include <event2/event.h>

struct shell {
    struct agent *agent;
    char shell_id[64];
    struct map_entry entry; // agent::shells.by_id
    struct list link;       // agent::shells.running or .finished
    struct list waiters;    // waiter::link
    char *cwd;              /* where it began */
    pid_t pid;              /* 0 once reaped */
    pid_t session;          /* the same, kept */
    bool running;           /* the exit or the terminal's end is still awaited */
    bool exited, closing;   /* closing: somebody has asked for its end */
    int exit_code, signal;
    unsigned cols, rows;
    int64_t started_wall_us, ended_wall_us;
    int64_t started_us, active_us; /* active: the last output, input or signal */
    int master;                    /* -1 once closed */
    struct event *readable, *writable;
    char *pending; /* input that the terminal has not taken yet */
    size_t pending_length, pending_at;
    struct text_ring text;        /* what may be shown */
    struct redact_stream *redact; /* NULL: nothing is to be redacted */
    struct event *idler;          /* shows what little is kept back */
    struct event *drainer;
};

/* shell.c */
struct shell *shell_find_or_refuse(struct agent *agent, struct link_call *call,
                                   const char *shell_id);
struct event *shell_timer(struct shell *shell, int64_t us, event_callback_fn fn, void *arg);
void shell_free_event(struct event **event);

/* shell_answer.c */
void shell_reply_state(const struct shell *shell, struct link_call *call); /* without output */
void shell_answer_output(struct shell *shell);
/* The end: answers all. Gives whether one of them asked to have it closed. */
bool shell_answer_ended(struct shell *shell);
/* Answers with the state at the first output, and after 2 s without any: what is written before a
 * shell reads is echoed twice, by the terminal and by the shell's line editing. */
void shell_wait_for_prompt(struct shell *shell, struct link_call *call);
void shell_wait_for_close(struct shell *shell, struct link_call *call);
/* Of call; of every call where it is NULL. */
void shell_drop_waiters(struct shell *shell, const struct link_call *call);
