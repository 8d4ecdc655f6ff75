/* The table as an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0). */
#include "api/call_internal.h"
#include "api/schema.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const int problem_statuses[] = {400, 401, 403, 404, 405, 408, 409, 413, 415,
                                       422, 426, 429, 499, 500, 502, 503, 504, 507};

static void write_problem_response(struct json_writer *json, int number)
{
    char status[8];
    snprintf(status, sizeof status, "%d", number);
    json_object_begin(json, status);
    json_string(json, "description", "A problem.");
    json_object_begin(json, "content");
    json_object_begin(json, "application/problem+json");
    json_object_begin(json, "schema");
    json_string(json, "$ref", "#/components/schemas/Problem");
    json_object_end(json);
    json_object_end(json);
    json_object_end(json);
    json_object_end(json);
}

static void write_responses(struct json_writer *json, const struct operation_entry *entry)
{
    char status[8];
    json_object_begin(json, "responses");
    snprintf(status, sizeof status, "%d", entry->status);
    json_object_begin(json, status);
    json_string(json, "description", entry->summary);
    json_object_begin(json, "content");
    if (entry->output->name) {
        json_object_begin(json, "application/json");
        schema_write_output(json, "schema", entry);
        json_object_end(json);
    }
    for (const char *const *type = entry->stream_types; type && *type; type++) {
        json_object_begin(json, *type);
        json_object_end(json);
    }
    json_object_end(json);
    json_object_end(json);
    if (strcmp(entry->name, "workspace_file_read") == 0) {
        json_object_begin(json, "206");
        json_string(json, "description", "The range that was asked for.");
        json_object_begin(json, "content");
        json_object_begin(json, "application/octet-stream");
        json_object_end(json);
        json_object_end(json);
        json_object_end(json);
        write_problem_response(json, 416);
    }
    for (size_t i = 0; i < sizeof problem_statuses / sizeof *problem_statuses; i++)
        write_problem_response(json, problem_statuses[i]);
    json_object_end(json);
}

static void write_parameters(struct json_writer *json, const struct field *fields, bool raw)
{
    json_array_begin(json, "parameters");
    for (const struct field *field = fields; field->name; field++) {
        bool query = field->place == PLACE_QUERY;
        if (field->place == PLACE_BODY && !raw)
            continue;
        json_object_begin(json, NULL);
        json_string(json, "name", field->name);
        json_string(json, "in", field->place == PLACE_PATH ? "path" : "query");
        json_string(json, "description", field->description);
        json_boolean(json, "required",
                     field->place == PLACE_PATH || (query && (field->flags & FIELD_REQUIRED)));
        struct field plain = *field;
        plain.flags |= FIELD_REQUIRED; /* a parameter is absent, never null */
        schema_write_field(json, "schema", &plain, SCHEMA_PLAIN, false);
        json_object_end(json);
    }
    json_array_end(json);
}

static void write_body(struct json_writer *json, const struct operation_entry *entry)
{
    static const char *const raw_types[] = {"application/octet-stream", "application/x-tar",
                                            "application/gzip", "application/zstd"};
    bool any = false, required = entry->flags & OPERATION_NEEDS_INPUT,
         raw = entry->flags & OPERATION_RAW_BODY;
    for (const struct field *field = entry->input; field->name; field++) {
        any = any || field->place == PLACE_BODY;
        required = required || (field->place == PLACE_BODY && (field->flags & FIELD_REQUIRED));
    }
    if ((!any && !raw) || strcmp(entry->method, "GET") == 0 || strcmp(entry->method, "DELETE") == 0)
        return;
    json_object_begin(json, "requestBody");
    /* Where a body is content, what stands beside it comes in the query, and all may. */
    json_boolean(json, "required", raw ? !any : required);
    json_object_begin(json, "content");
    if (any) {
        json_object_begin(json, "application/json");
        schema_write_input(json, "schema", entry, SCHEMA_PLAIN, PROFILE_NONE, false);
        json_object_end(json);
    }
    for (size_t i = 0; raw && i < (any ? 1 : sizeof raw_types / sizeof *raw_types); i++) {
        json_object_begin(json, raw_types[i]);
        json_object_end(json);
    }
    json_object_end(json);
    json_object_end(json);
}

static void begin_method(struct json_writer *json, const char *name)
{
    char method[8];
    size_t length = 0;
    for (; name[length] && length < sizeof method - 1; length++)
        method[length] = (char)tolower((unsigned char)name[length]);
    method[length] = '\0';
    json_object_begin(json, method);
}

static void begin_operation(struct json_writer *json, const struct operation_entry *entry,
                            const char *method, const char *id)
{
    begin_method(json, method);
    json_string(json, "operationId", id);
    json_string(json, "summary", entry->summary);
    json_string(json, "description", entry->description);
    json_array_begin(json, "tags");
    json_string(json, NULL, entry->family);
    json_array_end(json);
    write_parameters(json, entry->input, entry->flags & OPERATION_RAW_BODY);
}

/* What the guest answers is nobody's to describe. */
static void write_relayed(struct json_writer *json, const struct operation_entry *entry)
{
    static const char *const methods[] = {"GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        char id[64];
        snprintf(id, sizeof id, "%s_%s", entry->name, methods[i]);
        begin_operation(json, entry, methods[i], i ? id : entry->name);
        json_object_begin(json, "responses");
        json_object_begin(json, "default");
        json_string(json, "description", "What the guest answers.");
        json_object_end(json);
        for (size_t j = 0; j < sizeof problem_statuses / sizeof *problem_statuses; j++)
            write_problem_response(json, problem_statuses[j]);
        json_object_end(json);
        json_object_end(json);
    }
}

