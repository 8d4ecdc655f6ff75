/* What is known of an environment's version, as the text it is kept in: one `key value` line each,
 * in this order. Pure functions, any thread. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENVIRONMENT_NAME_SIZE 130
#define ENVIRONMENT_VERSION_SIZE 65
#define ENVIRONMENT_RECORD_MAX 1024

struct environment_record {
    char version[ENVIRONMENT_VERSION_SIZE];
    char name[ENVIRONMENT_NAME_SIZE];
    char source[64];
    char description[256];
    uint64_t size_bytes;
    int64_t built_at;
};

/* Reads a record from NUL-terminated text, which is written over. False where a line is missing,
 * too long or not what it should be; unknown lines are skipped, for a later release may write them.
 */
bool environment_record_parse(struct environment_record *ret_record, char *text);
int environment_record_print(const struct environment_record *record, struct buf *out);

/* 64 lowercase hex digits. */
bool environment_version_valid(const char *version);
