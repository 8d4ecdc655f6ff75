/* Commands in a workspace. Three limits never mixed up: wait bounds an answer and ends nothing;
 * timeout ends the process group; ttl is the workspace's. An exec is known by its ID from before it
 * starts until reset or delete; its output is read by cursor from the agent's ring while it runs,
 * and from the history database afterwards. A restarted daemon finds running execs again. Loop
 * thread; completions exactly once, never before the call returns. */
#pragma once

#include "supervisord/workspace.h"

struct exec;
struct exec_wait;

#define EXEC_OUTPUT_DEFAULT (UINT64_C(1) << 20) /* bytes kept of each stream */
#define EXEC_OUTPUT_MAX (UINT64_C(16) << 20)

struct exec_variable {
    const char *name, *value;
};

struct exec_spec {
    const char *command; /* a shell line, or NULL where argv is given */
    const char *const *argv;
    size_t argv_count;
    const char *cwd; /* NULL: /workspace */
    const struct exec_variable *environment;
    size_t environment_count;
    const struct secret_variable *secrets;
    size_t secret_count;
    const char *input; /* stdin, closed after it */
    size_t input_length;
    bool input_open;           /* exec_input follows */
    unsigned timeout_ms;       /* 0: none */
    uint64_t max_output_bytes; /* of each stream: half from its start, half from its end */
    const char *request_id;
    bool read_on; /* by the cursor: while it runs the answer tells of a piece of its output alone */
};

/* What is known of an exec now. Pointers are borrowed for the call they are given to. */
struct exec_status {
    const char *exec_id, *workspace_id;
    uint64_t sequence;
    const char *command, *cwd, *execution_mode;
    bool running, started, timed_out, cancelled, drained, truncated, lost;
    int exit_code, signal; /* valid when not running */
    const char *problem;   /* why it did not start or was lost, NULL */
    int64_t started_at, ended_at, duration_us;
    /* Output past the cursor that was asked for. A hole (what was not kept) is told by *_omitted,
     * which lies
     * *_head bytes into the data. Raw bytes. */
    const char *stdout_data, *stderr_data;
    size_t stdout_length, stderr_length;
    size_t stdout_head, stderr_head;
    uint64_t stdout_omitted, stderr_omitted;
    uint64_t stdout_bytes, stderr_bytes; /* written by the process so far */
    char cursor[48];                     /* ask from here next */
};

typedef void (*exec_done)(void *arg, int error, const struct hearth_failure *failure,
                          const struct exec_status *status);

/* Starts; done comes when it has ended, or wait_ms (negative: no bound) has passed and it runs
 * still. Gives a wait that exec_wait_cancel takes back (done is then not called); borrowed until
 * done. */
void exec_start(struct workspace *workspace, const struct principal *principal,
                const struct exec_spec *spec, int wait_ms, exec_done done, void *arg,
                struct exec_wait **ret_wait);
/* Waits for output past cursor ("" or NULL: from the start) or for the end, at most wait_ms.
 * until_end: only the end. HEARTH_ENOTFOUND `exec_not_found`. */
void exec_read(struct workspace *workspace, const char *exec_id, const char *cursor, int wait_ms,
               bool until_end, exec_done done, void *arg, struct exec_wait **ret_wait);
void exec_wait_cancel(struct exec_wait *wait);
/* The ID of what a wait waits for, valid before it is done. */
const char *exec_wait_id(const struct exec_wait *wait);
void exec_input(struct workspace *workspace, const char *exec_id, const void *data, size_t length,
                bool end, exec_done done, void *arg);
/* TERM, 2 s, KILL to its process group. done when it has ended. principal NULL: its caller went,
 * and nobody is told of in the audit. */
void exec_cancel(struct workspace *workspace, const struct principal *principal,
                 const char *request_id, const char *exec_id, exec_done done, void *arg);

/* fn(arg) once each command of the workspace that has ended is in its history, so that whoever was
 * told of an end finds it there. Never before this returns. */
void exec_when_recorded(struct workspace *workspace, void (*fn)(void *arg), void *arg);
/* History, oldest first, ended ones only; HEARTH_EINVALID `bad_cursor`. */
typedef void (*exec_visit)(void *arg, const struct exec_status *status);
/* false: the page is full, and the next one begins with it. */
typedef bool (*exec_page_visit)(void *arg, const struct exec_status *status);
int exec_history(struct workspace *workspace, unsigned limit, const char *cursor,
                 exec_page_visit visit, void *arg, char ret_cursor[32],
                 struct hearth_failure *failure);
