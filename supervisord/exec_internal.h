/* What the exec files share: a command that runs, or has ended and is being recorded. */
#pragma once

#include "agent.pb-c.h"
#include "base/buf.h"
#include "supervisord/supervisor_internal.h"

/* One stream's kept output: its first `head` bytes, then (where bytes were left out) its last ones.
 */
struct exec_output {
    struct buf data;
    size_t head;    /* bytes of data before the hole; all of it where there is none */
    uint64_t start; /* offset in the stream of data's first byte */
    uint64_t omitted;
    uint64_t total; /* bytes the process wrote */
    uint64_t next;  /* cursor after data */
};

struct exec {
    struct workspace *workspace; /* NULL once it is gone and only the recording is awaited */
    struct supervisor *supervisor;
    struct tenant *tenant;
    char exec_id[ID_SIZE], workspace_id[ID_SIZE];
    uint64_t sequence;
    char *command, *cwd;
    const char *execution_mode;
    uint64_t max_output_bytes;
    int64_t started_at, ended_at, duration_us; /* started_at: as asked for */
    bool ended, lost, cancelled, started, timed_out, drained, announced;
    int exit_code, signal;
    char problem[256];
    bool keyed; /* by an idempotent request: not answered before its row is written, by which a
                   retry after a crash finds it */
    bool held;  /* … for which the answer waits */
    uint64_t ended_event; /* number of the event of its end */
    bool noting, noted;   /* its row is being written, is: only then may it be told of as running */
    struct timer note_due;
    struct exec_output output, errors;
    struct agent_call *watcher; /* waits for the end; NULL while the link is down */
    struct list waits;          // exec_wait::link
    struct map_entry entry;     // workspace::execs
};

struct exec_wait {
    struct list link;  // exec::waits
    struct exec *exec; /* NULL: answered from the history */
    struct supervisor *supervisor;
    char exec_id[ID_SIZE], workspace_id[ID_SIZE];
    uint64_t stdout_offset, stderr_offset;
    uint64_t stdout_seen, stderr_seen; /* past the offsets where all between is the beginning of a
                                          character, whose rest is awaited */
    bool until_end;
    bool due;      /* its time is up, but the exec is not noted yet */
    bool deferred; /* answered at the end of the turn */
    bool snapshot; /* the deadline has passed: the next answer is the last */
    bool overdue;  /* at the deadline the guest, not the command, is late */
    struct timer deadline;
    struct agent_call *call;
    exec_done done; /* NULL once cancelled */
    void *arg;
    struct hearth_failure failure;
};

/* What a guest's processes have in their environment, and what was asked for besides; the texts are
 * borrowed. 0 or HEARTH_ENOMEMORY. */
struct exec_environment {
    Hearth__Agent__V1__EnvironmentVariable *variables, **list;
    size_t count;
};
int exec_environment_make(struct exec_environment *ret_environment,
                          const struct exec_variable *extra, size_t extra_count);
void exec_environment_free(struct exec_environment *environment);

/* exec.c */
/* Writes its row, unless that is under way or done; exec_wait_noted follows. */
void exec_note(struct exec *exec);
/* What every command's environment begins with. */
#define EXEC_DEFAULT_VARIABLES 6
extern const struct exec_variable exec_default_environment[EXEC_DEFAULT_VARIABLES];
struct exec *exec_find(struct workspace *workspace, const char *exec_id);

/* exec_forget.c: the agent need not keep it any more, and is told so before long, of many at once.
 */
void exec_forget_soon(struct workspace *workspace, const char *exec_id);
/* Takes in what the agent says of an ended exec: records it, answers its waits. */
void exec_finish(struct exec *exec, const Hearth__Agent__V1__ExecState *state);
/* It cannot be known how it ended. */
void exec_lose(struct exec *exec, const char *problem);
void exec_audit(const struct exec *exec, const struct principal *principal, const char *request_id,
                const char *operation);
/* Everything but output. */
void exec_fill_status(const struct exec *exec, struct exec_status *ret_status);

/* exec_wait.c */
struct exec_wait *exec_wait_new(struct exec *exec, int wait_ms, exec_done done, void *arg);
/* One that waits for the end alone is told `agent_unreachable` after this: the guest hangs. The
 * command is told of as running until the guest answers or is gone. */
void exec_wait_bound(struct exec_wait *wait, int64_t after_ms);
/* The exec's row is written: answers what is due. */
void exec_wait_noted(struct exec *exec);
/* Answers with failure at the end of the turn. */
void exec_wait_fail(struct exec_wait *wait, const struct hearth_failure *failure);
/* The exec has ended (error 0) or is given up: answers all waits. */
void exec_finish_waits(struct exec *exec, int error, const struct hearth_failure *failure);
/* Fills the status's output members with what lies past the offsets, and its cursor. */
void exec_slice(struct exec_status *status, const struct exec_output *output,
                const struct exec_output *errors, uint64_t stdout_offset, uint64_t stderr_offset);

/* exec_output.c: pure */
/* Takes segments in as one output; bounded by limit. 0 or HEARTH_ENOMEMORY. */
int exec_output_set(struct exec_output *output, const Hearth__Agent__V1__ExecOutput *from,
                    uint64_t limit);
void exec_output_free(struct exec_output *output);
int exec_cursor_parse(const char *cursor, uint64_t *ret_stdout, uint64_t *ret_stderr,
                      struct hearth_failure *failure);
void exec_cursor_format(char out[48], uint64_t stdout_offset, uint64_t stderr_offset);
/* The text that history and status show for an argv: words quoted as a shell would need them. NULL:
 * no memory. */
char *exec_command_text(const struct exec_spec *spec);
/* The status of a row of the history, output past the offsets. */
void exec_status_from_row(const struct row_exec *row, uint64_t stdout_offset,
                          uint64_t stderr_offset, struct exec_status *ret_status);
