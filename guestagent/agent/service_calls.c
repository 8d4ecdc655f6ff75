/* What is asked about services, and who waits for an answer. */
#include "guestagent/agent/service.h"

#include "base/clock.h"
#include "guestagent/agent/secrets.h"

#include <stdlib.h>
#include <string.h>

#define READ_DEFAULT ((uint64_t)256 << 10)
#define READ_MAX ((uint64_t)1 << 20)

enum waits_for { WAITS_START, WAITS_STOP, WAITS_LOGS, WAITS_ANY };

/* A call that is not answered yet. */
struct watcher {
    struct list link; // agent::service_watchers
    struct agent *agent;
    enum waits_for what;
    struct service *service; /* NULL of WAITS_ANY */
    struct link_call *call;
    uint64_t revision, stdout_offset, stderr_offset, max_bytes;
    struct event *deadline;
};

static uint64_t age(int64_t since_us)
{
    int64_t age_us = since_us ? clock_monotonic_us() - since_us : 0;
    return since_us ? (uint64_t)(age_us > 0 ? age_us : 1) : 0;
}

static void fill(Hearth__Agent__V1__ServiceState *state, const struct service *service)
{
    static const char *const phases[] = {"running", "exited", "stopped", "failed"};
    hearth__agent__v1__service_state__init(state);
    state->name = (char *)(uintptr_t)service->name;
    state->instance = (char *)(uintptr_t)service->instance;
    state->state = (char *)(uintptr_t)phases[service->phase];
    state->ready = service->ready;
    state->reason = (char *)(uintptr_t)service->reason;
    state->pid = (uint32_t)service->pid;
    state->has_exit = service->has_exit;
    state->exit_code = service->exit_code;
    state->started_ago_us = age(service->started_us);
    state->ready_ago_us = age(service->ready_us);
    state->ended_ago_us = age(service->ended_us);
    state->restarts = service->restarts;
    state->revision = service->revision;
}

static void watcher_free(struct watcher *watcher)
{
    list_remove(&watcher->link);
    if (watcher->deadline)
        event_free(watcher->deadline);
    free(watcher);
}

static void fill_output(Hearth__Agent__V1__ExecOutput *message,
                        Hearth__Agent__V1__ExecSegment segments[RING_SEGMENTS_MAX],
                        Hearth__Agent__V1__ExecSegment *list[RING_SEGMENTS_MAX],
                        const struct service_output *output, uint64_t offset, uint64_t max)
{
    struct ring_segment found[RING_SEGMENTS_MAX];
    hearth__agent__v1__exec_output__init(message);
    message->n_segments = ring_read(&output->ring, offset, max, found, &message->next_offset);
    for (size_t i = 0; i < message->n_segments; i++) {
        hearth__agent__v1__exec_segment__init(&segments[i]);
        segments[i].offset = found[i].offset;
        segments[i].data.data = (uint8_t *)(uintptr_t)found[i].data;
        segments[i].data.len = found[i].length;
        list[i] = &segments[i];
    }
    message->segments = list;
    message->total = output->ring.total;
    message->ended = output->fd < 0;
}

static void answer_logs(const struct watcher *watcher, struct link_call *call)
{
    Hearth__Agent__V1__ExecSegment segments[2][RING_SEGMENTS_MAX], *lists[2][RING_SEGMENTS_MAX];
    Hearth__Agent__V1__ExecOutput outputs[2];
    Hearth__Agent__V1__ServiceLogsReply reply = HEARTH__AGENT__V1__SERVICE_LOGS_REPLY__INIT;
    const struct service *service = watcher->service;
    fill_output(&outputs[0], segments[0], lists[0], &service->out, watcher->stdout_offset,
                watcher->max_bytes);
    fill_output(&outputs[1], segments[1], lists[1], &service->err, watcher->stderr_offset,
                watcher->max_bytes);
    reply.stdout = &outputs[0];
    reply.stderr = &outputs[1];
    reply.running = !service_settled(service);
    link_call_reply(call, &reply.base);
}

