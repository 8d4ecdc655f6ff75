/* A command whose output is shown as it comes. The reply's lines are of type "stdout" and "stderr"
 * (`data`, and `encoding` "base64" where the bytes are no text), and at last "exit" with the
 * members of the result. */
#pragma once

#include "cli/command.h"

/* Takes arguments. Writes the command's stdout and stderr to ours, ends with a summary of the named
 * members of the result, and gives the command's exit status. */
int exec_stream(struct cli *cli, const char *verb, const char *path, cJSON *arguments,
                const char *const *summary_names);
