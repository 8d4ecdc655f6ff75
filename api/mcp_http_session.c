#include "api/mcp_http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_US (60 * US_PER_S)

struct mcp_sessions {
    struct map by_id; // mcp_session::entry
    struct list all;  // mcp_session::link
    unsigned count;
    struct timer sweep;
};

static bool is_idle(const struct mcp_session *session)
{
    return !session->peer.request_count && !session->listener;
}

static void on_sweep(void *arg)
{
    struct mcp_sessions *sessions = arg;
    int64_t now = clock_monotonic_us(), wall = clock_wall_us();
    list_for_each(cursor, next, &sessions->all)
    {
        struct mcp_session *session = container_of(cursor, struct mcp_session, link);
        int64_t expires_at = session->peer.principal.expires_at;
        if ((now - session->used_us >= MCP_SESSION_IDLE_US && is_idle(session)) ||
            (expires_at && expires_at <= wall))
            mcp_session_end(session);
    }
    timer_set(&sessions->sweep, now + SWEEP_US);
}

static struct mcp_sessions *sessions_of(struct api *api)
{
    if (api->mcp_sessions)
        return api->mcp_sessions;
    struct mcp_sessions *sessions = calloc(1, sizeof *sessions);
    if (!sessions)
        return NULL;
    list_init(&sessions->all);
    timer_init(&sessions->sweep, supervisor_loop(api->supervisor), on_sweep, sessions);
    timer_set(&sessions->sweep, clock_monotonic_us() + SWEEP_US);
    return api->mcp_sessions = sessions;
}

static bool belongs_to(const struct mcp_session *session, const struct principal *principal)
{
    return session->peer.principal.tenant == principal->tenant &&
           strcmp(session->peer.principal.token_id, principal->token_id) == 0;
}

/* Where a token has as many as it may, or all have, the one that was idle longest gives way. */
static bool make_room(struct mcp_sessions *sessions, const struct principal *principal)
{
    unsigned own = 0;
    struct mcp_session *idle = NULL, *own_idle = NULL;
    list_for_each(cursor, next, &sessions->all)
    {
        struct mcp_session *session = container_of(cursor, struct mcp_session, link);
        bool mine = belongs_to(session, principal);
        own += mine;
        if (is_idle(session) && !idle)
            idle = session;
        if (is_idle(session) && mine && !own_idle)
            own_idle = session;
    }
    struct mcp_session *gives_way = own >= MCP_SESSIONS_PER_TOKEN         ? own_idle
                                    : sessions->count >= MCP_SESSIONS_MAX ? idle
                                                                          : NULL;
    if (gives_way)
        mcp_session_end(gives_way);
    else if (own >= MCP_SESSIONS_PER_TOKEN || sessions->count >= MCP_SESSIONS_MAX)
        return false;
    return true;
}

struct mcp_session *mcp_session_new(struct api *api, const struct principal *principal,
                                    enum profile profile, struct hearth_failure *failure)
{
    struct mcp_sessions *sessions = sessions_of(api);
    struct mcp_session *session = NULL;
    if (sessions && !make_room(sessions, principal)) {
        hearth_fail(failure, HEARTH_EQUOTA, "too_many_sessions",
                    "as many sessions are in use as there may be");
        hearth_failure_hint(failure, "End one with DELETE /mcp.");
        return NULL;
    }
    if (sessions)
        session = calloc(1, sizeof *session);
    if (session)
        id_random_text(session->id, MCP_SESSION_ID_LENGTH);
    if (!session || map_insert(&sessions->by_id, &session->entry, session->id)) {
        free(session);
        hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        return NULL;
    }
    list_init(&session->exchanges);
    list_init(&session->events);
    list_init(&session->link);
    list_append(&sessions->all, &session->link);
    sessions->count++;
    session->used_us = clock_monotonic_us();
    mcp_peer_open(&session->peer, api, &mcp_http_transport, principal, profile);
    session->peer.era = MCP_ERA_SESSION;
    return session;
}

struct mcp_session *mcp_session_find(struct api *api, const struct principal *principal,
                                     const char *id)
{
    struct map_entry *entry = api->mcp_sessions ? map_find(&api->mcp_sessions->by_id, id) : NULL;
    struct mcp_session *session = entry ? container_of(entry, struct mcp_session, entry) : NULL;
    if (!session || !belongs_to(session, principal))
        return NULL;
    session->peer.principal = *principal;
    session->used_us = clock_monotonic_us();
    list_remove(&session->link);
    list_append(&api->mcp_sessions->all, &session->link);
    return session;
}

static void drop_event(struct mcp_session *session)
{
    struct mcp_event *event = container_of(session->events.next, struct mcp_event, link);
    session->event_count--;
    session->event_bytes -= event->message.length;
    list_remove(&event->link);
    buf_free(&event->message);
    free(event);
}

