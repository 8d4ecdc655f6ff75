#include "cli/mcp_replay.h"

#include "base/clock.h"
#include "base/list.h"
#include "cli/command.h"
#include "cli/mcp_message.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

#define META_KEY "hearth/idempotency_key"
#define SUBSCRIPTIONS_MAX 64 /* as many as the daemon takes of one client */
#define CONNECTION_CLOSED (-32000)
#define INVALID_REQUEST (-32600)

struct waiting {
    struct list link; // mcp_replay::waiting
    cJSON *id;
    char *line; /* to be sent (again); NULL: it is not to be made twice */
    size_t length;
    char *uri; /* of a subscription */
    bool ours; /* not the client's: made again */
    bool once; /* a call that is not to be made twice */
    bool call, modern, initialize, list;
    int64_t since_us;
};

struct mcp_replay {
    struct list waiting;
    size_t size;          /* of their lines */
    cJSON *initialize;    /* the client's, under an ID of ours */
    bool initialized;     /* the client has said so */
    cJSON *subscriptions; /* its URIs */
    cJSON *readers;       /* tools that change nothing, by name: as the client was told */
    unsigned number;      /* of IDs of ours */
};

struct mcp_replay *mcp_replay_new(void)
{
    struct mcp_replay *replay = calloc(1, sizeof *replay);
    cJSON *subscriptions = cJSON_CreateArray(), *readers = cJSON_CreateObject();
    if (!replay || !subscriptions || !readers) {
        free(replay);
        cJSON_Delete(subscriptions);
        cJSON_Delete(readers);
        return NULL;
    }
    list_init(&replay->waiting);
    replay->subscriptions = subscriptions;
    replay->readers = readers;
    return replay;
}

static void forget_line(struct mcp_replay *replay, struct waiting *waiting)
{
    replay->size -= waiting->length;
    free(waiting->line);
    waiting->line = NULL;
    waiting->length = 0;
}

static void waiting_free(struct mcp_replay *replay, struct waiting *waiting)
{
    forget_line(replay, waiting);
    list_remove(&waiting->link);
    cJSON_Delete(waiting->id);
    free(waiting->uri);
    free(waiting);
}

static struct waiting *find(const struct mcp_replay *replay, const cJSON *id)
{
    list_for_each(cursor, next, &replay->waiting)
    {
        struct waiting *waiting = container_of(cursor, struct waiting, link);
        if (mcp_same_id(waiting->id, id))
            return waiting;
    }
    return NULL;
}

/* Takes id. A request that there is no memory for goes its way, it is only not made again. */
static struct waiting *wait_for(struct mcp_replay *replay, cJSON *id, const char *line,
                                size_t length)
{
    struct waiting *waiting = id ? calloc(1, sizeof *waiting) : NULL;
    if (!waiting) {
        cJSON_Delete(id);
        return NULL;
    }
    waiting->id = id;
    waiting->line = line ? strndup(line, length) : NULL;
    waiting->length = waiting->line ? length : 0;
    waiting->since_us = clock_monotonic_us();
    replay->size += waiting->length;
    list_append(&replay->waiting, &waiting->link);
    return waiting;
}

/* The client's lines. */

static void subscribe(struct mcp_replay *replay, const char *uri, bool wanted)
{
    cJSON *known = NULL, *each;
    cJSON_ArrayForEach(each, replay->subscriptions)
    {
        if (uri && strcmp(each->valuestring, uri) == 0)
            known = each;
    }
    if (known && !wanted)
        cJSON_Delete(cJSON_DetachItemViaPointer(replay->subscriptions, known));
    else if (uri && !known && wanted &&
             cJSON_GetArraySize(replay->subscriptions) < SUBSCRIPTIONS_MAX)
        cJSON_AddItemToArray(replay->subscriptions, cJSON_CreateString(uri));
}

static void take_request(struct mcp_replay *replay, const cJSON *message, const char *line,
                         size_t length, bool sent)
{
    const cJSON *params = json_member(message, "params");
    const cJSON *meta = json_member(params, "_meta");
    const char *method = json_text(message, "method", NULL);
    bool call = strcmp(method, "tools/call") == 0;
    const char *tool = call ? json_text(params, "name", NULL) : NULL;
    bool once = call && !json_text(meta, META_KEY, NULL) &&
                !(tool && cJSON_HasObjectItem(replay->readers, tool));
    cJSON *id = cJSON_Duplicate(json_member(message, "id"), true);
    struct waiting *waiting = wait_for(replay, id, once && sent ? NULL : line, length);
    if (!waiting)
        return;
    waiting->call = call;
    waiting->once = once;
    waiting->modern = mcp_is_modern(params);
    waiting->initialize = strcmp(method, "initialize") == 0;
    waiting->list = strcmp(method, "tools/list") == 0;
    if (waiting->initialize && !replay->initialize)
        replay->initialize = cJSON_Duplicate(message, true);
    else if (strcmp(method, "resources/subscribe") == 0 && json_text(params, "uri", NULL))
        waiting->uri = strdup(json_text(params, "uri", NULL));
    else if (strcmp(method, "resources/unsubscribe") == 0)
        subscribe(replay, json_text(params, "uri", NULL), false);
}

