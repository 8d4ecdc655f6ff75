#include "supervisord/archive/member_name.h"

#include <string.h>

enum member_name member_name_clean(char *out, const char *name)
{
    size_t length = 0, depth = 0;
    if (name[0] == '/')
        return MEMBER_NAME_ABSOLUTE;
    for (const char *at = name; *at;) {
        size_t component = strcspn(at, "/");
        if (component == 2 && memcmp(at, "..", 2) == 0)
            return MEMBER_NAME_PARENT;
        if (component && !(component == 1 && at[0] == '.')) {
            size_t slash = length > 0;
            if (component > MEMBER_NAME_MAX || length + slash + component > MEMBER_PATH_MAX)
                return MEMBER_NAME_LONG;
            if (++depth > MEMBER_DEPTH_MAX)
                return MEMBER_NAME_DEEP;
            if (slash)
                out[length++] = '/';
            memcpy(out + length, at, component);
            length += component;
        }
        at += component + (at[component] == '/');
    }
    out[length] = '\0';
    return length ? MEMBER_NAME_GOOD : MEMBER_NAME_ROOT;
}