static void session_free(void *arg)
{
    free(arg);
}

void mcp_session_end(struct mcp_session *session)
{
    struct api *api = session->peer.api;
    mcp_peer_close(&session->peer);
    list_for_each(cursor, next, &session->exchanges)
        mcp_exchange_end(container_of(cursor, struct mcp_exchange, link));
    while (!list_empty(&session->events))
        drop_event(session);
    map_remove(&api->mcp_sessions->by_id, &session->entry);
    list_remove(&session->link);
    api->mcp_sessions->count--;
    /* After its exchanges. */
    loop_defer(supervisor_loop(api->supervisor), session_free, session);
}

void mcp_session_keep(struct mcp_session *session, unsigned stream, uint64_t sequence,
                      const struct buf *message)
{
    struct mcp_event *event = calloc(1, sizeof *event);
    if (!event || buf_append(&event->message, message->data, message->length)) {
        free(event);
        return;
    }
    event->stream = stream;
    event->sequence = sequence;
    list_init(&event->link);
    list_append(&session->events, &event->link);
    session->event_count++;
    session->event_bytes += message->length;
    while (session->event_count > MCP_EVENTS_MAX || session->event_bytes > MCP_EVENT_BYTES_MAX)
        drop_event(session);
}

static void replay(const struct mcp_session *session, struct mcp_exchange *exchange, uint64_t after)
{
    list_for_each(cursor, next, &session->events)
    {
        const struct mcp_event *event = container_of(cursor, struct mcp_event, link);
        if (event->stream == exchange->stream && event->sequence > after)
            mcp_exchange_send(exchange, event->sequence, &event->message);
    }
}

/* The stream that GET opens: the newest takes the place of an older one, whose client may be gone
 * without having said so. */
static void listen(struct mcp_session *session, struct http_request *http, bool resumed,
                   uint64_t after)
{
    if (session->listener)
        mcp_exchange_end(session->listener);
    struct mcp_exchange *exchange = mcp_exchange_new(session->peer.api, http, session, true);
    if (!exchange)
        return;
    session->listener = exchange;
    exchange->stream = MCP_ANNOUNCE_STREAM;
    exchange->sequence = session->announced;
    mcp_exchange_stream(exchange);
    if (resumed)
        replay(session, exchange, after);
}

void mcp_session_listen(struct mcp_session *session, struct http_request *http, const char *last)
{
    unsigned stream = MCP_ANNOUNCE_STREAM;
    uint64_t after = 0;
    int used = 0;
    if (last && (sscanf(last, "%9u-%18" SCNu64 "%n", &stream, &after, &used) != 2 || last[used] ||
                 stream > session->stream_count)) {
        mcp_http_refuse(http, 400, NULL, MCP_INVALID_PARAMS,
                        "no stream of the session has this event");
        return;
    }
    if (stream == MCP_ANNOUNCE_STREAM) {
        listen(session, http, last != NULL, after);
        return;
    }
    struct mcp_exchange *exchange = NULL;
    list_for_each(cursor, next, &session->exchanges)
    {
        struct mcp_exchange *other = container_of(cursor, struct mcp_exchange, link);
        if (other->stream == stream && other->streaming && !other->done)
            exchange = other;
    }
    if (exchange) {
        mcp_exchange_adopt(exchange, http);
        replay(session, exchange, after);
        return;
    }
    /* What it had to say is said; this tells what was missed. */
    exchange = mcp_exchange_new(session->peer.api, http, session, true);
    if (!exchange)
        return;
    exchange->stream = stream;
    exchange->sequence = after;
    mcp_exchange_stream(exchange);
    replay(session, exchange, after);
    mcp_exchange_end(exchange);
}

void mcp_sessions_drain(struct api *api)
{
    struct mcp_sessions *sessions = api->mcp_sessions;
    if (!sessions)
        return;
    list_for_each(cursor, next, &sessions->all)
        mcp_session_end(container_of(cursor, struct mcp_session, link));
}

void mcp_sessions_end_token(struct api *api, const char *token_id)
{
    struct mcp_sessions *sessions = api->mcp_sessions;
    if (!sessions)
        return;
    list_for_each(cursor, next, &sessions->all)
    {
        struct mcp_session *session = container_of(cursor, struct mcp_session, link);
        if (strcmp(session->peer.principal.token_id, token_id) == 0)
            mcp_session_end(session);
    }
}

void mcp_sessions_free(struct api *api)
{
    struct mcp_sessions *sessions = api->mcp_sessions;
    if (!sessions)
        return;
    mcp_sessions_drain(api);
    timer_free(&sessions->sweep);
    map_free(&sessions->by_id);
    free(sessions);
    api->mcp_sessions = NULL;
}
