#include "api/call.h"

#include "api/call_internal.h"
#include "api/json_redact.h"
#include "api/mcp.h"
#include "api/problem.h"
#include "base/log.h"
#include "supervisord/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE ((size_t)4096 - 64)

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(max_align_t) char data[];
};

static struct call *call_of(struct request_owner *owner)
{
    return container_of(owner, struct call, owner);
}

static void on_body(struct request_owner *owner, const void *data, size_t length)
{
    struct call *call = call_of(owner);
    if (call->on_data)
        call->on_data(call->body_arg, data, length);
}

static void on_body_end(struct request_owner *owner)
{
    struct call *call = call_of(owner);
    if (call->on_body_end)
        call->on_body_end(call->body_arg);
}

void call_abandon(struct call *call)
{
    call->request = NULL;
    call->on_answer = NULL;
    if (call->on_gone)
        call->on_gone(call->gone_arg);
}

bool call_is_gone(const struct call *call)
{
    return !call->request && !call->on_answer;
}

static void on_gone(struct request_owner *owner)
{
    call_abandon(call_of(owner));
}

struct call *call_new(struct api *api, struct http_request *request,
                      const struct operation_entry *entry)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->owner = (struct request_owner){on_body, on_body_end, on_gone};
    call->api = api;
    call->request = request;
    call->entry = entry;
    call->began_us = clock_monotonic_us();
    list_init(&call->key_link);
    list_init(&call->link);
    list_append(&api->calls, &call->link);
    if (request)
        http_request_set_data(request, &call->owner);
    return call;
}

void call_retain(struct call *call)
{
    call->retained++;
}

void call_release(struct call *call)
{
    if (--call->retained == 0 && list_empty(&call->link))
        call_free(call);
}

static void end_activity(struct call *call)
{
    if (call->active)
        workspace_activity_end(call->api->supervisor, call->touches);
    call->active = false;
}

void call_free(struct call *call)
{
    if (call->request)
        http_request_set_data(call->request, NULL);
    call->request = NULL;
    list_remove(&call->link);
    list_remove(&call->key_link);
    redact_values_free(steal_pointer(call->redact));
    end_activity(call);
    if (call->retained)
        return;
    for (struct chunk *chunk = call->memory, *next; chunk; chunk = next) {
        next = chunk->next;
        explicit_bzero(chunk->data, chunk->used); /* secrets may be among it */
        free(chunk);
    }
    free(call);
}

bool call_is_cut_off(const struct call *call)
{
    const struct api *api = call->api;
    return api->ends_sessions || http_server_cuts_late(api->server);
}

void call_orphan(struct call *call)
{
    call->request = NULL;
    call->on_answer = NULL;
    call_on_gone(call, NULL, NULL);
    call_on_drain(call, NULL, NULL);
    end_activity(call);
    *call->touches = '\0';
    call->orphaned = true;
}

const struct operation_entry *call_entry(const struct call *call)
{
    return call->entry;
}

struct supervisor *call_supervisor(const struct call *call)
{
    return call->api->supervisor;
}

const struct principal *call_principal(const struct call *call)
{
    return &call->principal;
}

const char *call_request_id(const struct call *call)
{
    return call->request_id;
}

