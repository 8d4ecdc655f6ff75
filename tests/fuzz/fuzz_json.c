/* api/json_read.c: what the strict pass takes, cJSON builds a tree of, and its print is taken
 * again. */
#include "fuzz.h"

#include "api/json_read.h"

#include <string.h>

static unsigned depth_of(const cJSON *item)
{
    unsigned deepest = 0;
    const cJSON *member;
    if (!cJSON_IsArray(item) && !cJSON_IsObject(item))
        return 0;
    cJSON_ArrayForEach(member, item)
    {
        unsigned depth = depth_of(member);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cJSON *tree = NULL;
    /* A copy of the exact size, so that a read past the end is seen. */
    char *text = malloc(size ? size : 1);
    memcpy(text, data, size);
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    int error = json_check(text, size, &failure);
    PROMISE(json_parse(&tree, text, size, NULL) == error);
    PROMISE(!error == (tree != NULL));
    if (error) {
        PROMISE(failure.error == HEARTH_EMALFORMED && failure.detail[0]);
    } else {
        PROMISE(!memchr(text, '\0', size));
        PROMISE(depth_of(tree) <= JSON_DEPTH_MAX);
        char *printed = cJSON_PrintUnformatted(tree);
        PROMISE(printed && json_check(printed, strlen(printed), NULL) == 0);
        cJSON_free(printed);
    }
    cJSON_Delete(tree);
    free(text);
    return 0;
}
