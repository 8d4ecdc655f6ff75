/* The table as tool definitions, and the endpoint that a tool loop calls with the model's argument
 * text as it is. */
#include "api/call_internal.h"
#include "api/decode.h"
#include "api/json_read.h"
#include "api/schema.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

enum format {
    FORMAT_OPENAI_RESPONSES,
    FORMAT_OPENAI_CHAT,
    FORMAT_MCP,
    FORMAT_JSON_SCHEMA,
    FORMAT_UNKNOWN
};

static enum format format_parse(const char *name)
{
    static const char *const names[] = {"openai-responses", "openai-chat", "mcp", "json-schema"};
    for (int i = 0; i < FORMAT_UNKNOWN; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum format)i;
    return FORMAT_UNKNOWN;
}

static void write_function(struct json_writer *json, const struct operation_entry *entry,
                           enum profile profile)
{
    json_string(json, "name", entry->name);
    json_string(json, "description", entry->description);
    schema_write_input(json, "parameters", entry, SCHEMA_STRICT, profile, true);
    json_boolean(json, "strict", true);
}

void tools_write_mcp(struct json_writer *json, const struct operation_entry *entry,
                     enum profile profile)
{
    json_object_begin(json, NULL);
    json_string(json, "name", entry->name);
    json_string(json, "title", entry->title);
    json_string(json, "description", entry->description);
    schema_write_input(json, "inputSchema", entry, SCHEMA_PLAIN, profile, true);
    schema_write_output(json, "outputSchema", entry);
    json_object_begin(json, "annotations");
    json_string(json, "title", entry->title);
    json_boolean(json, "readOnlyHint", entry->flags & OPERATION_READ_ONLY);
    json_boolean(json, "destructiveHint", entry->flags & OPERATION_DESTRUCTIVE);
    json_boolean(json, "idempotentHint",
                 entry->flags & (OPERATION_IDEMPOTENT | OPERATION_READ_ONLY));
    json_boolean(json, "openWorldHint", entry->flags & OPERATION_OPEN_WORLD);
    json_object_end(json);
    json_object_end(json);
}

static void write_tool(struct json_writer *json, const struct operation_entry *entry,
                       enum profile profile, enum format format)
{
    if (format == FORMAT_MCP) {
        tools_write_mcp(json, entry, profile);
        return;
    }
    json_object_begin(json, NULL);
    switch (format) {
    case FORMAT_OPENAI_RESPONSES:
        json_string(json, "type", "function");
        write_function(json, entry, profile);
        break;
    case FORMAT_OPENAI_CHAT:
        json_string(json, "type", "function");
        json_object_begin(json, "function");
        write_function(json, entry, profile);
        json_object_end(json);
        break;
    case FORMAT_MCP:
    case FORMAT_JSON_SCHEMA:
    case FORMAT_UNKNOWN:
        json_string(json, "name", entry->name);
        json_string(json, "description", entry->description);
        schema_write_input(json, "input_schema", entry, SCHEMA_PLAIN, profile, true);
        schema_write_output(json, "output_schema", entry);
        break;
    }
    json_object_end(json);
}

static int refuse(struct hearth_failure *failure, const char *code, const char *argument,
                  const char *detail)
{
    char pointer[80];
    snprintf(pointer, sizeof pointer, "/%.64s", argument);
    int error = hearth_fail(failure, HEARTH_EINVALID, code, "%s: %s", pointer, detail);
    hearth_failure_field(failure, pointer);
    return error;
}

static int parse_query(struct http_request *request, enum profile *ret_profile,
                       enum format *ret_format, struct hearth_failure *failure)
{
    size_t count;
    const struct http_pair *query = http_request_query(request, &count);
    int error = 0;
    *ret_profile = PROFILE_CORE;
    *ret_format = FORMAT_OPENAI_RESPONSES;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(query[i].name, query[j].name) == 0) {
                refuse(failure, "duplicate_parameter", query[i].name,
                       "it stands twice in the query");
                return failure->error = HEARTH_EMALFORMED;
            }
    for (size_t i = 0; i < count && !error; i++) {
        if (strcmp(query[i].name, "profile") == 0) {
            *ret_profile = optable_profile_parse(query[i].value);
            if (*ret_profile == PROFILE_NONE)
                error = refuse(failure, "bad_choice", "profile",
                               "vm-run, workspace-core or workspace-full is wanted");
        } else if (strcmp(query[i].name, "format") == 0) {
            *ret_format = format_parse(query[i].value);
            if (*ret_format == FORMAT_UNKNOWN)
                error = refuse(failure, "bad_choice", "format",
                               "openai-responses, openai-chat, mcp or json-schema is wanted");
        } else {
            error = refuse(failure, "unknown_argument", query[i].name,
                           "profile and format are what there is");
        }
    }
    return error;
}

void tools_list(struct api *api, struct http_request *request)
{
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct hearth_failure failure;
    enum profile profile;
    enum format format;
    size_t count;
    (void)api;
    if (parse_query(request, &profile, &format, &failure)) {
        http_reply_problem(request, &failure);
        return;
    }
    const struct operation_entry *const *table = optable(&count);
    json_object_begin(&json, NULL);
    json_array_begin(&json, "tools");
    for (size_t i = 0; i < count; i++)
        if (optable_in_profile(table[i], profile))
            write_tool(&json, table[i], profile, format);
    json_array_end(&json);
    json_object_end(&json);
    if (json.error) {
        hearth_fail(&failure, (enum hearth_error)json.error, NULL, "the list could not be made");
        http_reply_problem(request, &failure);
        return;
    }
    http_reply(request, 200, "application/json", &body);
}

void tools_run(struct call *call)
{
    const struct buf *body = http_request_body(call->request);
    struct hearth_failure failure;
    cJSON *object = NULL;
    int error = body && body->length ? json_parse(&object, body->data, body->length, &failure) : 0;
    http_request_drop_body(call->request);
    /* A model that has no arguments to give may send nothing at all. */
    if (!error && (!object || cJSON_IsNull(object))) {
        cJSON_Delete(object);
        object = cJSON_CreateObject();
    }
    size_t count;
    const struct http_pair *query = http_request_query(call->request, &count);
    if (!error && count)
        error = refuse(&failure, "unknown_argument", query->name,
                       "a tool takes its arguments in the body");
    /* What only REST offers is unknown here, unless it asks for nothing. */
    for (const struct field *field = call->entry->input; !error && field->name; field++)
        if ((field->flags & FIELD_REST_ONLY) &&
            !decode_is_default(field, cJSON_GetObjectItemCaseSensitive(object, field->name))) {
            error =
                refuse(&failure, "unknown_argument", field->name, "a tool has no such argument");
            hearth_failure_hint(&failure, "Leave it out: only the REST operation has it.");
        }
    if (error)
        call_fail(call, &failure);
    else
        call_dispatch(call, object);
    cJSON_Delete(object);
}
