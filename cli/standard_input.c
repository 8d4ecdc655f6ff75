#include "cli/standard_input.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)64 << 20)

int standard_input_read(struct buf *out, struct hearth_failure *failure)
{
    struct stat stat;
    if (fstat(STDIN_FILENO, &stat) < 0 || !(S_ISREG(stat.st_mode) || S_ISFIFO(stat.st_mode)))
        return 0;

    char piece[64 << 10];
    out->limit = INPUT_MAX;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, piece, sizeof piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hearth_fail_errno(failure, errno, "bad_stdin", "stdin cannot be read");
        if (got == 0)
            return 0;
        int error = buf_append(out, piece, (size_t)got);
        if (error) {
            hearth_fail(failure, error, "stdin_too_large", "stdin has more than %zu MiB",
                        INPUT_MAX >> 20);
            hearth_failure_hint(failure, "write it to a file in the workspace first");
            return error;
        }
    }
}
