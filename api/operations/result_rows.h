/* Rows of results' fields that are a name, a type and a description. */
#pragma once

#include "api/optable.h"

#define TEXT(field_name, text)                                                                     \
    {                                                                                              \
        .name = field_name, .type = FIELD_STRING, .description = text                              \
    }
#define NULLABLE_TEXT(field_name, text)                                                            \
    {                                                                                              \
        .name = field_name, .type = FIELD_STRING, .flags = FIELD_NULLABLE, .description = text     \
    }
#define NUMBER(field_name, text)                                                                   \
    {                                                                                              \
        .name = field_name, .type = FIELD_INTEGER, .description = text                             \
    }
#define NULLABLE_NUMBER(field_name, text)                                                          \
    {                                                                                              \
        .name = field_name, .type = FIELD_INTEGER, .flags = FIELD_NULLABLE, .description = text    \
    }
#define TIME(field_name, text)                                                                     \
    {                                                                                              \
        .name = field_name, .type = FIELD_NUMBER, .description = text                              \
    }
#define NULLABLE_TIME(field_name, text)                                                            \
    {                                                                                              \
        .name = field_name, .type = FIELD_NUMBER, .flags = FIELD_NULLABLE, .description = text     \
    }
#define FLAG(field_name, text)                                                                     \
    {                                                                                              \
        .name = field_name, .type = FIELD_BOOLEAN, .description = text                             \
    }
