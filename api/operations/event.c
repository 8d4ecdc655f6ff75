/* Events: a page of them, waited for where there are none yet, or a stream that goes on. Both read
 * from the tenant's numbered history, so that neither can miss one without saying so. */
#include "api/operations/families.h"
#include "api/operations/stream_object.h"
#include "api/operations/views.h"
#include "supervisord/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY "retry: 2000\n\n"
/* A client that lost its token is not served for ever: it comes again, from where it was. */
#define STREAM_LIFE_US (INT64_C(3600) * US_PER_S)
#define STREAM_PAGE 256
#define READS_MAX 4 /* in one turn of the loop, each of some hundred rows */

struct events_input {
    struct string_list kind;
    const char *workspace_id;
    struct optional_integer after;
    int64_t limit, wait_ms;
};

static int check_subject(const char *value, struct hearth_failure *failure)
{
    if (id_valid(value, "ws") || id_valid(value, "vm"))
        return 0;
    return hearth_fail(failure, HEARTH_EINVALID, "invalid_argument", "it is no ID of a workspace");
}

static const struct field events_input[] = {
    {.name = "kind",
     .type = FIELD_STRING_LIST,
     .place = PLACE_QUERY,
     .maximum = 16,
     .description = "Only these: a kind as exec.ended, or all of a thing as exec.",
     .offset = offsetof(struct events_input, kind)},
    {.name = "workspace_id",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .maximum = 64,
     .pattern = ID_PATTERN("(ws|vm)"),
     .check = check_subject,
     .description = "Only those of this workspace; it may be gone already.",
     .offset = offsetof(struct events_input, workspace_id)},
    {.name = "after",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .flags = FIELD_OPTIONAL_VALUE,
     .minimum = -1,
     .maximum = (INT64_C(1) << 53) - 1,
     .description = "Only those after this ID; -1: only what comes. Else a page begins with the "
                    "oldest, a stream with what comes, or after Last-Event-ID.",
     .offset = offsetof(struct events_input, after)},
    {.name = "limit",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 1,
     .maximum = 1000,
     .default_json = "100",
     .description = "Events in a page.",
     .offset = offsetof(struct events_input, limit)},
    {.name = "wait_ms",
     .type = FIELD_INTEGER,
     .place = PLACE_QUERY,
     .minimum = 0,
     .maximum = 600000,
     .default_json = "0",
     .description = "Wait this long for the first event of a page.",
     .offset = offsetof(struct events_input, wait_ms)},
    {0},
};

static const struct field event_fields[] = {
    {.name = "id", .type = FIELD_INTEGER, .description = "Its number; they rise by one."},
    {.name = "kind",
     .type = FIELD_STRING,
     .description = "What happened, for example workspace.stopped."},
    {.name = "at", .type = FIELD_NUMBER, .description = "When."},
    {.name = "workspace_id",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "The workspace it happened to."},
    {.name = "data",
     .type = FIELD_ANY,
     .description = "What else is known: an object of texts and numbers, by the kind."},
    {0},
};
static const struct field gap_fields[] = {
    {.name = "first", .type = FIELD_INTEGER, .description = "First ID that is lost."},
    {.name = "last", .type = FIELD_INTEGER, .description = "Last one."},
    {0},
};
static const struct field events_output[] = {
    {.name = "count", .type = FIELD_INTEGER, .description = "Events in this page."},
    {.name = "events",
     .type = FIELD_OBJECT_LIST,
     .description = "Oldest first.",
     .fields = event_fields},
    {.name = "gaps",
     .type = FIELD_OBJECT_LIST,
     .description = "Events that were asked for and are not kept any more.",
     .fields = gap_fields},
    {.name = "next_after", .type = FIELD_INTEGER, .description = "Pass it as after to go on."},
    {0},
};

/* A page or a stream under way. */
struct following {
    struct call *call;
    struct tenant *tenant;
    struct event_filter filter;
    uint64_t after;
    struct event_follower follower;
    struct timer timer; /* a page's wait, a stream's next heartbeat */
    /* A page. */
    struct json_writer json;
    struct buf body, gaps;
    struct json_writer gap_json;
    unsigned count, limit;
    int64_t wait_ms;
    bool lost, waits;
    /* A stream. */
    bool events; /* server-sent, else NDJSON */
    bool full;   /* the client has to take what it has first */
    bool behind; /* there is more to look through, in another turn */
    int64_t begun_us;
};

static void write_event(struct json_writer *json, const struct event_record *event, bool typed)
{
    json_object_begin(json, NULL);
    if (typed)
        json_string(json, "type", "event");
    json_unsigned(json, "id", event->sequence);
    json_string(json, "kind", event->kind);
    json_time(json, "at", event->at);
    json_string(json, "workspace_id", event->workspace_id);
    json_object_begin(json, "data");
    for (size_t i = 0; i < event->fact_count; i++)
        if (event->facts[i].text)
            json_string(json, event->facts[i].name, event->facts[i].text);
        else if (event->facts[i].is_boolean)
            json_boolean(json, event->facts[i].name, event->facts[i].number);
        else
            json_integer(json, event->facts[i].name, event->facts[i].number);
    json_object_end(json);
    json_object_end(json);
}

