/* supervisord/archive/member_name.c: the name of an archive's member. */
#include "fuzz.h"

#include "supervisord/archive/member_name.h"

#include <string.h>

static void check_path(const char *path)
{
    size_t depth = 0;
    PROMISE(*path && strlen(path) <= MEMBER_PATH_MAX);
    for (const char *at = path;; at++) {
        size_t length = strcspn(at, "/");
        PROMISE(length > 0 && length <= MEMBER_NAME_MAX);
        PROMISE(!(length == 1 && at[0] == '.') && !(length == 2 && at[0] == '.' && at[1] == '.'));
        depth++;
        at += length;
        if (!*at)
            break;
    }
    PROMISE(depth <= MEMBER_DEPTH_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *name = malloc(size + 1);
    memcpy(name, data, size);
    name[size] = '\0';
    char path[MEMBER_PATH_MAX + 1], again[MEMBER_PATH_MAX + 1];
    enum member_name verdict = member_name_clean(path, name);
    PROMISE((verdict == MEMBER_NAME_ABSOLUTE) == (name[0] == '/'));
    if (verdict == MEMBER_NAME_GOOD) {
        check_path(path);
        PROMISE(member_name_clean(again, path) == MEMBER_NAME_GOOD);
        PROMISE(strcmp(path, again) == 0);
    }
    if (verdict == MEMBER_NAME_ROOT)
        PROMISE(strspn(name, "./") == strlen(name));
    free(name);
    return 0;
}
