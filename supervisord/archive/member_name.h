/* Names of archive members: bytes that a stranger chose. Pure, any thread. */
#pragma once

#include <stddef.h>

#define MEMBER_NAME_MAX 255  /* a component, as NAME_MAX */
#define MEMBER_PATH_MAX 4095 /* as PATH_MAX with its NUL */
#define MEMBER_DEPTH_MAX 64

enum member_name {
    MEMBER_NAME_GOOD,
    MEMBER_NAME_ROOT, /* "", "." and such: the tree itself */
    MEMBER_NAME_ABSOLUTE,
    MEMBER_NAME_PARENT, /* has a ".." */
    MEMBER_NAME_LONG,
    MEMBER_NAME_DEEP,
};

/* Writes the one form of name into out (MEMBER_PATH_MAX + 1 bytes): relative, no "." and no empty
 * component, no slash at its end. out is unspecified where the verdict is not GOOD. */
enum member_name member_name_clean(char *out, const char *name);
