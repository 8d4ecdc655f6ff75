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
    struct buf output, errors; /* what was taken */
    struct service_logs logs;
    struct hearth_failure failure;
    service_logs_done done;
    void *arg;
};

static void reading_free(struct reading *reading)
{
    buf_free(&reading->output);
    buf_free(&reading->errors);
    free(reading);
}

static void fail(void *arg)
{
    struct reading *reading = arg;
    reading->done(reading->arg, (int)reading->failure.error, &reading->failure, NULL);
    reading_free(reading);
}

static void put_text(struct service_log *log, const struct buf *text)
{
    log->data = text->data ? text->data : "";
    log->length = text->length;
}

/* Tells what was taken. */
static void tell(struct reading *reading)
{
    struct workspace *workspace = supervisor_workspace(reading->supervisor, reading->workspace_id);
    const struct service *service = workspace ? service_find(workspace, reading->name) : NULL;
    if (!service) {
        service_not_found(&reading->failure);
        fail(reading);
        return;
    }
    service_describe(service, &reading->logs.status);
    put_text(&reading->logs.output, &reading->output);
    put_text(&reading->logs.errors, &reading->errors);
    reading->done(reading->arg, 0, NULL, &reading->logs);
    reading_free(reading);
}

static int too_large(struct reading *reading)
{
    return hearth_fail(&reading->failure, HEARTH_ENOMEMORY, NULL, "the logs are too large");
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
        if (buf_append(text, segment->data.data, segment->data.len))
            return HEARTH_ENOMEMORY;
    }
    return 0;
}

/* What was kept when the guest was stopped. */

static int take_part(struct service_log *log, struct buf *text, const struct row_log_part *part,
                     uint64_t offset)
{
    uint64_t end = part->from + part->length;
    uint64_t from = offset < part->from ? part->from : offset < end ? offset : end;
    log->next = end;
    log->missed = from > offset ? from - offset : 0;
    return from == end ? 0
                       : buf_append(text, (const char *)part->data + (from - part->from),
                                    (size_t)(end - from));
}

static int take_row(void *arg, const struct row_service_log *row)
{
    struct reading *reading = arg;
    struct service_logs *logs = &reading->logs;
    return take_part(&logs->output, &reading->output, &row->output, reading->output_offset) ||
                   take_part(&logs->errors, &reading->errors, &row->errors, reading->errors_offset)
               ? too_large(reading)
               : 0;
}

static void tell_kept(void *arg)
{
    struct reading *reading = arg;
    struct workspace *workspace = supervisor_workspace(reading->supervisor, reading->workspace_id);
    const struct service *service = workspace ? service_find(workspace, reading->name) : NULL;
    reading->logs.output.next = reading->output_offset;
    reading->logs.errors.next = reading->errors_offset;
    if (service && rows_find_service_log(reading->supervisor->history_reader, reading->workspace_id,
                                         service->instance, take_row, reading, &reading->failure))
        fail(reading);
    else
        tell(reading);
}

static void read_done(void *arg, enum link_status status, const struct hearth_failure *failure,
                      const ProtobufCMessage *message)
{
    struct reading *reading = arg;
    struct service_logs *logs = &reading->logs;
    const Hearth__Agent__V1__ServiceLogsReply *reply =
        (const Hearth__Agent__V1__ServiceLogsReply *)message;
    if (status == LINK_STATUS_NOT_FOUND) { /* of an earlier life of the guest */
        tell_kept(reading);
        return;
    }
    if (status != LINK_STATUS_OK)
        reading->failure = *failure;
    else if (take(&logs->output, &reading->output, reply->stdout, reading->output_offset) ||
             take(&logs->errors, &reading->errors, reply->stderr, reading->errors_offset))
        too_large(reading);
    if (reading->failure.error)
        fail(reading);
    else
        tell(reading);
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
                                .output = {.limit = 4 * SERVICE_LOG_BYTES},
                                .errors = {.limit = 4 * SERVICE_LOG_BYTES},
                                .done = done,
                                .arg = arg};
    memcpy(reading->workspace_id, workspace->workspace_id, sizeof reading->workspace_id);
    snprintf(reading->name, sizeof reading->name, "%s", name);
    if (!service) {
        service_not_found(&reading->failure);
        loop_defer(workspace->supervisor->loop, fail, reading);
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
