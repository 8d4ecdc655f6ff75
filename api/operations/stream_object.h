/* One object of a streamed reply. */
#pragma once

#include "api/call.h"

/* The media types that such a stream may have, NDJSON first; NULL-terminated. */
extern const char *const stream_types[];
/* Sends body (one JSON object): as a line, or where `events` as a server-sent event of that kind,
 * with an ID unless id is NULL. False where the client has enough to take for now. */
bool stream_object(struct call *call, bool events, const char *kind, const char *id,
                   const struct buf *body);