static void write_gap(struct json_writer *json, uint64_t first, uint64_t last, bool typed)
{
    json_object_begin(json, NULL);
    if (typed)
        json_string(json, "type", "gap");
    json_unsigned(json, "first", first);
    json_unsigned(json, "last", last);
    json_object_end(json);
}

static void stop_following(struct following *following)
{
    events_unfollow(&following->follower);
    timer_free(&following->timer);
}

/* A page. */

static void page_event(void *arg, const struct event_record *event)
{
    struct following *following = arg;
    write_event(&following->json, event, false);
    following->count++;
}

static void page_gap(void *arg, uint64_t first, uint64_t last)
{
    struct following *following = arg;
    write_gap(&following->gap_json, first, last, false);
    following->lost = true;
}

static void page_reply(struct following *following)
{
    struct json_writer *json = &following->json;
    stop_following(following);
    call_on_gone(following->call, NULL, NULL);
    json_array_end(&following->gap_json);
    json_array_end(json);
    json_unsigned(json, "count", following->count);
    json_raw(json, "gaps", following->gap_json.error ? "[]" : following->gaps.data);
    json_unsigned(json, "next_after", following->after);
    json_object_end(json);
    if (following->gap_json.error)
        json->error = following->gap_json.error;
    buf_free(&following->gaps);
    reply_with(following->call, &following->body, json);
}

static void page_fail(struct following *following, const struct hearth_failure *failure)
{
    stop_following(following);
    call_on_gone(following->call, NULL, NULL);
    buf_free(&following->body);
    buf_free(&following->gaps);
    call_fail(following->call, failure);
}

static void page_read(void *arg)
{
    struct following *following = arg;
    struct hearth_failure failure;
    const struct event_reader reader = {page_event, page_gap, following};
    int more = 1;
    for (int turn = 0; more == 1 && turn < READS_MAX && following->count < following->limit; turn++)
        more = events_read(following->tenant, &following->filter, &following->after,
                           following->limit - following->count, &reader, &failure);
    if (more < 0)
        page_fail(following, &failure);
    else if (following->count || following->lost || more || !following->waits)
        page_reply(following);
}

static void page_due(void *arg)
{
    page_reply(arg);
}

static void page_gone(void *arg)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_ECANCELLED, NULL, "the client went away");
    page_fail(arg, &failure);
}

static void page_begin(void *arg)
{
    struct following *following = arg;
    int64_t wait_ms = following->wait_ms;
    following->json = JSON_WRITER(&following->body);
    following->gap_json = JSON_WRITER(&following->gaps);
    json_object_begin(&following->json, NULL);
    json_array_begin(&following->json, "events");
    json_array_begin(&following->gap_json, NULL);
    timer_init(&following->timer, supervisor_loop(call_supervisor(following->call)), page_due,
               following);
    following->waits = wait_ms > 0;
    if (wait_ms) {
        timer_set(&following->timer, clock_monotonic_us() + wait_ms * US_PER_MS);
        call_on_gone(following->call, page_gone, following);
    }
    following->follower = (struct event_follower){.wake = page_read, .arg = following};
    events_follow(&following->follower, following->tenant);
    page_read(following);
}

/* A stream. */

static void stream_event(void *arg, const struct event_record *event)
{
    struct following *following = arg;
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    char id[24];
    write_event(&json, event, true);
    snprintf(id, sizeof id, "%" PRIu64, event->sequence);
    if (!json.error && !stream_object(following->call, following->events, event->kind, id, &body))
        following->full = true;
}

static void stream_gap(void *arg, uint64_t first, uint64_t last)
{
    struct following *following = arg;
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    char id[24];
    write_gap(&json, first, last, true);
    snprintf(id, sizeof id, "%" PRIu64, last);
    if (!json.error)
        stream_object(following->call, following->events, "gap", id, &body);
}

static void stream_end(struct following *following, bool ok)
{
    stop_following(following);
    call_stream_end(following->call, ok);
}

static void set_heartbeat(struct following *following)
{
    const struct config *config = supervisor_config(call_supervisor(following->call));
    timer_set(&following->timer, clock_monotonic_us() + config->event_heartbeat_ms * US_PER_MS);
}

