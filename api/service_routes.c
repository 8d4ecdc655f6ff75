/* What is served besides the operations: health, metrics, the documents, tools and MCP. Rows with a
 * name are described in /openapi.json. */
#include "api/call_internal.h"
#include "api/schema.h"

static const char *const profiles[] = {"vm-run", "workspace-core", "workspace-full", NULL};
static const char *const formats[] = {"openai-responses", "openai-chat", "mcp", "json-schema",
                                      NULL};

static const struct field tools_query[] = {
    {.name = "profile",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .choices = profiles,
     .default_json = "\"workspace-core\"",
     .description = "Set of tools."},
    {.name = "format",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .choices = formats,
     .default_json = "\"openai-responses\"",
     .description = "Form of the definitions."},
    {0},
};
static const struct field tool_name[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .place = PLACE_PATH,
     .pattern = "^[a-z_]{1,64}$",
     .maximum = 64,
     .description = "Name of the tool."},
    {0},
};
static const struct field no_fields[] = {{0}};

static const struct field live_fields[] = {
    {.name = "status", .type = FIELD_STRING, .description = "ok."},
    {0},
};
static const struct field ready_fields[] = {
    {.name = "status", .type = FIELD_STRING, .description = "ok, or unavailable (503)."},
    {.name = "driver", .type = FIELD_STRING, .description = "What guests are run by; none."},
    {.name = "checks",
     .type = FIELD_ANY,
     .flags = FIELD_SOMETIMES,
     .description = "With ?verbose: each check, whether it is ok, and what it means."},
    {.name = "version",
     .type = FIELD_STRING,
     .flags = FIELD_SOMETIMES,
     .description = "With ?verbose."},
    {.name = "drivers",
     .type = FIELD_ANY,
     .flags = FIELD_SOMETIMES,
     .description = "With ?verbose: each driver, whether it can be used, and why not."},
    {0},
};
static const struct field root_fields[] = {
    {.name = "name", .type = FIELD_STRING, .description = "hearth."},
    {.name = "version", .type = FIELD_STRING, .description = "Of the daemon."},
    {.name = "features", .type = FIELD_STRING_LIST, .description = "What this one can do."},
    {0},
};
static const struct field tools_fields[] = {
    {.name = "tools", .type = FIELD_ANY, .description = "The definitions, in the form asked for."},
    {0},
};

#define JSON "application/json"

static const struct service_route routes[] = {
    {.kind = ROUTE_LIVEZ,
     .method = "GET",
     .path = "/livez",
     .name = "live",
     .summary = "The daemon's loop turns.",
     .media_type = JSON,
     .input = no_fields,
     .output = live_fields,
     .anonymous = true},
    {.kind = ROUTE_READYZ,
     .method = "GET",
     .path = "/readyz",
     .name = "ready",
     .summary = "Recovery is done, storage answers, a driver works; ?verbose lists each.",
     .media_type = JSON,
     .input = no_fields,
     .output = ready_fields,
     .anonymous = true,
     .may_be_unavailable = true},
    {.kind = ROUTE_METRICS,
     .method = "GET",
     .path = "/metrics",
     .name = "metrics",
     .summary = "Prometheus text.",
     .media_type = "text/plain",
     .input = no_fields},
    {.kind = ROUTE_OPENAPI,
     .method = "GET",
     .path = "/openapi.json",
     .name = "openapi",
     .summary = "This document.",
     .media_type = JSON,
     .input = no_fields,
     .anonymous = true},
    {.kind = ROUTE_ROOT,
     .method = "GET",
     .path = "/v1",
     .name = "root",
     .summary = "What serves here.",
     .media_type = JSON,
     .input = no_fields,
     .output = root_fields},
    {.kind = ROUTE_TOOLS,
     .method = "GET",
     .path = "/v1/tools",
     .name = "tool_list",
     .summary = "Definitions of the tools of a profile, for models.",
     .media_type = JSON,
     .input = tools_query,
     .output = tools_fields},
    {.kind = ROUTE_TOOL_CALL,
     .method = "POST",
     .path = "/v1/tools/{name}/call",
     .name = "tool_call",
     .summary =
         "Runs a tool on a model's argument text; the result, or the problem, can go back to it.",
     .media_type = JSON,
     .input = tool_name},
    {.kind = ROUTE_MCP, .method = "GET", .path = "/mcp"},
    {.kind = ROUTE_MCP, .method = "POST", .path = "/mcp"},
    {.kind = ROUTE_MCP, .method = "DELETE", .path = "/mcp"},
    {.kind = ROUTE_MCP_STREAM, .method = "POST", .path = "/mcp/streams"},
    {.kind = ROUTE_MCP_STREAM_INPUT, .method = "POST", .path = "/mcp/streams/{stream_id}"},
};

const struct service_route *service_routes(size_t *ret_count)
{
    *ret_count = sizeof routes / sizeof *routes;
    return routes;
}
