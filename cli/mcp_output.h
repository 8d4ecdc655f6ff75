/* Tools that write to a host path: the commands that do the same, run as children. */
#pragma once

#include "base/buf.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

/* Is it a call that is ours to make in this profile? One with arguments that the tool has not is
 * the daemon's to refuse. */
bool mcp_output_concerns_us(const char *tool, const cJSON *arguments, const char *profile);
/* Runs it; 0 with the result's JSON in out, 1 with the problem's, negative where there is neither.
 * Blocks. */
int mcp_output_run(const char *tool, const cJSON *arguments, struct buf *out);
