/* Ports of a workspace by HTTP: answered by the guest, so api/port_proxy.c serves them. */
#include "api/operations/families.h"
#include "api/operations/views.h"

struct request_input {
    const char *workspace_id, *path;
    int64_t port;
};

static const struct field request_input[] = {
    WORKSPACE_ID_FIELD(request_input),
    {.name = "port",
     .type = FIELD_INTEGER,
     .place = PLACE_PATH,
     .flags = FIELD_REQUIRED,
     .minimum = 1,
     .maximum = 65535,
     .description = "Port in the guest.",
     .offset = offsetof(struct request_input, port)},
    {.name = "path",
     .type = FIELD_STRING,
     .place = PLACE_PATH,
     .flags = FIELD_REQUIRED | FIELD_BLANK_OK,
     .description = "What is asked for there, slashes, query and all.",
     .offset = offsetof(struct request_input, path)},
    {0},
};

static const char *const request_errors[] = {GUEST_ERRORS,
                                             "bad_port",
                                             "port_not_listening",
                                             "port_unreachable",
                                             "too_many_port_connections",
                                             "port_not_http",
                                             "port_timeout",
                                             "agent_unreachable",
                                             NULL};

const struct operation_entry port_operations[] = {
    {
        .name = "port_request",
        .family = "port",
        .title = "Ask a port of a workspace",
        .summary = "Sends the request on to what listens on a port in the workspace, and gives its "
                   "answer back.",
        .description =
            "Any method, any path: the request goes to 127.0.0.1:PORT in the guest as HTTP/1.1 and "
            "the answer comes back as it is, both streamed; a WebSocket upgrade is passed on too. "
            "No port need be published. The token is not passed on.",
        .method = "GET",
        .path = "/v1/workspaces/{workspace_id}/ports/{port}/{path}",
        .profile = PROFILE_NONE,
        .surfaces = SURFACE_REST,
        .flags = OPERATION_RELAY | OPERATION_LONG | OPERATION_STREAMS | OPERATION_OPEN_WORLD,
        .status = 200,
        .input = request_input,
        .input_size = sizeof(struct request_input),
        .output = no_fields,
        .errors = request_errors,
    },
    {0},
};
