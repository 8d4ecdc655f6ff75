#include "base/ignore.h"

#include "base/glob.h"
#include "base/path_at.h"

#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)1 << 20)

struct pattern {
    const char *text;
    bool again; /* begins with '!': what an earlier one left out is in again */
    bool directories, anchored;
};

struct ignore {
    char *bytes;
    struct pattern *patterns;
    size_t count;
};

/* Blanks at the end do not count, unless a backslash says so. */
static void trim(char *line)
{
    size_t length = strlen(line);
    while (length && line[length - 1] == ' ' && !(length > 1 && line[length - 2] == '\\'))
        line[--length] = '\0';
    if (length && line[length - 1] == '\r')
        line[length - 1] = '\0';
}

static bool parse_line(char *line, struct pattern *ret_pattern)
{
    trim(line);
    if (!*line || *line == '#')
        return false;
    *ret_pattern = (struct pattern){0};
    if (*line == '!') {
        ret_pattern->again = true;
        line++;
    }
    size_t length = strlen(line);
    if (length && line[length - 1] == '/') {
        ret_pattern->directories = true;
        line[--length] = '\0';
    }
    ret_pattern->anchored = strchr(line, '/') != NULL;
    ret_pattern->text = *line == '/' ? line + 1 : line;
    return length > 0;
}

struct ignore *ignore_read(int dir_fd)
{
    struct ignore *ignore = calloc(1, sizeof *ignore);
    char *bytes = malloc(FILE_MAX_BYTES);
    ssize_t length = bytes ? path_read_small(dir_fd, ".gitignore", bytes, FILE_MAX_BYTES) : -1;
    if (!ignore || length <= 0) {
        free(bytes);
        free(ignore);
        return NULL;
    }
    ignore->bytes = bytes;
    for (char *rest = bytes, *line; (line = strsep(&rest, "\n"));) {
        struct pattern pattern;
        if (!parse_line(line, &pattern))
            continue;
        struct pattern *grown =
            reallocarray(ignore->patterns, ignore->count + 1, sizeof *ignore->patterns);
        if (!grown)
            break;
        ignore->patterns = grown;
        ignore->patterns[ignore->count++] = pattern;
    }
    return ignore;
}

void ignore_free(struct ignore *ignore)
{
    if (!ignore)
        return;
    free(ignore->bytes);
    free(ignore->patterns);
    free(ignore);
}

enum ignore_verdict ignore_check(const struct ignore *ignore, const char *path, bool directory)
{
    const char *slash = strrchr(path, '/');
    for (size_t i = ignore->count; i--;) {
        const struct pattern *pattern = &ignore->patterns[i];
        const char *subject = pattern->anchored || !slash ? path : slash + 1;
        if ((!pattern->directories || directory) && glob_match(pattern->text, subject))
            return pattern->again ? IGNORE_IN : IGNORE_OUT;
    }
    return IGNORE_SILENT;
}
