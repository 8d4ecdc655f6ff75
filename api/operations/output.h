/* Text and bytes of a guest in an answer: what fits, and that something did not. */
#pragma once

#include "api/json_write.h"
#include "supervisord/exec.h"

enum text_encoding { ENCODING_UTF8, ENCODING_BASE64 };

/* A member's bytes, all of them: as text with what is none replaced, or as base64. */
void write_encoded(struct json_writer *json, const char *key, const char *data, size_t length,
                   enum text_encoding encoding);
/* What was read of a file: bytes whole, of text what takes at most room bytes of JSON from its
 * beginning. Gives whether any is left out. */
bool write_content(struct json_writer *json, const char *data, size_t length,
                   enum text_encoding encoding, size_t room);
/* Standard output and error: what one leaves of an answer's room is the other's, up to stream_room
 * bytes of JSON each. In a hole stands a line that says how much is left out. Gives whether
 * anything is. */
bool write_streams(struct json_writer *json, const struct exec_status *status,
                   enum text_encoding encoding, size_t stream_room);
/* Bytes of JSON that they and the command take. */
size_t streams_size(const struct exec_status *status, enum text_encoding encoding,
                    size_t stream_room);
/* How many bytes from the beginning take at most room bytes of JSON. */
size_t text_that_fits(const char *data, size_t length, size_t room);
