/* A failure as the outside sees it: RFC 9457 application/problem+json with our extension members
 * (code, field, hint, request_id, retryable). Pure functions. */
#pragma once

#include "api/json_write.h"
#include "base/failure.h"

#define PROBLEM_MEDIA_TYPE "application/problem+json"

/* HTTP status of a failure. */
int problem_status(const struct hearth_failure *failure);
/* What to do next: the failure's own hint, else that of its code or kind. Never NULL. */
const char *problem_hint(const struct hearth_failure *failure);
/* The hint that goes with a code; NULL: none but its kind's. */
const char *problem_hint_of_code(const char *code);
/* Writes the object as a value. type is the relative reference "/problems/CODE" (docs/errors.md).
 */
void problem_write(struct json_writer *json, const char *key, const struct hearth_failure *failure,
                   const char *request_id);
