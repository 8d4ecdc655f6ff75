/* What a guest's agent says of its services, taken in as it changes. A guest is not believed more
 * than it must be: texts are checked, and it is asked again no sooner than after a while. */
#include "base/clock.h"
#include "base/text.h"
#include "supervisord/events.h"
#include "supervisord/port.h"
#include "supervisord/service_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_AGAIN_US (20 * US_PER_MS)

const char *service_state_named(const char *text)
{
    static const char *const names[] = {"running", "exited", "stopped", "failed", NULL};
    return text_literal(names, text);
}

static void tell_event(const struct service *service, const char *kind)
{
    const struct event_fact facts[] = {
        {.name = "service_name", .text = service->name},
        {.name = "state", .text = service->state},
        {.name = "reason", .text = service->stop_reason},
        {.name = "restarts", .number = service->restarts},
        {.name = "exit_code", .number = service->exit_code},
    };
    events_emit(service->workspace->tenant, kind, service->workspace->workspace_id, facts,
                sizeof facts / sizeof *facts - !service->has_exit);
}

static void record(const struct service *service)
{
    struct change *change = change_new();
    service_put(service, change);
    change_commit(change, service->workspace->supervisor->writer, NULL, NULL);
}

static void close_ports(struct service *service)
{
    ports_close(steal_pointer(service->published));
}

static bool is_restarting(const struct service *service)
{
    return strcmp(service->stop_reason, "restarting") == 0;
}

/* What was known before of what events tell of. */
struct known {
    const char *state;
    int64_t ready_at;
    bool restarting;
    uint32_t restarts;
};

static struct known known_of(const struct service *service)
{
    return (struct known){service->state, service->ready_at, is_restarting(service),
                          service->restarts};
}

/* An agent tells all again when its link comes up: that is no event. */
static void changed(struct service *service, struct known old)
{
    bool told = old.restarting && old.restarts == service->restarts;
    if (!service_active(service))
        close_ports(service);
    if (is_restarting(service)) {
        if (!told)
            tell_event(service, "service.restarting");
    } else if (service->state != old.state && strcmp(service->state, "running") != 0) {
        tell_event(service, strcmp(service->state, "exited") == 0    ? "service.exited"
                            : strcmp(service->state, "stopped") == 0 ? "service.stopped"
                                                                     : "service.failed");
    } else if (service->ready_at && service->ready_at != old.ready_at) {
        tell_event(service, "service.started");
    }
}

static int64_t moment(uint64_t ago_us)
{
    int64_t now = clock_wall_us();
    return !ago_us ? 0 : ago_us < (uint64_t)now ? now - (int64_t)ago_us : 1;
}

bool service_take(struct service *service, const Hearth__Agent__V1__ServiceState *state)
{
    if (strcmp(state->instance, service->instance) != 0 || state->revision <= service->revision)
        return false;
    const char *reason = state->reason;
    struct known old = known_of(service);
    bool readable = strspn(reason, "abcdefghijklmnopqrstuvwxyz_") == strlen(reason);
    service->revision = state->revision;
    service->starting = false;
    service->state = service_state_named(state->state);
    snprintf(service->stop_reason, sizeof service->stop_reason, "%s",
             readable ? reason : "unknown");
    if (state->restarts !=
        service->restarts) /* another run, whether its beginning was seen or not */
        service->ready_at = service->ended_at = 0;
    service->pid = state->pid;
    service->has_exit = state->has_exit;
    service->exit_code = state->exit_code & 0xff;
    service->restarts = state->restarts;
    /* Ages are measured once: what has been told stays as it was. */
    if (!state->ready_ago_us)
        service->ready_at = 0;
    if (state->ready_ago_us && !service->ready_at)
        service->ready_at = moment(state->ready_ago_us);
    if (!state->ended_ago_us)
        service->ended_at = 0;
    else if (!service->ended_at)
        service->ended_at = moment(state->ended_ago_us);
    changed(service, old);
    record(service);
    return true;
}

void service_settle(struct service *service, const char *state, const char *reason)
{
    struct known old = known_of(service);
    service->state = state;
    service->starting = false;
    service->pid = 0;
    service->ended_at = clock_wall_us();
    snprintf(service->stop_reason, sizeof service->stop_reason, "%s", reason);
    changed(service, old);
    record(service);
}

static const Hearth__Agent__V1__ServiceState *
find_state(const Hearth__Agent__V1__ServiceWatchReply *reply, const char *name)
{
    for (size_t i = 0; i < reply->n_services; i++)
        if (strcmp(reply->services[i]->name, name) == 0)
            return reply->services[i];
    return NULL;
}

static void watched(void *arg, enum link_status status, const struct hearth_failure *failure,
                    const ProtobufCMessage *message)
{
    struct services *services = arg;
    const Hearth__Agent__V1__ServiceWatchReply *reply =
        (const Hearth__Agent__V1__ServiceWatchReply *)message;
    (void)failure;
    services->watch = NULL;
    if (status != LINK_STATUS_OK)
        return; /* services_link_up asks again */
    bool whole = services->revision == 0;
    services->revision = reply->revision ? reply->revision : 1;
    list_for_each(cursor, next, &services->list)
    {
        struct service *service = container_of(cursor, struct service, link);
        const Hearth__Agent__V1__ServiceState *state = find_state(reply, service->name);
        bool known = state && strcmp(state->instance, service->instance) == 0;
        if (known)
            service_take(service, state);
        else if (whole && service_active(service) && !service->starting)
            service_settle(service, "failed", "lost");
    }
    if (clock_monotonic_us() - services->asked_us >= ASK_AGAIN_US)
        services_watch(services);
    else
        timer_set(&services->again, services->asked_us + ASK_AGAIN_US);
}

void services_watch(struct services *services)
{
    struct sandbox *sandbox = services->workspace->sandbox;
    if (services->watch || !sandbox || sandbox->link.state != AGENTLINK_UP)
        return;
    Hearth__Agent__V1__ServiceWatchRequest request = HEARTH__AGENT__V1__SERVICE_WATCH_REQUEST__INIT;
    request.revision = services->revision;
    services->asked_us = clock_monotonic_us();
    services->watch =
        agent_call(&sandbox->link, "ServiceWatch", &request.base,
                   &hearth__agent__v1__service_watch_reply__descriptor, 0, watched, services);
}

void services_link_up(struct workspace *workspace)
{
    struct services *services = workspace->services;
    if (!services)
        return;
    /* Another agent may count anew. */
    services->revision = 0;
    list_for_each(cursor, next, &services->list) container_of(cursor, struct service, link)
        ->revision = 0;
    list_for_each(cursor, next, &services->list)
        ports_link_up(container_of(cursor, struct service, link)->published);
    services_watch(services);
}

void services_guest_ended(struct workspace *workspace, const char *state, const char *reason)
{
    struct services *services = workspace->services;
    if (!services)
        return;
    if (services->watch)
        agent_call_cancel(steal_pointer(services->watch));
    timer_unset(&services->again);
    services->revision = 0; /* another agent counts anew */
    list_for_each(cursor, next, &services->list)
    {
        struct service *service = container_of(cursor, struct service, link);
        if (!state)
            close_ports(service);
        else if (service_active(service))
            service_settle(service, state, reason);
    }
}
