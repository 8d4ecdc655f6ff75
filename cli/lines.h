/* A reply of one JSON object a line (application/x-ndjson), cut into its objects as it comes. Each
 * says its `type`. One of type "error" has the problem's members and ends the stream: it becomes
 * the failure, and on_object does not see it. */
#pragma once

#include "base/buf.h"
#include "base/failure.h"

#include <cjson/cJSON.h>

#define NDJSON_MEDIA_TYPE "application/x-ndjson"

struct lines {
    struct buf rest; /* of a line that is not whole yet */
    /* Gets each object (borrowed) and its text; negative to stop. */
    int (*on_object)(void *arg, const cJSON *object, const char *text);
    void *arg;
    struct hearth_failure *failure;
};

/* An http_request's write, with the struct lines as its argument. */
int lines_write(void *arg, const void *data, size_t length);
void lines_free(struct lines *lines);
#define auto_lines __attribute__((cleanup(lines_free)))
