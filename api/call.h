/* One invocation of an operation, whatever surface it came by. A handler ends it by exactly one
 * call_reply, call_fail or stream; it may do so later. The call lives until then, even if the
 * caller has gone (replies then go nowhere), so a handler's completion may always use it. Loop
 * thread. */
#pragma once

#include "api/json_write.h"
#include "base/id.h"
#include "supervisord/supervisor.h"

struct call;

struct operation_entry;

const struct operation_entry *call_entry(const struct call *call);
struct supervisor *call_supervisor(const struct call *call);
/* Its client is gone, but has not left: the daemon ends, and has cut it off. */
bool call_is_cut_off(const struct call *call);
const struct principal *call_principal(const struct call *call);
const char *call_request_id(const struct call *call);

/* The call is about this workspace: none of its secrets is shown in the answer. */
struct workspace;
void call_about(struct call *call, const struct workspace *workspace);
/* … which has nothing in it but IDs and words of our own, and is given even where the secrets
 * cannot be opened, and so not be looked for. */
void call_tells_ids_alone(struct call *call);
/* The secrets cannot be opened: nothing may be shown, and whatever call_fail is given says so. */
bool call_shows_nothing(const struct call *call);
/* Bytes that have to be seen on either side of a range of text so that a secret that lies over its
 * border is found; 0 where there is nothing to find. */
size_t call_redact_reach(const struct call *call);
/* How many of these are there before a range that begins at offset. */
size_t call_redact_before(const struct call *call, uint64_t offset);
/* Makes of text its part from `from` on, of at most length bytes, without what is secret in it or
 * over its borders. Gives how many bytes that part had. 0 or HEARTH_ENOMEMORY. */
int call_redact_part(const struct call *call, struct buf *text, size_t from, size_t length,
                     size_t *ret_length);
/* In place, each find as long as it was. 0, HEARTH_ENOMEMORY, or HEARTH_EUNAVAILABLE where the
 * secrets cannot be opened. */
int call_redact_mask(const struct call *call, char *text, size_t length);
/* The same for a JSON text of an answer that is streamed. */
int call_redact_json(const struct call *call, struct buf *body);
/* Takes the JSON text in result (one object). */
void call_reply(struct call *call, struct buf *result);
void call_fail(struct call *call, const struct hearth_failure *failure);
/* The same where an answer to be given again is nowhere: `idempotency_answer_lost`. */
void call_fail_lost(struct call *call);
/* A header of the reply, where the surface has such (Location, ETag); copied. */
void call_header(struct call *call, const char *name, const char *value);

/* Most bytes of JSON that the texts of an answer take together: with all around them it stays under
 * 2 MiB. And one of them: less where the answer may be an event of MCP. */
#define CALL_TEXTS_ROOM ((size_t)1800 << 10)
size_t call_text_room(const struct call *call);

/* fn(arg) once if the caller goes away before the end: the handler then cancels what nobody waits
 * for, and still ends the call. NULL unsets. */
void call_on_gone(struct call *call, void (*fn)(void *arg), void *arg);

/* fn(arg) once if the daemon is to end: a stream that has no end of its own ends then. */
void call_on_drain(struct call *call, void (*fn)(void *arg), void *arg);

/* A token works no more: ends what it has under way elsewhere, streams and sessions of MCP too. */
void call_end_token(struct call *call, const char *token_id);

/* Memory that lives as long as the call, zeroed. NULL when there is none: the first leaves the call
 * as it is, the second has failed it. */
void *call_allocate(struct call *call, size_t size);
void *call_allocate_or_fail(struct call *call, size_t size);

/* REST only (call_can_stream): a streamed reply. */
bool call_can_stream(const struct call *call);
/* The media type among offered (NULL-terminated) that the caller likes best; NULL where it takes
 * none of them. */
const char *call_accepts(const struct call *call, const char *const *offered);
const char *call_header_in(const struct call *call,
                           const char *name); /* Range, If-Match; NULL if absent */
void call_stream_begin(struct call *call, int status, const char *content_type, int64_t length,
                       void (*on_writable)(void *arg), void *arg);
bool call_stream_send(struct call *call, const void *data, size_t length);
void call_stream_end(struct call *call, bool ok);

/* OPERATION_RAW_BODY over REST: the handler is called at the head and then reads the body. on_data
 * may pause. */
bool call_has_raw_body(const struct call *call);
void call_read_body(struct call *call, void (*on_data)(void *arg, const void *data, size_t length),
                    void (*on_end)(void *arg), void *arg);
void call_pause_body(struct call *call, bool paused);