static void answer_any(const struct watcher *watcher, struct link_call *call)
{
    struct agent *agent = watcher->agent;
    Hearth__Agent__V1__ServiceState states[SERVICES_MAX], *list[SERVICES_MAX];
    Hearth__Agent__V1__ServiceWatchReply reply = HEARTH__AGENT__V1__SERVICE_WATCH_REPLY__INIT;
    list_for_each(cursor, next, &agent->services)
    {
        const struct service *service = container_of(cursor, struct service, link);
        if (service->revision <= watcher->revision || reply.n_services == SERVICES_MAX)
            continue;
        list[reply.n_services] = &states[reply.n_services];
        fill(&states[reply.n_services++], service);
    }
    reply.services = list;
    reply.revision = agent->service_revision;
    link_call_reply(call, &reply.base);
}

static void answer(struct watcher *watcher)
{
    struct watcher asked = *watcher;
    Hearth__Agent__V1__ServiceState state;
    watcher_free(watcher);
    switch (asked.what) {
    case WAITS_LOGS:
        answer_logs(&asked, asked.call);
        break;
    case WAITS_ANY:
        answer_any(&asked, asked.call);
        break;
    case WAITS_START:
    case WAITS_STOP:
        fill(&state, asked.service);
        link_call_reply(asked.call, &state.base);
        break;
    }
}

static bool satisfied(const struct watcher *watcher)
{
    const struct service *service = watcher->service;
    switch (watcher->what) {
    case WAITS_START:
        return service->ready || service_settled(service);
    case WAITS_STOP:
        return service_silent(service);
    case WAITS_LOGS:
        return service->out.ring.total > watcher->stdout_offset ||
               service->err.ring.total > watcher->stderr_offset || service_silent(service);
    case WAITS_ANY:
        break;
    }
    return !watcher->revision || watcher->agent->service_revision > watcher->revision;
}

static void answer_satisfied(struct agent *agent, const struct service *service)
{
    list_for_each(cursor, next, &agent->service_watchers)
    {
        struct watcher *watcher = container_of(cursor, struct watcher, link);
        if ((!watcher->service || watcher->service == service) && satisfied(watcher))
            answer(watcher);
    }
}

void service_changed(struct service *service)
{
    service->revision = ++service->agent->service_revision;
    answer_satisfied(service->agent, service);
}

void service_fell_silent(struct service *service)
{
    answer_satisfied(service->agent, service);
}

void service_logged(struct service *service)
{
    list_for_each(cursor, next, &service->agent->service_watchers)
    {
        struct watcher *watcher = container_of(cursor, struct watcher, link);
        if (watcher->service == service && watcher->what == WAITS_LOGS)
            answer(watcher);
    }
}

void service_forgotten(struct service *service)
{
    list_for_each(cursor, next, &service->agent->service_watchers)
    {
        struct watcher *watcher = container_of(cursor, struct watcher, link);
        if (watcher->service != service)
            continue;
        struct link_call *call = watcher->call;
        watcher_free(watcher);
        call_refuse(call, LINK_STATUS_NOT_FOUND, "another of the name was started");
    }
}

void service_call_gone(struct agent *agent, struct link_call *call)
{
    list_for_each(cursor, next, &agent->service_watchers)
    {
        struct watcher *watcher = container_of(cursor, struct watcher, link);
        if (watcher->call == call)
            watcher_free(watcher);
    }
}

static void deadline_passed(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    answer(arg);
}

/* Answers now where wait_ms is 0, else once it is satisfied or the time is up (UINT32_MAX: never).
 */
static void wait_for(struct link_call *call, const struct watcher *asked, uint32_t wait_ms)
{
    struct watcher *watcher = malloc(sizeof *watcher);
    if (!watcher) {
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
        return;
    }
    *watcher = *asked;
    watcher->call = call;
    list_init(&watcher->link);
    list_append(&watcher->agent->service_watchers, &watcher->link);
    if (!wait_ms || satisfied(watcher)) {
        answer(watcher);
    } else if (wait_ms != UINT32_MAX) {
        struct timeval interval = {.tv_sec = wait_ms / 1000,
                                   .tv_usec = (suseconds_t)(wait_ms % 1000) * 1000};
        watcher->deadline = evtimer_new(watcher->agent->base, deadline_passed, watcher);
        if (watcher->deadline)
            event_add(watcher->deadline, &interval);
    }
}