static void take_notification(struct mcp_replay *replay, const cJSON *message)
{
    const char *method = json_text(message, "method", NULL);
    const cJSON *params = json_member(message, "params");
    if (strcmp(method, "notifications/initialized") == 0) {
        replay->initialized = true;
    } else if (strcmp(method, "notifications/cancelled") == 0) {
        /* It is answered no more, here or there. */
        const cJSON *id = json_member(params, "requestId");
        struct waiting *waiting = id ? find(replay, id) : NULL;
        if (waiting && !waiting->ours)
            waiting_free(replay, waiting);
    }
}

void mcp_replay_take(struct mcp_replay *replay, const char *line, size_t length, bool sent)
{
    const char *end = NULL;
    auto_json cJSON *message = cJSON_ParseWithLengthOpts(line, length, &end, false);
    const cJSON *id = json_member(message, "id");
    size_t rest = message ? length - (size_t)(end - line) : 0;
    /* What cannot be read is for the daemon to refuse, with no ID. */
    if (!message || strspn(end, " \t\r\n") < rest || !json_text(message, "method", NULL))
        return;
    mcp_keep_ids(message, line, length);
    if (!id)
        take_notification(replay, message);
    else if (mcp_is_id(id))
        take_request(replay, message, line, length, sent);
}

/* The daemon's. */

/* The ID of an answer: the daemon writes it as the second member. */
static cJSON *answered_id(const char *line, size_t length)
{
    static const char prefix[] = "{\"jsonrpc\":\"2.0\",\"id\":";
    const char *end = line + length, *at = line + sizeof prefix - 1, *from = at;
    if (length < sizeof prefix || memcmp(line, prefix, sizeof prefix - 1) != 0)
        return NULL;
    if (*at != '"') {
        static const char *const path[] = {"id", NULL};
        cJSON *id = cJSON_ParseWithLength(at, (size_t)(end - at));
        mcp_keep_digits(id, path, line, length);
        return id;
    }
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at < end ? cJSON_ParseWithLength(from, (size_t)(at + 1 - from)) : NULL;
}

static cJSON *about_resource(const char *method, const char *uri)
{
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "jsonrpc", "2.0");
    cJSON_AddStringToObject(message, "method", method);
    cJSON_AddStringToObject(cJSON_AddObjectToObject(message, "params"), "uri", uri);
    return message;
}

/* What changed meanwhile was told to nobody: the client looks again. */
static void tell_updated(const char *uri, struct buf *to_client)
{
    auto_json cJSON *message = about_resource("notifications/resources/updated", uri);
    mcp_append(to_client, message);
}

static void learn_readers(struct mcp_replay *replay, const char *line, size_t length)
{
    auto_json cJSON *answer = cJSON_ParseWithLength(line, length);
    const cJSON *tool, *result = json_member(answer, "result");
    cJSON_ArrayForEach(tool, json_member(result, "tools"))
    {
        const cJSON *hints = json_member(tool, "annotations");
        const char *name = json_text(tool, "name", NULL);
        if (name && cJSON_IsTrue(json_member(hints, "readOnlyHint")) &&
            !cJSON_HasObjectItem(replay->readers, name))
            cJSON_AddTrueToObject(replay->readers, name);
    }
}

bool mcp_replay_answer(struct mcp_replay *replay, const char *line, size_t length,
                       struct buf *to_client)
{
    auto_json cJSON *id = answered_id(line, length);
    struct waiting *waiting = id ? find(replay, id) : NULL;
    bool ours = waiting && waiting->ours;
    if (ours && waiting->uri)
        tell_updated(waiting->uri, to_client);
    else if (waiting && waiting->uri && !memmem(line, length, ",\"error\":{", 10))
        subscribe(replay, waiting->uri, true);
    if (waiting && waiting->list)
        learn_readers(replay, line, length);
    if (waiting)
        waiting_free(replay, waiting);
    return !ours;
}

/* The loss. */

static void add_problem(const struct waiting *waiting, const struct hearth_failure *failure,
                        cJSON *answer)
{
    auto_json cJSON *problem = cli_problem(failure);
    if (!waiting->call) {
        cJSON *error = cJSON_AddObjectToObject(answer, "error");
        cJSON_AddNumberToObject(error, "code", CONNECTION_CLOSED);
        cJSON_AddStringToObject(error, "message", failure->detail);
        cJSON_AddItemToObject(error, "data", cJSON_Duplicate(problem, true));
        return;
    }
    char *text = cJSON_PrintUnformatted(problem);
    mcp_add_tool_result(answer, waiting->modern, text ? text : "{}", NULL);
    cJSON_free(text);
}

