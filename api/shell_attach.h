/* A terminal on a shell of a workspace, over a connection that is upgraded to frames of
 * base/shell_frame.h; cli/shell_attach.c is the other end. */
#pragma once

#include "api/call_internal.h"

#define SHELL_FRAME_MAX                                                                            \
    ((size_t)64 << 10) /* of a client's frame; a longer one ends the connection */

/* Replies to the request, in time. */
void shell_attach_serve(struct api *api, struct http_request *request, const struct route *route);
