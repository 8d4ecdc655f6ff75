/* Shells of a workspace: terminals in the guest that its agent owns, so that they outlive this
 * daemon; nothing is kept here but what the last answer said of each, for when the guest has ended
 * and nobody is left to ask. Cursors count characters. Loop thread; completions exactly
 * once, never before the call returns. */
#pragma once

#include "supervisord/workspace.h"

#define SHELL_COLS_MIN 10
#define SHELL_ROWS_MIN 2
#define SHELL_COLS_MAX 500
#define SHELL_ROWS_MAX 200
#define SHELL_INPUT_MAX ((size_t)256 << 10)
#define SHELL_CHARACTERS_MAX (1 << 20)
#define SHELL_IDLE_WAIT_MAX_MS 30000 /* that a read waits for a shell to be idle, at most */

/* From this character on: when it was written, and the terminal's size then. */
struct shell_mark {
    uint64_t character;
    int64_t time_us; /* since the shell's start */
    unsigned cols, rows;
};

/* Borrowed for the call it is given to. */
struct shell_status {
    const char *workspace_id, *shell_id, *cwd, *execution_mode;
    unsigned cols, rows;
    bool running;
    bool exit_known; /* false while it runs, and where it ended with its guest */
    int exit_code;
    int64_t started_at, ended_at; /* ended_at 0 while it runs */
    /* shell_read: */
    uint64_t cursor, next_cursor, total, lost; /* characters */
    bool idle;
    const char *output; /* UTF-8 */
    size_t output_length;
    const struct shell_mark *marks;
    size_t mark_count;
};

typedef void (*shell_done)(void *arg, int error, const struct hearth_failure *failure,
                           const struct shell_status *status);

struct shell_spec {
    const struct secret_variable *secrets;
    size_t secret_count;
    const char *cwd; /* NULL: /workspace */
    unsigned cols, rows;
    const char *term;
    const char *request_id;
};
void shell_open(struct workspace *workspace, const struct principal *principal,
                const struct shell_spec *spec, shell_done done, void *arg);

struct shell_read_spec {
    uint64_t cursor;
    unsigned max_characters;
    unsigned idle_ms; /* not 0: once it is idle for so long */
    unsigned wait_ms; /* for output after the cursor; at most SHELL_IDLE_WAIT_MAX_MS */
    bool plain;       /* as a person would see it */
    bool marks;
};
/* HEARTH_ENOTFOUND `shell_not_found`, as all below. */
void shell_read(struct workspace *workspace, const char *shell_id,
                const struct shell_read_spec *spec, shell_done done, void *arg);
/* HEARTH_ECONFLICT `shell_ended`, as the two below. */
void shell_write(struct workspace *workspace, const char *shell_id, const char *data, size_t length,
                 shell_done done, void *arg);
void shell_signal(struct workspace *workspace, const char *shell_id, int signal, shell_done done,
                  void *arg);
void shell_resize(struct workspace *workspace, const char *shell_id, unsigned cols, unsigned rows,
                  shell_done done, void *arg);
/* HUP, 2 s, KILL. Done when it has ended; it is unknown from then on. */
void shell_close(struct workspace *workspace, const struct principal *principal,
                 const char *shell_id, const char *request_id, shell_done done, void *arg);

/* All that the guest knows, or that are remembered of one that has ended, by started_at and, of
 * one moment, shell_id. */
typedef void (*shells_listed)(void *arg, int error, const struct hearth_failure *failure,
                              const struct shell_status *shells, size_t count);
void shell_list(struct workspace *workspace, shells_listed done, void *arg);
