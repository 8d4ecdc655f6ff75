/* A command's output: shown as it comes, or all that there is; asked for as base64, since the text
 * of a cJSON string ends at a NUL. Of a stream the reply's lines are of type "stdout" and "stderr"
 * (`data`), and at last "exit" with the members of the result. */
#pragma once

#include "cli/command.h"

/* Takes arguments. Writes the command's stdout and stderr to ours, ends with a summary of the named
 * members of the result, and gives the command's exit status. */
int exec_stream(struct cli *cli, const char *verb, const char *path, cJSON *arguments,
                const char *const *summary_names);

/* Takes arguments. The same in one answer, or with --json that answer. A command that runs still
 * (arguments bounded the wait) is no error: 0. */
int exec_answer(struct cli *cli, const char *verb, const char *path, cJSON *arguments,
                const char *const *summary_names);

/* The result's stdout and stderr, which are base64, to ours and the summary after them. 0, or 1
 * with the failure told. */
int exec_show(const struct cli *cli, const char *verb, const cJSON *result,
              const char *const *summary_names);
