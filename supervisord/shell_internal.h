/* What the shell files share. */
#pragma once

#include "agent.pb-c.h"
#include "supervisord/shell.h"
#include "supervisord/supervisor_internal.h"

#define SHELLS_KNOWN_MAX 80 /* of one workspace: what an agent holds at most */

/* What the last answer said of a shell. */
struct known_shell {
    struct list link; // workspace::shells, in the order of their opening
    char shell_id[ID_SIZE];
    char *cwd;
    unsigned cols, rows;
    bool running, exit_known;
    int exit_code;
    int64_t started_at, ended_at;
};

/* shell_known.c */
struct known_shell *known_shell_find(struct workspace *workspace, const char *shell_id);
void known_shell_forget(struct known_shell *known);
/* Its guest runs no more: what is known of its shells is told, as of ended ones. */
bool shells_are_known_alone(const struct workspace *workspace);
void known_shell_remember(struct workspace *workspace, const struct shell_status *status);
void known_shell_status(const struct workspace *workspace, const struct known_shell *known,
                        struct shell_status *ret_status);
/* Everything a guest says is taken as such: bounded. ids are the caller's; cwd is borrowed. */
void shell_status_take(struct shell_status *ret_status, const Hearth__Agent__V1__ShellState *state);
