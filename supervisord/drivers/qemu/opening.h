/* The host's end of a preamble (guestagent/preamble.h): makes a clean stream of a connection to a
 * machine's virtio-serial port, or waits for the agent to be there to make it with. Loop thread. */
#pragma once

#include "supervisord/loop.h"

#include <stdbool.h>

struct opening;

/* fd is given to the callee, -1 on error. */
typedef void (*opened)(void *arg, int fd, const struct hearth_failure *failure);

/* Takes fd (non-blocking, connected). ask_only: done as soon as the agent has answered; no stream
 * begins. used: an earlier link may have left half a frame; its end is
 * flushed out if the agent does not answer at once. done comes once, never before this returns.
 * NULL without memory. */
struct opening *opening_begin(struct loop *loop, int fd, bool used, bool ask_only,
                              int64_t deadline_us, opened done, void *arg);
/* done is not called. */
void opening_cancel(struct opening *opening);
