#include "cli/standard_input.h"

#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)4 << 20)

static int fail(struct hearth_failure *failure, int error, const char *code, const char *what)
{
    hearth_fail(failure, error, code, "stdin %s", what);
    hearth_failure_hint(failure, "write it to a file in the workspace first: hearth workspace file "
                                 "write WORKSPACE_ID PATH");
    return error;
}

static int read_all(struct buf *out, struct hearth_failure *failure)
{
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
        if (error)
            return fail(failure, error, "stdin_too_large", "has more than 4 MiB");
    }
}

int standard_input_read(struct buf *out, struct hearth_failure *failure)
{
    struct stat stat;
    if (fstat(STDIN_FILENO, &stat) < 0 || !(S_ISREG(stat.st_mode) || S_ISFIFO(stat.st_mode)))
        return 0;
    int error = read_all(out, failure);
    if (error || !out->length)
        return error;
    if (memchr(out->data, 0, out->length) || !utf8_valid(out->data, out->length))
        return fail(failure, HEARTH_EINVALID, "stdin_no_text", "is no text");
    return 0;
}
