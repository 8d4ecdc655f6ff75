/* A command whose output is shown as it comes. */
#pragma once

#include "cli/command.h"

/* Takes arguments. Writes the command's stdout and stderr to ours, ends with a summary of the named
 * members of the result, and gives the command's exit status. */
int exec_stream(struct cli *cli, const char *verb, const char *path, cJSON *arguments,
                const char *const *summary_names);
