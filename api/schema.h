/* JSON Schemas (2020-12) printed from the field rows. */
#pragma once

#include "api/json_write.h"
#include "api/optable.h"

enum schema_flavour {
    SCHEMA_PLAIN,  /* JSON Schema as REST, MCP and OpenAPI use it: defaults, bounds, maps as objects
                    */
    SCHEMA_STRICT, /* OpenAI's strict mode: all required, optional = nullable, maps as arrays of
                      {name, value} */
};

/* The parameters of entry. With profile, only what its tool definition shows (PROFILE_NONE:
 * everything REST takes); with path_and_query false those that stand in path or query are left out.
 */
void schema_write_input(struct json_writer *json, const char *key,
                        const struct operation_entry *entry, enum schema_flavour flavour,
                        enum profile profile, bool path_and_query);
void schema_write_output(struct json_writer *json, const char *key,
                         const struct operation_entry *entry);
/* One field's schema alone (OpenAPI parameters). */
void schema_write_field(struct json_writer *json, const char *key, const struct field *field,
                        enum schema_flavour flavour, bool output);
/* Is the field part of the tool definition of profile? */
bool schema_in_tool(const struct field *field, enum profile profile);
