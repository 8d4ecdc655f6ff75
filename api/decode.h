/* From JSON to an operation's typed input: one decoder for every surface, driven by the field rows.
 * What is unknown, missing, ill-typed or out of range is HEARTH_EINVALID with the field as a JSON
 * pointer. null means absent; 1.0 is an integer; maps come as objects or arrays of {name, value}.
 * Everything decoded lives in the call's memory. */
#pragma once

#include "api/optable.h"

#include <cjson/cJSON.h>

struct http_pair;

/* Fills input (entry->input_size zeroed bytes). */
int decode_input(struct call *call, const struct operation_entry *entry, const cJSON *object,
                 void *input, struct hearth_failure *failure);

/* Whether a value says no more than leaving the argument out does: null, or its default. */
bool decode_is_default(const struct field *field, const cJSON *value);

/* Adds query parameters to object, each typed as its field says. An unknown one, and one that
 * stands twice where it may not, is HEARTH_EINVALID and HEARTH_EMALFORMED. */
int decode_query(const struct operation_entry *entry, const struct http_pair *query, size_t count,
                 cJSON *object, struct hearth_failure *failure);
