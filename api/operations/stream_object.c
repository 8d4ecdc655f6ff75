#include "api/operations/stream_object.h"

const char *const stream_types[] = {"application/x-ndjson", "text/event-stream", NULL};

bool stream_object(struct call *call, bool events, const char *kind, const char *id,
                   const struct buf *body)
{
    auto_buf struct buf line = {0};
    int error = events && id ? buf_printf(&line, "id: %s\n", id) : 0;
    if (!error && events)
        error = buf_printf(&line, "event: %s\ndata: ", kind);
    if (!error)
        error = buf_append(&line, body->data, body->length);
    if (!error)
        error = buf_text(&line, events ? "\n\n" : "\n");
    return error || call_stream_send(call, line.data, line.length);
}