void *call_allocate(struct call *call, size_t size)
{
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct chunk *chunk = call->memory;
    if (!chunk || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        chunk = malloc(sizeof *chunk + room);
        if (!chunk)
            return NULL;
        *chunk = (struct chunk){.next = call->memory, .size = room};
        call->memory = chunk;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += size;
    return memset(memory, 0, size);
}

void *call_allocate_or_fail(struct call *call, size_t size)
{
    struct hearth_failure failure;
    void *memory = call_allocate(call, size);
    if (memory)
        return memory;
    hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    call_fail(call, &failure);
    return NULL;
}

void call_send(struct call *call, int status, const char *content_type, struct buf *body)
{
    struct http_request *request = call->request;
    if (status >= 100 && status < 600)
        call->api->outcomes[status / 100]++;
    if (*call->touches)
        mcp_workspace_touched(call->api, call->touches);
    if (request) {
        call->request = NULL;
        http_request_set_data(request, NULL);
        http_reply(request, status, content_type, body);
    } else if (call->on_answer) {
        call->on_answer(call->answer_arg, status, body);
    }
    buf_free(body);
    call_free(call);
}

void call_about(struct call *call, const struct workspace *workspace)
{
    int error = 0;
    if (call->redact)
        return;
    call->redact = workspace_redact_values(workspace, &error);
    call->blind = error != 0;
}

void call_tells_ids_alone(struct call *call)
{
    call->blind = false;
}

bool call_shows_nothing(const struct call *call)
{
    return call->blind;
}

size_t call_redact_reach(const struct call *call)
{
    size_t longest = call->redact ? redact_longest(call->redact) : 0;
    return longest ? longest - 1 : 0;
}

size_t call_redact_before(const struct call *call, uint64_t offset)
{
    size_t reach = call_redact_reach(call);
    return offset < reach ? (size_t)offset : reach;
}

int call_redact_part(const struct call *call, struct buf *text, size_t from, size_t length,
                     size_t *ret_length)
{
    struct buf part = {.limit = SIZE_MAX};
    from = from < text->length ? from : text->length;
    length = length < text->length - from ? length : text->length - from;
    *ret_length = length;
    if (!text->length)
        return 0;
    if (!call->redact) {
        buf_consume(text, from);
        text->length = length;
        text->data[length] = '\0';
        return 0;
    }
    part.data = redact_part(call->redact, text->data, text->length, from, length, &part.length);
    part.capacity = part.length + 1;
    if (!part.data)
        return HEARTH_ENOMEMORY;
    explicit_bzero(text->data, text->length);
    buf_free(text);
    *text = part;
    return 0;
}

int call_redact_mask(const struct call *call, char *text, size_t length)
{
    if (call->blind)
        return HEARTH_EUNAVAILABLE;
    return !call->redact || redact_mask(call->redact, text, length) ? 0 : HEARTH_ENOMEMORY;
}

int call_redact_json(const struct call *call, struct buf *body)
{
    if (call->blind)
        return HEARTH_EUNAVAILABLE;
    return call->redact ? json_redact(call->redact, body) : 0;
}

/* False where it could not be looked through: then nothing of it may be shown. */
static bool redact_answer(struct call *call, struct buf *body)
{
    return call_redact_json(call, body) == 0;
}

/* In the place of an answer that cannot be looked through. It says nothing of the workspace. */
static void unreadable(struct hearth_failure *failure)
{
    hearth_fail(failure, HEARTH_EUNAVAILABLE, "secret_unreadable",
                "the workspace's secrets cannot be opened, so nothing of it is shown");
    hearth_failure_hint(failure, "Give the daemon the key that they were sealed with again, or "
                                 "delete the workspace.");
}

void call_reply(struct call *call, struct buf *result)
{
    if (call->orphaned) {
        buf_free(result);
        call_free(call);
        return;
    }
    if (!redact_answer(call, result)) {
        buf_free(result);
        call->blind = true;
        call_fail(call, &HEARTH_FAILURE_NONE);
        return;
    }
    idempotency_end(call, true, call->tool ? 200 : call->entry->status, "application/json", result);
}

/* The workspace that it is about; NULL: none. */
static const char *subject_id(const struct call *call)
{
    for (const struct field *field = call->input ? call->entry->input : NULL; field && field->name;
         field++)
        if (strcmp(field->name, "workspace_id") == 0 && field->type == FIELD_STRING) {
            const char *const *id = (const void *)((const char *)call->input + field->offset);
            return *id;
        }
    return NULL;
}

static struct workspace *subject_of(const struct call *call)
{
    struct hearth_failure failure;
    const char *id = subject_id(call);
    return id ? workspace_find(&call->principal, id, &failure) : NULL;
}

/* The caller has not cancelled it: the end of its workspace, or of the guest there, has. */
static bool was_cut_off(const struct call *call, const struct hearth_failure *told,
                        struct hearth_failure *failure)
{
    const char *id =
        told->error == HEARTH_ECANCELLED && !call_is_gone(call) ? subject_id(call) : NULL;
    return id && workspace_cut_off(&call->principal, id, failure);
}

void call_fail(struct call *call, const struct hearth_failure *failure)
{
    if (call->orphaned) {
        call_free(call);
        return;
    }
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct hearth_failure instead;
    if (was_cut_off(call, failure, &instead))
        failure = &instead;
    if (call->blind) {
        unreadable(&instead);
        failure = &instead;
    }
    problem_write(&json, NULL, failure, call->request_id);
    if (json.error || (!call->blind && !redact_answer(call, &body)))
        buf_clear(&body);
    if (failure->error == HEARTH_EINTERNAL)
        log_error("internal_error", "operation=%s request=%s detail=\"%s\"", call->entry->name,
                  call->request_id, failure->detail);
    idempotency_end(call, false, problem_status(failure), PROBLEM_MEDIA_TYPE, &body);
}

static void run_woken(void *arg)
{
    struct call *call = arg;
    struct hearth_failure gone;
    if (call_is_gone(call)) {
        hearth_fail(&gone, HEARTH_ECANCELLED, NULL, "the client went away");
        call_fail(call, &gone);
    } else {
        call->entry->handler(call, call->input);
    }
}

/* What takes its time is not cut short by an expiry meanwhile. */
static void become_active(struct call *call)
{
    struct hearth_failure failure;
    struct workspace *workspace =
        *call->touches ? workspace_find(&call->principal, call->touches, &failure) : NULL;
    if (!workspace)
        return;
    workspace_activity_begin(workspace);
    call->active = true;
}

void call_run(struct call *call)
{
    become_active(call);
    bool wakes = call->entry->flags & OPERATION_WAKES;
    struct workspace *workspace =
        wakes || call->entry->flags & OPERATION_SETTLES ? subject_of(call) : NULL;
    if (!workspace || !workspace_wake(workspace, wakes, run_woken, call))
        call->entry->handler(call, call->input);
}

void call_header(struct call *call, const char *name, const char *value)
{
    if (call->request && !call->tool)
        http_request_header_out(call->request, name, value);
}

void call_on_gone(struct call *call, void (*fn)(void *arg), void *arg)
{
    call->on_gone = fn;
    call->gone_arg = arg;
}

void call_on_drain(struct call *call, void (*fn)(void *arg), void *arg)
{
    call->on_drain = fn;
    call->drain_arg = arg;
}

size_t call_text_room(const struct call *call)
{
    return call->on_answer ? CALL_TEXTS_ROOM / 2 : CALL_TEXTS_ROOM;
}

bool call_can_stream(const struct call *call)
{
    return !call->tool && call->request;
}

const char *call_header_in(const struct call *call, const char *name)
{
    return call->request ? http_request_header(call->request, name) : NULL;
}

/* The weight that an Accept header gives to a media type, in thousandths; -1 where it does not name
 * it. */
static int weight(const char *accept, const char *type)
{
    int best = -1;
    size_t major = strcspn(type, "/");
    while (*accept) {
        accept += strspn(accept, " \t,");
        size_t length = strcspn(accept, ",;");
        size_t name = length;
        while (name && (accept[name - 1] == ' ' || accept[name - 1] == '\t'))
            name--;
        bool exact = name == strlen(type) && strncmp(accept, type, name) == 0;
        bool range =
            name == major + 2 && strncmp(accept, type, major + 1) == 0 && accept[name - 1] == '*';
        bool any = name == 3 && strncmp(accept, "*/*", 3) == 0;
        size_t whole = strcspn(accept, ",");
        int value = 1000;
        const char *quality = strstr(accept, "q=");
        if (quality && quality < accept + whole)
            value = (int)(strtod(quality + 2, NULL) * 1000);
        /* What is named counts before what a range takes in. */
        int rank = exact ? value * 4 + 3 : range ? value * 4 + 1 : any ? value * 4 : -1;
        if (rank > best && value > 0)
            best = rank;
        accept += whole;
    }
    return best;
}

const char *call_accepts(const struct call *call, const char *const *offered)
{
    const char *accept = call_header_in(call, "Accept"), *best = NULL;
    int best_weight = -1;
    if (!accept)
        return offered[0];
    for (; *offered; offered++) {
        int value = weight(accept, *offered);
        if (value > best_weight) {
            best_weight = value;
            best = *offered;
        }
    }
    return best;
}

/* Streams. */

static void writable(void *arg)
{
    struct call *call = arg;
    if (call->on_writable)
        call->on_writable(call->writable_arg);
}

static const struct http_stream_events stream_events = {.on_writable = writable};

void call_stream_begin(struct call *call, int status, const char *content_type, int64_t length,
                       void (*on_writable)(void *arg), void *arg)
{
    call->streaming = true;
    call->on_writable = on_writable;
    call->writable_arg = arg;
    if (call->request)
        http_stream_begin(call->request, status, content_type, length, &stream_events, call);
    call->api->outcomes[status / 100]++;
}

bool call_stream_send(struct call *call, const void *data, size_t length)
{
    return !call->request || http_stream_send(call->request, data, length);
}

void call_stream_end(struct call *call, bool ok)
{
    if (*call->touches)
        mcp_workspace_touched(call->api, call->touches);
    struct http_request *request = call->request;
    call->request = NULL;
    if (request) {
        http_request_set_data(request, NULL);
        http_stream_end(request, ok);
    }
    if (call->holds_key && !call->orphaned)
        idempotency_end_stream(call);
    else
        call_free(call);
}

/* Raw bodies. */

bool call_has_raw_body(const struct call *call)
{
    return call->raw_body;
}

void call_read_body(struct call *call, void (*on_data)(void *arg, const void *data, size_t length),
                    void (*on_end)(void *arg), void *arg)
{
    if (call->content)
        idempotency_read_body(call, on_data, on_end, arg);
    else
        call_take_body(call, on_data, on_end, arg);
}

void call_take_body(struct call *call, void (*on_data)(void *arg, const void *data, size_t length),
                    void (*on_end)(void *arg), void *arg)
{
    call->on_data = on_data;
    call->on_body_end = on_end;
    call->body_arg = arg;
    if (call->request)
        http_request_pause_body(call->request, false);
}

void call_pause_body(struct call *call, bool paused)
{
    if (call->request)
        http_request_pause_body(call->request, paused);
}