static void write_operation(struct json_writer *json, const struct operation_entry *entry)
{
    if (entry->flags & OPERATION_RELAY) {
        write_relayed(json, entry);
        return;
    }
    begin_operation(json, entry, entry->method, entry->name);
    write_body(json, entry);
    write_responses(json, entry);
    json_object_end(json);
}

/* A body of one media type; fields NULL: any object, where it is JSON. */
static void write_content(struct json_writer *json, const char *media_type,
                          const struct field *fields)
{
    const struct operation_entry shape = {.output = fields};
    json_object_begin(json, "content");
    json_object_begin(json, media_type);
    if (fields) {
        schema_write_output(json, "schema", &shape);
    } else if (strcmp(media_type, "application/json") == 0) {
        json_object_begin(json, "schema");
        json_string(json, "type", "object");
        json_object_end(json);
    }
    json_object_end(json);
    json_object_end(json);
}

static void write_service_responses(struct json_writer *json, const struct service_route *route)
{
    json_object_begin(json, "responses");
    for (int status = 200; status <= 503; status += 303) {
        char text[8];
        if (status == 503 && !route->may_be_unavailable)
            break;
        snprintf(text, sizeof text, "%d", status);
        json_object_begin(json, text);
        json_string(json, "description", route->summary);
        write_content(json, route->media_type, route->output);
        json_object_end(json);
    }
    for (size_t i = 0; i < sizeof problem_statuses / sizeof *problem_statuses; i++)
        if (problem_statuses[i] != 503 || !route->may_be_unavailable)
            write_problem_response(json, problem_statuses[i]);
    json_object_end(json);
}

/* A model that has no arguments to give may send nothing, or null. */
static void write_argument_text(struct json_writer *json)
{
    json_object_begin(json, "requestBody");
    json_object_begin(json, "content");
    json_object_begin(json, "application/json");
    json_object_begin(json, "schema");
    json_array_begin(json, "type");
    json_string(json, NULL, "object");
    json_string(json, NULL, "null");
    json_array_end(json);
    json_object_end(json);
    json_object_end(json);
    json_object_end(json);
    json_object_end(json);
}

static void write_service(struct json_writer *json, const struct service_route *route)
{
    json_object_begin(json, route->path);
    begin_method(json, route->method);
    json_string(json, "operationId", route->name);
    json_string(json, "summary", route->summary);
    json_array_begin(json, "tags");
    json_string(json, NULL, "service");
    json_array_end(json);
    if (route->anonymous) {
        json_array_begin(json, "security");
        json_array_end(json);
    }
    write_parameters(json, route->input, false);
    if (strcmp(route->method, "POST") == 0)
        write_argument_text(json);
    write_service_responses(json, route);
    json_object_end(json);
    json_object_end(json);
}

static void write_paths(struct json_writer *json)
{
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    json_object_begin(json, "paths");
    for (size_t i = 0; i < count; i++) {
        bool first = table[i]->surfaces & SURFACE_REST;
        for (size_t j = 0; j < i; j++)
            first = first && strcmp(table[j]->path, table[i]->path) != 0;
        if (!first)
            continue;
        json_object_begin(json, table[i]->path);
        for (size_t j = i; j < count; j++)
            if (strcmp(table[j]->path, table[i]->path) == 0)
                write_operation(json, table[j]);
        json_object_end(json);
    }
    const struct service_route *routes = service_routes(&count);
    for (size_t i = 0; i < count; i++)
        if (routes[i].name)
            write_service(json, &routes[i]);
    json_object_end(json);
}

static const struct field problem_fields[] = {
    {.name = "type", .type = FIELD_STRING, .description = "Reference to the kind of problem."},
    {.name = "title", .type = FIELD_STRING, .description = "The kind in words."},
    {.name = "status", .type = FIELD_INTEGER, .description = "HTTP status."},
    {.name = "detail", .type = FIELD_STRING, .description = "What went wrong here."},
    {.name = "code", .type = FIELD_STRING, .description = "Stable name of the problem."},
    {.name = "field",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "JSON pointer to the argument."},
    {.name = "hint", .type = FIELD_STRING, .description = "What to do next."},
    {.name = "request_id",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "ID of the request."},
    {.name = "retryable",
     .type = FIELD_BOOLEAN,
     .description = "The same request may succeed later."},
    {0},
};

int openapi_write(struct buf *out)
{
    struct json_writer json = JSON_WRITER(out);
    static const struct operation_entry problem = {.output = problem_fields};
    json_object_begin(&json, NULL);
    json_string(&json, "openapi", "3.1.0");
    json_object_begin(&json, "info");
    json_string(&json, "title", "hearth");
    json_string(&json, "version", HEARTH_VERSION);
    json_string(&json, "description", "Workspaces for coding agents.");
    json_object_end(&json);
    json_array_begin(&json, "security");
    json_object_begin(&json, NULL);
    json_array_begin(&json, "bearer");
    json_array_end(&json);
    json_object_end(&json);
    json_array_end(&json);
    write_paths(&json);
    json_object_begin(&json, "components");
    json_object_begin(&json, "securitySchemes");
    json_object_begin(&json, "bearer");
    json_string(&json, "type", "http");
    json_string(&json, "scheme", "bearer");
    json_object_end(&json);
    json_object_end(&json);
    json_object_begin(&json, "schemas");
    schema_write_output(&json, "Problem", &problem);
    json_object_end(&json);
    json_object_end(&json);
    json_object_end(&json);
    return json.error;
}
