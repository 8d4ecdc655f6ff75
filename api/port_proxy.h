/* HTTP to a port of a guest: the request is sent on over the agent's link, the answer comes back as
 * the guest gave it, both streamed; an upgrade makes the connection the guest's own protocol. What
 * is for us alone (the token, hop-by-hop headers) does not pass. docs/ports.md has the rules. */
#pragma once

#include "api/call_internal.h"

/* Replies to the request, in time. */
void port_proxy_serve(struct api *api, struct http_request *request, const struct route *route);
