#include "api/schema.h"

#include "api/json_write.h"

#include <string.h>

bool schema_in_tool(const struct field *field, enum profile profile)
{
    if (profile == PROFILE_NONE)
        return true;
    return !(field->flags & FIELD_REST_ONLY) &&
           (!(field->flags & FIELD_FULL_ONLY) || profile == PROFILE_FULL);
}

static void write_fields(struct json_writer *json, const char *key, const struct field *fields,
                         enum schema_flavour flavour, enum profile profile, bool path_and_query,
                         bool output, const char *description);

static void write_description(struct json_writer *json, const struct field *field)
{
    if (field->description)
        json_string(json, "description", field->description);
}

/* "type": T, or [T, "null"]. */
static void write_type(struct json_writer *json, const char *type, bool nullable)
{
    if (!nullable) {
        json_string(json, "type", type);
        return;
    }
    json_array_begin(json, "type");
    json_string(json, NULL, type);
    json_string(json, NULL, "null");
    json_array_end(json);
}

static void write_choices(struct json_writer *json, const struct field *field, bool nullable)
{
    if (!field->choices)
        return;
    json_array_begin(json, "enum");
    for (const char *const *choice = field->choices; *choice; choice++)
        json_string(json, NULL, *choice);
    if (nullable)
        json_null(json, NULL);
    json_array_end(json);
}

/* What a map's names and values are where its row does not say. */
static const struct field any_parts[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED | FIELD_BLANK_OK,
     .description = "Its name."},
    {.name = "value",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED | FIELD_BLANK_OK,
     .description = "Its value."},
    {0},
};

static void write_pairs(struct json_writer *json, const char *key, const struct field *field,
                        enum schema_flavour flavour, bool nullable)
{
    json_object_begin(json, key);
    write_type(json, "array", nullable);
    write_description(json, field);
    if (flavour == SCHEMA_PLAIN && field->maximum)
        json_integer(json, "maxItems", field->maximum);
    write_fields(json, "items", field->fields ? field->fields : any_parts, flavour, PROFILE_NONE,
                 true, false, NULL);
    json_object_end(json);
}

/* An object of texts, or the list of pairs that says the same. */
static void write_plain_map(struct json_writer *json, const char *key, const struct field *field,
                            bool nullable, bool output)
{
    const struct field *parts = field->fields ? field->fields : any_parts;
    json_object_begin(json, key);
    write_description(json, field);
    if (!output) {
        json_array_begin(json, "anyOf");
        json_object_begin(json, NULL);
    }
    json_string(json, "type", "object");
    if (!output && field->maximum)
        json_integer(json, "maxProperties", field->maximum);
    if (!output)
        schema_write_field(json, "propertyNames", &parts[0], SCHEMA_PLAIN, false);
    schema_write_field(json, "additionalProperties", &parts[1], SCHEMA_PLAIN, output);
    if (!output) {
        struct field pairs = *field;
        pairs.description = NULL;
        json_object_end(json);
        write_pairs(json, NULL, &pairs, SCHEMA_PLAIN, false);
        if (nullable) {
            json_object_begin(json, NULL);
            json_string(json, "type", "null");
            json_object_end(json);
        }
        json_array_end(json);
    }
    json_object_end(json);
}

static void write_bounds(struct json_writer *json, const struct field *field,
                         enum schema_flavour flavour)
{
    if (field->type == FIELD_INTEGER && field->maximum) {
        json_integer(json, "minimum", field->minimum);
        json_integer(json, "maximum", field->maximum);
    }
    if (flavour == SCHEMA_STRICT)
        return;
    if (field->type == FIELD_STRING && !field->choices) {
        bool blank = field->flags & FIELD_BLANK_OK;
        if (field->minimum || !blank)
            json_integer(json, "minLength", field->minimum ? field->minimum : 1);
        if (field->maximum)
            json_integer(json, "maxLength", field->maximum);
    }
    if ((field->type == FIELD_STRING_LIST || field->type == FIELD_OBJECT_LIST) && field->maximum)
        json_integer(json, "maxItems", field->maximum);
}

/* Text may hold no NUL: said in the schema, so that generators do not try it. */
#define NO_NUL "^[^\\u0000]*$"

static void write_scalar(struct json_writer *json, const char *key, const struct field *field,
                         const char *type, enum schema_flavour flavour, bool nullable, bool output)
{
    json_object_begin(json, key);
    write_type(json, type, nullable);
    write_description(json, field);
    write_choices(json, field, nullable);
    if (!output) {
        write_bounds(json, field, flavour);
        if (field->type == FIELD_STRING && !field->choices)
            json_string(json, "pattern", field->pattern ? field->pattern : NO_NUL);
        if (flavour == SCHEMA_PLAIN && field->default_json)
            json_raw(json, "default", field->default_json);
    }
    json_object_end(json);
}

static void write_string_list(struct json_writer *json, const char *key, const struct field *field,
                              enum schema_flavour flavour, bool nullable)
{
    json_object_begin(json, key);
    write_type(json, "array", nullable);
    write_description(json, field);
    write_bounds(json, field, flavour);
    json_object_begin(json, "items");
    json_string(json, "type", "string");
    json_string(json, "pattern", NO_NUL);
    json_object_end(json);
    json_object_end(json);
}

