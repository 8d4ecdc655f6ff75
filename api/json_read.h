/* Reading JSON that a stranger sent. cJSON is loose (it takes trailing text, bad numbers, NULs,
 * duplicate keys, the first of two keys that differ in case): so a strict pass over the text comes
 * first, and cJSON only builds the tree of what passed. Pure. */
#pragma once

#include "base/failure.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 32

/* From now on all that cJSON gives back is wiped first: secrets come as JSON. Once, before the
 * first tree is made, in a process that holds some for long. */
void json_wipe_what_is_freed(void);

/* RFC 8259 grammar, UTF-8, no NUL (also not escaped), no lone surrogate, no duplicate key, depth
 * JSON_DEPTH_MAX, numbers that a double holds, nothing after the value. HEARTH_EMALFORMED
 * `malformed_json` says what and where. */
int json_check(const char *text, size_t length, struct hearth_failure *failure);

/* json_check, then the tree; the caller frees it by cJSON_Delete. */
int json_parse(cJSON **ret_tree, const char *text, size_t length, struct hearth_failure *failure);

/* As json_parse, for text whose sender is owed an answer by what stands around the fault: where the
 * text is JSON that we refuse (a NUL, a key twice, nesting), *ret_tree is what cJSON made of it, to
 * read an ID from and nothing else, though the failure is given. Else it is NULL with a failure. */
int json_parse_envelope(cJSON **ret_tree, const char *text, size_t length,
                        struct hearth_failure *failure);

/* Is it a whole number within int64? 1.0 is. */
bool json_integer_of(const cJSON *item, int64_t *ret_value);
