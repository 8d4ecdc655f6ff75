#include "cli/lines.h"

#include "cli/http.h"
#include "cli/output.h"

#include <string.h>

void lines_free(struct lines *lines)
{
    buf_free(&lines->rest);
}

static int take_line(struct lines *lines, char *line)
{
    if (!*line)
        return 0;
    cJSON *object = cJSON_Parse(line);
    if (!cJSON_IsObject(object)) {
        cJSON_Delete(object);
        return hearth_fail(lines->failure, HEARTH_EIO, "bad_reply",
                           "the daemon's answer has a line that is not JSON");
    }
    bool failed = !strcmp(json_text(object, "type", ""), "error");
    int error = failed ? http_problem_failure(object, (long)json_number(object, "status", 500),
                                              lines->failure)
                       : lines->on_object(lines->arg, object, line);
    cJSON_Delete(object);
    return error;
}

int lines_write(void *arg, const void *data, size_t length)
{
    struct lines *lines = arg;
    int error = buf_append(&lines->rest, data, length);
    if (error)
        return hearth_fail(lines->failure, error, NULL, "a line of the answer is too long");

    size_t start = 0;
    for (;;) {
        char *line = lines->rest.data + start;
        char *end = memchr(line, '\n', lines->rest.length - start);
        if (!end)
            break;
        *end = '\0';
        error = take_line(lines, line);
        if (error)
            return error;
        start = (size_t)(end + 1 - lines->rest.data);
    }
    buf_consume(&lines->rest, start);
    return 0;
}