/* Whatever there is, as long as the client takes it. */
static void stream_read(void *arg)
{
    struct following *following = arg;
    struct hearth_failure failure;
    const struct event_reader reader = {stream_event, stream_gap, following};
    int more = 1;
    uint64_t before = following->after;
    for (int turn = 0; more == 1 && turn < READS_MAX && !following->full; turn++)
        more = events_read(following->tenant, &following->filter, &following->after, STREAM_PAGE,
                           &reader, &failure);
    following->behind = more == 1 && !following->full;
    if (more < 0)
        stream_end(following, false); /* it comes again and is told why then */
    else if (following->behind)
        timer_set(&following->timer, clock_monotonic_us());
    else if (following->after != before)
        set_heartbeat(following);
}

static void stream_room(void *arg)
{
    struct following *following = arg;
    following->full = false;
    stream_read(following);
}

/* Nothing has happened for a while: says that the connection is alive. */
static void heartbeat(void *arg)
{
    struct following *following = arg;
    const char *text = following->events ? ":\n\n" : "\n";
    if (following->behind) {
        stream_read(following);
        return;
    }
    if (clock_monotonic_us() - following->begun_us > STREAM_LIFE_US) {
        stream_end(following, true);
        return;
    }
    if (!following->full)
        call_stream_send(following->call, text, strlen(text));
    set_heartbeat(following);
}

static void stream_gone(void *arg)
{
    stream_end(arg, false);
}

static void stream_leave(void *arg)
{
    stream_end(arg, true);
}

static void stream_begin(struct following *following, const char *type)
{
    following->events = type == stream_types[1];
    following->begun_us = clock_monotonic_us();
    timer_init(&following->timer, supervisor_loop(call_supervisor(following->call)), heartbeat,
               following);
    call_on_gone(following->call, stream_gone, following);
    call_on_drain(following->call, stream_leave, following);
    call_stream_begin(following->call, 200, type, -1, stream_room, following);
    const char *first = following->events ? RETRY : "\n"; /* with it the head goes out */
    call_stream_send(following->call, first, strlen(first));
    following->follower = (struct event_follower){.wake = stream_read, .arg = following};
    events_follow(&following->follower, following->tenant);
    set_heartbeat(following);
    stream_read(following);
}

/* Where to begin. */
static int begin_after(struct call *call, const struct events_input *input, bool stream,
                       uint64_t newest, uint64_t *ret_after, struct hearth_failure *failure)
{
    const char *last = stream ? call_header_in(call, "Last-Event-ID") : NULL;
    char *end;
    if (last && *last) {
        *ret_after = strtoull(last, &end, 10);
        if (*end || strlen(last) > 16 || strspn(last, "0123456789") != strlen(last))
            return hearth_fail(failure, HEARTH_EMALFORMED, "bad_last_event_id",
                               "Last-Event-ID is no event's ID");
        return 0;
    }
    bool set = input->after.set && input->after.value >= 0;
    *ret_after = set ? (uint64_t)input->after.value : stream || input->after.set ? newest : 0;
    return 0;
}

static void events(struct call *call, const void *arg)
{
    static const char *const types[] = {"application/json", "application/x-ndjson",
                                        "text/event-stream", NULL};
    const struct events_input *input = arg;
    const char *type = call_can_stream(call) ? call_accepts(call, types) : types[0];
    struct tenant *tenant = call_principal(call)->tenant;
    bool stream = type && type != types[0];
    struct hearth_failure failure;
    uint64_t after;
    if (begin_after(call, input, stream, events_newest(tenant), &after, &failure)) {
        call_fail(call, &failure);
        return;
    }
    struct following *following = call_allocate_or_fail(call, sizeof *following);
    if (!following)
        return;
    *following = (struct following){
        .call = call,
        .tenant = tenant,
        .after = after,
        .limit = (unsigned)input->limit,
        .wait_ms = input->wait_ms,
        .filter = {input->kind.items, input->kind.count, input->workspace_id},
    };
    if (stream)
        stream_begin(following,
                     strcmp(type, stream_types[1]) == 0 ? stream_types[1] : stream_types[0]);
    else
        events_when_written(tenant, page_begin, following);
}

static const char *const events_errors[] = {"bad_last_event_id", NULL};

const struct operation_entry event_operations[] = {
    {
        .name = "event_list",
        .family = "event",
        .title = "Follow events",
        .summary = "Tells what has happened: a page, waited for with wait_ms, or a stream.",
        .description = "Tells what has happened to the tenant's things, oldest first. With Accept: "
                       "text/event-stream (or application/x-ndjson) it goes on as it happens; "
                       "Last-Event-ID or after continues where a client was.",
        .method = "GET",
        .path = "/v1/events",
        .surfaces = SURFACE_REST,
        .flags = OPERATION_READ_ONLY | OPERATION_IDEMPOTENT | OPERATION_LONG | OPERATION_STREAMS,
        .status = 200,
        .input = events_input,
        .input_size = sizeof(struct events_input),
        .output = events_output,
        .errors = events_errors,
        .stream_types = stream_types,
        .handler = events,
    },
    {0},
};
