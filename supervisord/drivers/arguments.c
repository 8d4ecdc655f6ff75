#include "supervisord/drivers/arguments.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void arguments_add(struct arguments *arguments, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (arguments->failed || arguments->count == ARGUMENTS_MAX ||
        vasprintf(&arguments->items[arguments->count], format, values) < 0)
        arguments->failed = true;
    else
        arguments->count++;
    va_end(values);
}

void arguments_free(struct arguments *arguments)
{
    for (size_t i = 0; i < arguments->count; i++)
        free(arguments->items[i]);
    *arguments = (struct arguments){0};
}
