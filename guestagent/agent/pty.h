/* A terminal of one's own: the master's end here, its other end for a process group in a session.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pty {
    int master;    /* non-blocking, close-on-exec */
    char path[32]; /* of the other end */
};

/* 0 or a negative errno. */
int pty_open(struct pty *pty, unsigned cols, unsigned rows);
int pty_resize(int master, unsigned cols, unsigned rows);
/* The process group that has the terminal, or 0. */
pid_t pty_foreground(int master);
/* Now, as processes' start times are counted. */
uint64_t pty_ticks(void);
/* KILL to every process of the session that pid began, whatever its group; to none where the number
 * has come to be another session's since `began`. Walks /proc. */
void pty_kill_session(pid_t session, uint64_t began);
