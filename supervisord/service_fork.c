/* Services that a copy of a running guest has of its origin. */
#include "base/log.h"
#include "base/text.h"
#include "supervisord/port.h"
#include "supervisord/service_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct noted {
    struct service service; /* of no workspace and in no list; its texts are owned */
    struct port_pair ports[SERVICE_PORTS_MAX];
    size_t port_count;
};

struct services_noted {
    size_t count;
    struct noted list[SERVICES_MAX];
};

static void note(struct noted *noted, const struct service *service)
{
    *noted = (struct noted){.service = *service};
    noted->service.command = text_copy(service->command);
    noted->service.cwd = text_copy(service->cwd);
    noted->service.target = text_copy(service->target);
    const struct port_pair *ports = ports_list(service->published, &noted->port_count);
    for (size_t i = 0; i < noted->port_count; i++) /* the host's port is the origin's */
        noted->ports[i] = (struct port_pair){.guest_port = ports[i].guest_port};
}

struct services_noted *services_note(const struct workspace *workspace)
{
    struct services_noted *noted = calloc(1, sizeof *noted);
    if (!noted)
        abort();
    if (workspace->services)
        list_for_each(cursor, next, &workspace->services->list)
        {
            const struct service *service = container_of(cursor, struct service, link);
            if (service_active(service) && noted->count < SERVICES_MAX)
                note(&noted->list[noted->count++], service);
        }
    return noted;
}

void services_noted_free(struct services_noted *noted)
{
    for (size_t i = 0; noted && i < noted->count; i++) {
        free(noted->list[i].service.command);
        free(noted->list[i].service.cwd);
        free(noted->list[i].service.target);
    }
    free(noted);
}

static void take(struct workspace *workspace, const struct noted *noted, struct change *change)
{
    const struct service *origin = &noted->service;
    struct hearth_failure failure;
    if (!origin->command || !origin->cwd || !origin->target)
        return;
    struct service *service = service_new(services_of(workspace), origin->name, origin->command,
                                          origin->cwd, origin->target);
    if (!service)
        return;
    memcpy(service->instance, origin->instance, sizeof service->instance);
    memcpy(service->stop_reason, origin->stop_reason, sizeof service->stop_reason);
    service->readiness = origin->readiness;
    service->restart = origin->restart;
    service->execution_mode = origin->execution_mode;
    service->state = origin->state;
    service->started_at = origin->started_at;
    service->ready_at = origin->ready_at;
    service->pid = origin->pid;
    service->restarts = origin->restarts;
    if (noted->port_count && ports_publish(&service->published, workspace, noted->ports,
                                           noted->port_count, false, &failure))
        log_warning("ports_not_published", "workspace=%s service=%s detail=\"%s\"",
                    workspace->workspace_id, service->name, failure.detail);
    service_put(service, change);
}

void services_take_noted(struct workspace *workspace, const struct services_noted *noted)
{
    struct change *change = change_new();
    for (size_t i = 0; i < noted->count; i++)
        take(workspace, &noted->list[i], change);
    change_commit(change, workspace->supervisor->writer, NULL, NULL);
    services_link_up(workspace); /* what its agent says of them is what is true */
}
