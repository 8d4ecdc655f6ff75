/* What .gitignore files say (gitignore(5)): patterns of one directory's file, for it and all below.
 * One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct ignore;

/* Reads DIR_FD/.gitignore; NULL where there is none, or nothing in it. */
struct ignore *ignore_read(int dir_fd);
void ignore_free(struct ignore *ignore);

enum ignore_verdict { IGNORE_SILENT, IGNORE_OUT, IGNORE_IN };
/* path is relative to the directory of the file. The last pattern that fits decides. */
enum ignore_verdict ignore_check(const struct ignore *ignore, const char *path, bool directory);
