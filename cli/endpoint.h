/* Which daemon to talk to: HEARTH_URL, else the user's own, else the system's; where there is none,
 * a private one is started. */
#pragma once

#include "cli/http.h"

/* Fills ret_endpoint, the caller's to free. */
int endpoint_find(struct endpoint *ret_endpoint, struct hearth_failure *failure);
/* As endpoint_find, but where none runs that is the failure. */
int endpoint_find_running(struct endpoint *ret_endpoint, struct hearth_failure *failure);