static void write_object_list(struct json_writer *json, const char *key, const struct field *field,
                              enum schema_flavour flavour, bool nullable, bool output)
{
    json_object_begin(json, key);
    write_type(json, "array", nullable);
    write_description(json, field);
    if (!output)
        write_bounds(json, field, flavour);
    write_fields(json, "items", field->fields, flavour, PROFILE_NONE, true, output, NULL);
    json_object_end(json);
}

static void write_object(struct json_writer *json, const char *key, const struct field *field,
                         enum schema_flavour flavour, bool nullable, bool output)
{
    if (!nullable) {
        write_fields(json, key, field->fields, flavour, PROFILE_NONE, true, output,
                     field->description);
        return;
    }
    json_object_begin(json, key);
    write_description(json, field);
    json_array_begin(json, "anyOf");
    write_fields(json, NULL, field->fields, flavour, PROFILE_NONE, true, output, NULL);
    json_object_begin(json, NULL);
    json_string(json, "type", "null");
    json_object_end(json);
    json_array_end(json);
    json_object_end(json);
}

/* What strict mode's own tools print for an optional argument. */
static void write_or_null(struct json_writer *json, const char *key, const struct field *field,
                          bool output)
{
    struct field plain = *field;
    plain.flags = (plain.flags | FIELD_REQUIRED) & ~(unsigned)FIELD_NULLABLE;
    plain.description = NULL;
    json_object_begin(json, key);
    write_description(json, field);
    json_array_begin(json, "anyOf");
    schema_write_field(json, NULL, &plain, SCHEMA_STRICT, output);
    json_object_begin(json, NULL);
    json_string(json, "type", "null");
    json_object_end(json);
    json_array_end(json);
    json_object_end(json);
}

void schema_write_field(struct json_writer *json, const char *key, const struct field *field,
                        enum schema_flavour flavour, bool output)
{
    bool nullable = output ? field->flags & FIELD_NULLABLE : !(field->flags & FIELD_REQUIRED);
    if (nullable && flavour == SCHEMA_STRICT) {
        write_or_null(json, key, field, output);
        return;
    }
    switch (field->type) {
    case FIELD_STRING:
        write_scalar(json, key, field, "string", flavour, nullable, output);
        break;
    case FIELD_INTEGER:
        write_scalar(json, key, field, "integer", flavour, nullable, output);
        break;
    case FIELD_NUMBER:
        write_scalar(json, key, field, "number", flavour, nullable, output);
        break;
    case FIELD_BOOLEAN:
        write_scalar(json, key, field, "boolean", flavour, nullable, output);
        break;
    case FIELD_STRING_LIST:
        write_string_list(json, key, field, flavour, nullable);
        break;
    case FIELD_MAP:
        if (flavour == SCHEMA_STRICT)
            write_pairs(json, key, field, flavour, nullable);
        else
            write_plain_map(json, key, field, nullable, output);
        break;
    case FIELD_OBJECT:
        write_object(json, key, field, flavour, nullable, output);
        break;
    case FIELD_OBJECT_LIST:
        write_object_list(json, key, field, flavour, nullable, output);
        break;
    case FIELD_ANY:
        json_object_begin(json, key);
        write_description(json, field);
        json_object_end(json);
        break;
    }
}

static void write_fields(struct json_writer *json, const char *key, const struct field *fields,
                         enum schema_flavour flavour, enum profile profile, bool path_and_query,
                         bool output, const char *description)
{
    json_object_begin(json, key);
    json_string(json, "type", "object");
    if (description)
        json_string(json, "description", description);
    json_object_begin(json, "properties");
    for (const struct field *field = fields; field->name; field++)
        if (schema_in_tool(field, profile) && (path_and_query || field->place == PLACE_BODY))
            schema_write_field(json, field->name, field, flavour, output);
    json_object_end(json);
    json_array_begin(json, "required");
    for (const struct field *field = fields; field->name; field++) {
        bool required = output                     ? !(field->flags & FIELD_SOMETIMES)
                        : flavour == SCHEMA_STRICT ? true
                                                   : field->flags & FIELD_REQUIRED;
        if (required && schema_in_tool(field, profile) &&
            (path_and_query || field->place == PLACE_BODY))
            json_string(json, NULL, field->name);
    }
    json_array_end(json);
    /* What we add to results later is not an error of a client's. */
    if (!output)
        json_boolean(json, "additionalProperties", false);
    json_object_end(json);
}

void schema_write_input(struct json_writer *json, const char *key,
                        const struct operation_entry *entry, enum schema_flavour flavour,
                        enum profile profile, bool path_and_query)
{
    write_fields(json, key, entry->input, flavour, profile, path_and_query, false, NULL);
}

void schema_write_output(struct json_writer *json, const char *key,
                         const struct operation_entry *entry)
{
    write_fields(json, key, entry->output, SCHEMA_PLAIN, PROFILE_NONE, true, true, NULL);
}
