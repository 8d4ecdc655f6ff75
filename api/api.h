/* The API as main sees it. Loop thread. */
#pragma once

#include "supervisord/supervisor.h"

struct api;

/* Listens as the supervisor's config says and serves; the supervisor has recovered. */
int api_new(struct api **ret_api, struct supervisor *supervisor, struct hearth_failure *failure);
/* Stops accepting; done when what is under way is answered, or timeout_ms has passed. */
void api_drain(struct api *api, unsigned timeout_ms, void (*done)(void *arg), void *arg);
/* Ends all that is served. What works for a call may go on until the supervisor is freed. */
void api_close(struct api *api);
/* After api_close, and after supervisor_free. */
void api_free(struct api *api);
/* Where it is served: "http://127.0.0.1:40123", or "unix:///…/hearthd.sock". */
const char *api_url(const struct api *api);
uint64_t api_request_count(const struct api *api);
/* Is a client connected that may have something to ask any time? */
bool api_in_use(const struct api *api);
