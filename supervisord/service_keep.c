/* Services are ended before their guest is, so that what they print last is there to be stored: all
 * at once, each for itself. */
#include "supervisord/service_internal.h"

#include "base/buf.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define GRACE_MS 2000        /* as an exec has when its guest ends */
#define STOP_TIMEOUT_MS 5000 /* the grace, and what the guest needs for it */
#define KEEP_TIMEOUT_MS 5000 /* then the stop goes on without */

struct keeping {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE];
    struct change *change;
    unsigned asked;
    bool any;
    void (*done)(void *arg);
    void *arg;
};

/* One service's answer. */
struct asked {
    struct keeping *keeping;
    char name[65], instance[ID_SIZE];
};

static void kept(void *arg, int error, const struct hearth_failure *failure)
{
    auto_free struct keeping *keeping = arg;
    if (error)
        log_warning("service_logs_not_kept", "workspace=%s detail=\"%s\"", keeping->workspace_id,
                    failure->detail);
    keeping->done(keeping->arg);
}

static void release(struct keeping *keeping)
{
    if (--keeping->asked)
        return;
    if (keeping->any) {
        change_commit(keeping->change, keeping->supervisor->history, kept, keeping);
    } else {
        change_free(keeping->change);
        kept(keeping, 0, NULL);
    }
}

/* The newest part in one piece; what stands before a hole is left out. The part points into text.
 * Offsets and lengths are the guest's word. */
static int newest(const Hearth__Agent__V1__ExecOutput *output, struct buf *text,
                  struct row_log_part *ret_part)
{
    uint64_t from = 0;
    text->limit = SERVICE_LOG_BYTES;
    for (size_t i = 0; output && i < output->n_segments; i++) {
        const Hearth__Agent__V1__ExecSegment *segment = output->segments[i];
        if (!text->length || segment->offset != from + text->length) {
            buf_clear(text);
            from = segment->offset < INT64_MAX / 2 ? segment->offset : 0;
        }
        if (buf_append(text, segment->data.data, segment->data.len))
            return HEARTH_ETOOLARGE;
    }
    *ret_part = (struct row_log_part){.from = from, .data = text->data, .length = text->length};
    return 0;
}

static void answered(void *arg, enum link_status status, const struct hearth_failure *failure,
                     const ProtobufCMessage *reply)
{
    auto_free struct asked *asked = arg;
    struct keeping *keeping = asked->keeping;
    const Hearth__Agent__V1__ServiceLogsReply *logs =
        (const Hearth__Agent__V1__ServiceLogsReply *)reply;
    struct row_service_log row = {
        .workspace_id = keeping->workspace_id, .name = asked->name, .instance = asked->instance};
    if (status == LINK_STATUS_OK) {
        auto_buf struct buf output = {0}, errors = {0};
        if (newest(logs->stdout, &output, &row.output) == 0 &&
            newest(logs->stderr, &errors, &row.errors) == 0) {
            change_put_service_log(keeping->change, &row);
            keeping->any = true;
        }
    } else if (status != LINK_STATUS_NOT_FOUND) { /* of an earlier life: it is kept already */
        log_warning("service_logs_not_kept", "workspace=%s service=%s detail=\"%s\"",
                    keeping->workspace_id, asked->name, failure->detail);
    }
    release(keeping);
}

/* Where it still stands for the same start. */
static struct service *service_of(const struct asked *asked)
{
    return service_find_again(asked->keeping->supervisor, asked->keeping->workspace_id, asked->name,
                              asked->instance);
}

static void ask_logs(struct asked *asked)
{
    Hearth__Agent__V1__ServiceLogsRequest request = HEARTH__AGENT__V1__SERVICE_LOGS_REQUEST__INIT;
    const struct service *service = service_of(asked);
    struct sandbox *sandbox = service ? service->workspace->sandbox : NULL;
    if (!sandbox) {
        release(asked->keeping);
        free(asked);
        return;
    }
    request.name = asked->name;
    request.instance = asked->instance;
    request.max_bytes = SERVICE_LOG_BYTES;
    agent_call(&sandbox->link, "ServiceLogs", &request.base,
               &hearth__agent__v1__service_logs_reply__descriptor, KEEP_TIMEOUT_MS, answered,
               asked);
}

static void ended(void *arg, enum link_status status, const struct hearth_failure *failure,
                  const ProtobufCMessage *reply)
{
    struct asked *asked = arg;
    struct service *service = service_of(asked);
    if (status == LINK_STATUS_OK && service)
        service_take(service, (const Hearth__Agent__V1__ServiceState *)reply);
    else if (status != LINK_STATUS_OK)
        log_warning("service_not_ended", "workspace=%s service=%s detail=\"%s\"",
                    asked->keeping->workspace_id, asked->name, failure->detail);
    ask_logs(asked);
}

static void end(struct keeping *keeping, struct agentlink *link, const struct service *service)
{
    Hearth__Agent__V1__ServiceStopRequest request = HEARTH__AGENT__V1__SERVICE_STOP_REQUEST__INIT;
    struct asked *asked = malloc(sizeof *asked);
    if (!asked)
        return;
    asked->keeping = keeping;
    memcpy(asked->name, service->name, sizeof asked->name);
    memcpy(asked->instance, service->instance, sizeof asked->instance);
    keeping->asked++;
    if (!service_active(service)) {
        ask_logs(asked);
        return;
    }
    request.name = asked->name;
    request.instance = asked->instance;
    request.grace_ms = GRACE_MS;
    request.workspace_stops = true;
    agent_call(link, "ServiceStop", &request.base, &hearth__agent__v1__service_state__descriptor,
               STOP_TIMEOUT_MS, ended, asked);
}

void services_end(struct workspace *workspace, void (*done)(void *arg), void *arg)
{
    struct keeping *keeping = malloc(sizeof *keeping);
    if (!keeping)
        abort();
    *keeping = (struct keeping){.supervisor = workspace->supervisor,
                                .change = change_new(),
                                .asked = 1,
                                .done = done,
                                .arg = arg};
    memcpy(keeping->workspace_id, workspace->workspace_id, sizeof keeping->workspace_id);
    struct sandbox *sandbox = workspace->sandbox;
    if (workspace->services && sandbox && sandbox->link.state == AGENTLINK_UP)
        list_for_each(cursor, next, &workspace->services->list)
            end(keeping, &sandbox->link, container_of(cursor, struct service, link));
    release(keeping);
}