static void refuse(struct mcp_replay *replay, struct waiting *waiting,
                   const struct hearth_failure *failure, struct buf *to_client)
{
    auto_json cJSON *answer = mcp_answer(waiting->id);
    add_problem(waiting, failure, answer);
    mcp_append(to_client, answer);
    waiting_free(replay, waiting);
}

void mcp_replay_lost(struct mcp_replay *replay, struct buf *to_client)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EUNAVAILABLE, "connection_lost",
                "the daemon ended while the call was under way: it may have been made");
    hearth_failure_hint(&failure,
                        "look at the workspace (workspace_list, workspace_logs) before "
                        "calling again; a call with " META_KEY " in _meta is repeated by itself");
    failure.retryable = false;
    list_for_each(cursor, next, &replay->waiting)
    {
        struct waiting *waiting = container_of(cursor, struct waiting, link);
        waiting->since_us = clock_monotonic_us();
        if (waiting->ours)
            waiting_free(replay, waiting);
        else if (!waiting->line)
            refuse(replay, waiting, &failure, to_client);
    }
}

void mcp_replay_refuse(struct mcp_replay *replay, int64_t before_us,
                       const struct hearth_failure *failure, struct buf *to_client)
{
    list_for_each(cursor, next, &replay->waiting)
    {
        struct waiting *waiting = container_of(cursor, struct waiting, link);
        if (waiting->since_us <= before_us)
            refuse(replay, waiting, failure, to_client);
    }
}

void mcp_replay_too_long(const char *line, size_t length, struct buf *to_client)
{
    auto_json cJSON *message = cJSON_ParseWithLength(line, length);
    mcp_keep_ids(message, line, length);
    const cJSON *id = json_member(message, "id");
    bool known = mcp_is_id(id);
    if (message && !known)
        return; /* a notification has no answer */
    auto_json cJSON *answer = mcp_answer(known ? id : NULL);
    cJSON *error = cJSON_AddObjectToObject(answer, "error");
    cJSON_AddNumberToObject(error, "code", INVALID_REQUEST);
    cJSON_AddStringToObject(error, "message", "the message is longer than it may be");
    mcp_append(to_client, answer);
}

/* The new connection. */

/* A request of ours, whose answer is not for the client. */
static struct waiting *say(struct mcp_replay *replay, cJSON *message, struct buf *to_daemon)
{
    char id[32];
    snprintf(id, sizeof id, "hearth replay %u", ++replay->number);
    cJSON_DeleteItemFromObjectCaseSensitive(message, "id");
    cJSON_AddStringToObject(message, "id", id);
    struct waiting *waiting = wait_for(replay, cJSON_CreateString(id), NULL, 0);
    if (waiting)
        waiting->ours = true;
    mcp_append(to_daemon, message);
    return waiting;
}

static void say_hello(struct mcp_replay *replay, struct buf *to_daemon)
{
    static const char initialized[] =
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";
    list_for_each(cursor, next, &replay->waiting)
    {
        if (container_of(cursor, struct waiting, link)->initialize)
            return; /* the client's own is still to be answered */
    }
    if (replay->initialize)
        say(replay, replay->initialize, to_daemon);
    if (replay->initialized)
        buf_text(to_daemon, initialized);
}

static void say_subscribe(struct mcp_replay *replay, const char *uri, struct buf *to_daemon)
{
    auto_json cJSON *message = about_resource("resources/subscribe", uri);
    struct waiting *waiting = say(replay, message, to_daemon);
    if (waiting)
        waiting->uri = strdup(uri);
}

void mcp_replay_again(struct mcp_replay *replay, struct buf *to_daemon)
{
    const cJSON *each;
    say_hello(replay, to_daemon);
    cJSON_ArrayForEach(each, replay->subscriptions)
    {
        say_subscribe(replay, each->valuestring, to_daemon);
    }
    list_for_each(cursor, next, &replay->waiting)
    {
        struct waiting *waiting = container_of(cursor, struct waiting, link);
        if (!waiting->line)
            continue;
        if (!buf_append(to_daemon, waiting->line, waiting->length))
            buf_char(to_daemon, '\n');
        if (waiting->once)
            forget_line(replay, waiting);
    }
}

bool mcp_replay_waits(const struct mcp_replay *replay)
{
    return !list_empty(&replay->waiting) || cJSON_GetArraySize(replay->subscriptions);
}

size_t mcp_replay_size(const struct mcp_replay *replay)
{
    return replay->size;
}