/* instance "": whichever there is. */
static struct service *find_or_refuse(struct agent *agent, struct link_call *call, const char *name,
                                      const char *instance)
{
    struct service *service = service_find(agent, name);
    if (service && (!*instance || strcmp(instance, service->instance) == 0))
        return service;
    call_refuse(call, LINK_STATUS_NOT_FOUND, "there is no such service");
    return NULL;
}

void service_handle_start(struct agent *agent, struct link_call *call,
                          const Hearth__Agent__V1__ServiceStartRequest *request)
{
    size_t name = strlen(request->name), instance = strlen(request->instance);
    struct service *service = service_find(agent, request->name);
    struct probe probe = {.fd = -1};
    if (!name || name >= sizeof service->name || !instance ||
        instance >= sizeof service->instance || !request->n_argv || !probe_parse(&probe, request)) {
        free(probe.target);
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT,
                    "a name, an instance, argv and at most one readiness are needed");
        return;
    }
    free(probe.target);
    if (service && !service_settled(service)) {
        call_refuse(call, LINK_STATUS_ALREADY_EXISTS, "a service of this name is running");
        return;
    }
    if (!secrets_known_or_refuse(agent, call, request->secret_environment,
                                 request->n_secret_environment))
        return;
    /* A copy of its own: it is needed again at each restart. */
    size_t size = protobuf_c_message_get_packed_size(&request->base);
    uint8_t *packed = malloc(size);
    Hearth__Agent__V1__ServiceStartRequest *copy = NULL;
    if (packed && protobuf_c_message_pack(&request->base, packed) == size)
        copy = hearth__agent__v1__service_start_request__unpack(NULL, size, packed);
    free(packed);
    service = copy ? service_start(agent, copy) : NULL;
    if (!service) {
        if (copy)
            hearth__agent__v1__service_start_request__free_unpacked(copy, NULL);
        call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED,
                    "the agent runs as many services as it can");
        return;
    }
    const struct watcher asked = {.agent = agent, .what = WAITS_START, .service = service};
    wait_for(call, &asked, UINT32_MAX);
}

void service_handle_stop(struct agent *agent, struct link_call *call,
                         const Hearth__Agent__V1__ServiceStopRequest *request)
{
    struct service *service = find_or_refuse(agent, call, request->name, request->instance);
    if (!service)
        return;
    service_stop(service, request->grace_ms,
                 request->workspace_stops ? "workspace_stopped" : "stop_requested");
    const struct watcher asked = {.agent = agent, .what = WAITS_STOP, .service = service};
    wait_for(call, &asked, UINT32_MAX);
}

void service_handle_watch(struct agent *agent, struct link_call *call,
                          const Hearth__Agent__V1__ServiceWatchRequest *request)
{
    const struct watcher asked = {.agent = agent, .what = WAITS_ANY, .revision = request->revision};
    wait_for(call, &asked, UINT32_MAX);
}

void service_handle_logs(struct agent *agent, struct link_call *call,
                         const Hearth__Agent__V1__ServiceLogsRequest *request)
{
    struct service *service = find_or_refuse(agent, call, request->name, request->instance);
    uint64_t max = request->max_bytes ? request->max_bytes : READ_DEFAULT;
    const struct watcher asked = {.agent = agent,
                                  .what = WAITS_LOGS,
                                  .service = service,
                                  .stdout_offset = request->stdout_offset,
                                  .stderr_offset = request->stderr_offset,
                                  .max_bytes = max < READ_MAX ? max : READ_MAX};
    if (service)
        wait_for(call, &asked, request->wait_ms);
}
