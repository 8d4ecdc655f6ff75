/* An argument vector whose strings are all its own. Zero-initialised it is empty. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ARGUMENTS_MAX 120

struct arguments {
    char *items[ARGUMENTS_MAX + 1];
    size_t count;
    bool failed; /* no memory or no room: not to be used */
};

void arguments_add(struct arguments *arguments, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void arguments_free(struct arguments *arguments);

#define auto_arguments __attribute__((cleanup(arguments_free)))
