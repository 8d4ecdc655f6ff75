/* One command as a child process of the agent. */
#pragma once

#include "agent.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

struct secrets;

/* The agent's ends, non-blocking, close-on-exec. */
struct command_pipes {
    int input, output, errors;
};

/* What commands have and the agent has not, from their first moment on. */
struct child_limits {
    rlim_t files;    /* the soft limit of descriptors: many programs walk all they may have; 0: the
                        agent's */
    bool goes_first; /* Where memory is short it is killed before the agent, without which nothing
                        in the guest could be asked any more. The first process of a machine is
                        spared by its kernel. */
};

/* What to start; all borrowed. */
struct command {
    char *const *arguments; /* the first is looked up in the PATH of variables */
    size_t argument_count;  /* at least 1 */
    const char *cwd;        /* absolute; "" is / */
    Hearth__Agent__V1__EnvironmentVariable *const *variables; /* the whole environment */
    size_t variable_count;
    const struct secrets *secrets; /* NULL: none */
    Hearth__Agent__V1__SecretVariable *const *secret_variables;
    size_t secret_variable_count;
    const struct child_limits *limits;
};

/* Starts command in a session and process group of its own, default signals, nothing open but its
 * three pipes. 0, or a negative errno with a sentence in problem and the exit code a shell would
 * tell (126, 127). */
int spawn_command(const struct command *command, pid_t *ret_pid, struct command_pipes *ret_pipes,
                  char *problem, size_t problem_size, int *ret_exit_code);
/* The same with the terminal of this path as its own, for all three. */
int spawn_on_terminal(const struct command *command, const char *terminal, pid_t *ret_pid,
                      char *problem, size_t problem_size, int *ret_exit_code);
