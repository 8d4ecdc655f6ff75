/* What several families' results have in common: rows of fields, and the functions that write them.
 */
#pragma once

#include "api/json_write.h"
#include "api/optable.h"

/* STATUS and ROW of the contract. */
extern const struct field status_fields[], row_fields[], exec_fields[], environment_fields[];

void write_status(struct json_writer *json, struct workspace *workspace);
void write_row(struct json_writer *json, struct workspace *workspace);

enum text_encoding { ENCODING_UTF8, ENCODING_BASE64 };
/* The members of an exec's result, without the braces. with_output false leaves stdout and stderr
 * out. */
void write_exec(struct json_writer *json, struct workspace *workspace,
                const struct exec_status *status, enum text_encoding encoding, bool with_output);
/* Output with a line in its hole that says how much is left out; at most OUTPUT_BUDGET bytes once
 * escaped. Gives whether anything is left out. */
#define OUTPUT_BUDGET ((size_t)900 << 10)
bool write_output(struct json_writer *json, const char *key, const char *data, size_t length,
                  size_t head, uint64_t omitted, enum text_encoding encoding);
void write_environment(struct json_writer *json, const char *key,
                       const struct environment *environment);

/* Finishes: sends what was written, or the failure that writing ran into. */
void reply_with(struct call *call, struct buf *body, const struct json_writer *json);
/* NULL after the call has been failed with 404. */
struct workspace *workspace_or_fail(struct call *call, const char *workspace_id);
enum text_encoding encoding_of(const char *name);

#define ID_PATTERN(prefix) "^" prefix "_[a-z2-7]{16}$"

/* The name and the value of a label, as the schemas say them. */
extern const struct field label_parts[];

/* Optional columns of a family's entry that are the same everywhere. */
#define WORKSPACE_ID_FIELD(input_struct)                                                           \
    {                                                                                              \
        .name = "workspace_id", .type = FIELD_STRING, .place = PLACE_PATH,                         \
        .flags = FIELD_REQUIRED, .maximum = 64, .pattern = ID_PATTERN("ws"),                       \
        .description = "ID of the workspace, as workspace_create gave it.",                        \
        .offset = offsetof(struct input_struct, workspace_id)                                      \
    }
