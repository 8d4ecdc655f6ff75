/* A command's output: shown as it comes, or all that there is. Of a stream the reply's lines are of
 * type "stdout" and "stderr" (`data`, and `encoding` "base64" where the bytes are no text), and at
 * last "exit" with the members of the result. */
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

/* The result's stdout and stderr to ours and the summary after them. base64: that is how the two
 * members are encoded. 0, or 1 with the failure told. */
int exec_show(const struct cli *cli, const char *verb, const cJSON *result, bool base64,
              const char *const *summary_names);
