/* Secrets as this user gives them: in words of the command line, or in files of this host, which
 * the daemon never opens. What has read one makes no core dump any more. */
#pragma once

#include "cli/command.h"

#define SECRET_VALUE_MAX 65536

/* Makes {name, value, file_path} of {name, file_path}, and leaves one without file_path, or that
 * has a value, as it is. The value is the file's text; of a file with one line it is that line,
 * without its end. 0, HEARTH_EINVALID `bad_path` (it cannot be read), `bad_length` or `bad_secret`
 * (it holds no text); `detail` names the path alone. */
int secret_read(cJSON *secret, struct hearth_failure *failure);

/* Adds member "secrets" from NAME=VALUE texts, whose values are gone from the command line after,
 * and NAME=PATH texts. 0, 1 where a file cannot be taken, 2 for wrong words (both told). */
int cli_add_secrets(const struct cli *cli, cJSON *object, const struct text_list *values,
                    const struct text_list *files, const struct usage *usage);
/* Adds {"NAME": "VARIABLE", …} from NAME[=VARIABLE] texts; without it the variable is named as the
 * secret. False for wrong words (told). */
bool cli_add_secret_env(cJSON *object, const char *name, const struct text_list *pairs,
                        const struct usage *usage);
