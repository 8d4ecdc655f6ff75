/* What services have printed, as their agent has kept it, or the database since it ended. */
#include "supervisord/service_internal.h"

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLACK_MS 10000

struct reading {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE], name[65];
    uint64_t output_offset, errors_offset;
    struct hearth_failure failure;
    service_logs_done done;
    void *arg;
};

static void fail(struct reading *reading, const struct hearth_failure *failure)
{
    reading->done(reading->arg, (int)failure->error, failure, NULL);
    free(reading);
}

static void fail_now(void *arg)
{
    struct reading *reading = arg;
    struct hearth_failure failure = reading->failure;
    fail(reading, &failure);
}

/* A message's segments in one piece. What stands before a hole is of no use to who reads the newest
 * part; offsets are the guest's word and only ever told again. */
static int take(struct service_log *log, struct buf *text,
                const Hearth__Agent__V1__ExecOutput *output, uint64_t offset)
{
    log->next = output ? output->next_offset : offset;
    for (size_t i = 0; output && i < output->n_segments; i++) {
        const Hearth__Agent__V1__ExecSegment *segment = output->segments[i];
        if (!text->length && segment->offset > offset)
            log->missed = segment->offset - offset;
        if (text->length + segment->data.len > 4 * SERVICE_LOG_BYTES ||
            buf_append(text, segment->data.data, segment->data.len))
            return HEARTH_ENOMEMORY;
    }
    log->data = text->data ? text->data : "";
    log->length = text->length;
    return 0;
}

static void tell(struct reading *reading, const Hearth__Agent__V1__ServiceLogsReply *reply)
{
    struct workspace *workspace = supervisor_workspace(reading->supervisor, reading->workspace_id);
    const struct service *service = workspace ? service_find(workspace, reading->name) : NULL;
    auto_buf struct buf output = {0}, errors = {0};
    struct service_logs logs = {0};
    if (!service) {
        service_not_found(&reading->failure);
        fail_now(reading);
        return;
    }
    service_describe(service, &logs.status);
    if (take(&logs.output, &output, reply ? reply->stdout : NULL, reading->output_offset) ||
        take(&logs.errors, &errors, reply ? reply->stderr : NULL, reading->errors_offset)) {
        hearth_fail(&reading->failure, HEARTH_ENOMEMORY, NULL, "the logs are too large");
        fail_now(reading);
        return;
    }
    reading->done(reading->arg, 0, NULL, &logs);
    free(reading);
}

/* What was kept when the guest was stopped. */

/* Past the offset that is asked for. */
static void part_of(const struct row_log_part *part, uint64_t offset,
                    Hearth__Agent__V1__ExecOutput *ret_output,
                    Hearth__Agent__V1__ExecSegment *segment)
{
    uint64_t end = part->from + part->length;
    uint64_t from = offset < part->from ? part->from : offset < end ? offset : end;
    hearth__agent__v1__exec_segment__init(segment);
    hearth__agent__v1__exec_output__init(ret_output);
    segment->offset = from;
    segment->data.len = (size_t)(end - from);
    if (segment->data.len)
        segment->data.data = (uint8_t *)(uintptr_t)part->data + (from - part->from);
    ret_output->next_offset = end;
    ret_output->n_segments = 1;
}

struct kept {
    struct reading *reading; /* NULL once it is told */
};

static int tell_row(void *arg, const struct row_service_log *row)
{
    struct kept *kept = arg;
    struct reading *reading = steal_pointer(kept->reading);
    Hearth__Agent__V1__ServiceLogsReply reply = HEARTH__AGENT__V1__SERVICE_LOGS_REPLY__INIT;
    Hearth__Agent__V1__ExecOutput output, errors;
    Hearth__Agent__V1__ExecSegment output_segment, errors_segment;
    Hearth__Agent__V1__ExecSegment *output_list[] = {&output_segment};
    Hearth__Agent__V1__ExecSegment *errors_list[] = {&errors_segment};
    if (!reading)
        return 0;
    part_of(&row->output, reading->output_offset, &output, &output_segment);
    part_of(&row->errors, reading->errors_offset, &errors, &errors_segment);
    output.segments = output_list;
    errors.segments = errors_list;
    reply.stdout = &output;
    reply.stderr = &errors;
    tell(reading, &reply);
    return 0;
}

static void tell_kept(void *arg)
{
    struct reading *reading = arg;
    struct kept kept = {reading};
    struct hearth_failure failure;
    struct workspace *workspace = supervisor_workspace(reading->supervisor, reading->workspace_id);
    const struct service *service = workspace ? service_find(workspace, reading->name) : NULL;
    if (service &&
        rows_find_service_log(reading->supervisor->history_reader, reading->workspace_id,
                              service->instance, tell_row, &kept, &failure) &&
        kept.reading) {
        fail(steal_pointer(kept.reading), &failure);
        return;
    }
    if (kept.reading)
        tell(kept.reading, NULL);
}

static void read_done(void *arg, enum link_status status, const struct hearth_failure *failure,
                      const ProtobufCMessage *reply)
{
    if (status == LINK_STATUS_OK)
        tell(arg, (const Hearth__Agent__V1__ServiceLogsReply *)reply);
    else if (status == LINK_STATUS_NOT_FOUND)
        tell_kept(arg); /* of an earlier life of the guest */
    else
        fail(arg, failure);
}

void service_logs(struct workspace *workspace, const char *name, uint64_t output_offset,
                  uint64_t errors_offset, unsigned wait_ms, service_logs_done done, void *arg)
{
    struct reading *reading = calloc(1, sizeof *reading);
    struct service *service = service_find(workspace, name);
    struct hearth_failure not_ready;
    if (!reading)
        abort();
    *reading = (struct reading){.supervisor = workspace->supervisor,
                                .output_offset = output_offset,
                                .errors_offset = errors_offset,
                                .done = done,
                                .arg = arg};
    memcpy(reading->workspace_id, workspace->workspace_id, sizeof reading->workspace_id);
    snprintf(reading->name, sizeof reading->name, "%s", name);
    if (!service) {
        service_not_found(&reading->failure);
        loop_defer(workspace->supervisor->loop, fail_now, reading);
        return;
    }
    if (workspace_ready(workspace, &not_ready)) {
        loop_defer(workspace->supervisor->loop, tell_kept, reading);
        return;
    }
    Hearth__Agent__V1__ServiceLogsRequest request = HEARTH__AGENT__V1__SERVICE_LOGS_REQUEST__INIT;
    request.name = service->name;
    request.instance = service->instance;
    request.stdout_offset = output_offset;
    request.stderr_offset = errors_offset;
    request.max_bytes = SERVICE_LOG_BYTES;
    request.wait_ms = wait_ms;
    agent_call(&workspace->sandbox->link, "ServiceLogs", &request.base,
               &hearth__agent__v1__service_logs_reply__descriptor, wait_ms + SLACK_MS, read_done,
               reading);
}
