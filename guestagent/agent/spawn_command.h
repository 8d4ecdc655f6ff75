/* One command as a child process of the agent. */
#pragma once

#include "agent.pb-c.h"

#include <stddef.h>
#include <sys/types.h>

/* The agent's ends, non-blocking, close-on-exec. */
struct command_pipes {
    int input, output, errors;
};

/* Starts argv in a session and process group of its own, default signals, nothing open but its
 * three pipes. 0, or a negative errno with a sentence in problem and the exit code a shell would
 * tell (126, 127). */
int spawn_command(const Hearth__Agent__V1__ExecStartRequest *request, pid_t *ret_pid,
                  struct command_pipes *ret_pipes, char *problem, size_t problem_size,
                  int *ret_exit_code);
