/* What services have printed, as their agent has kept it, or the database since it ended. */
#include "supervisord/service_internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLACK_MS 10000

struct reading {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE], name[65];
    struct service_log_place from; /* of the start that was there when it was asked */
    int64_t until_us;              /* something past it is waited for */
    struct buf output, errors;     /* what was taken */
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
    const struct service *service =
        service_find_again(reading->supervisor, reading->workspace_id, reading->name, NULL);
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

/* What runs yet may have printed a part of a character: it is told with its rest. */
static void leave_cut_character(uint64_t *next, struct buf *text,
                                const Hearth__Agent__V1__ExecOutput *output)
{
    size_t begun = output && !output->ended ? utf8_begun(text->data, text->length) : 0;
    if (*next < begun)
        return;
    text->length -= begun;
    *next -= begun;
}

/* A message's segments in one piece. What stands before a hole is of no use to who reads the newest
 * part; offsets are the guest's word and only ever told again. */
static int take(struct service_log *log, struct buf *text,
                const Hearth__Agent__V1__ExecOutput *output, uint64_t offset, uint64_t *ret_next)
{
    *ret_next = output ? output->next_offset : offset;
    for (size_t i = 0; output && i < output->n_segments; i++) {
        const Hearth__Agent__V1__ExecSegment *segment = output->segments[i];
        if (!text->length && segment->offset > offset)
            log->missed = segment->offset - offset;
        if (buf_append(text, segment->data.data, segment->data.len))
            return HEARTH_ENOMEMORY;
    }
    leave_cut_character(ret_next, text, output);
    return 0;
}

/* What was kept when the guest was stopped. */

static int take_part(struct service_log *log, struct buf *text, const struct row_log_part *part,
                     uint64_t offset, uint64_t *ret_next)
{
    uint64_t end = part->from + part->length;
    uint64_t from = offset < part->from ? part->from : offset < end ? offset : end;
    *ret_next = end;
    log->missed = from > offset ? from - offset : 0;
    return from == end ? 0
                       : buf_append(text, (const char *)part->data + (from - part->from),
                                    (size_t)(end - from));
}

static int take_row(void *arg, const struct row_service_log *row)
{
    struct reading *reading = arg;
    struct service_logs *logs = &reading->logs;
    const struct service_log_place *from = &reading->from;
    return take_part(&logs->output, &reading->output, &row->output, from->output,
                     &logs->next.output) ||
                   take_part(&logs->errors, &reading->errors, &row->errors, from->errors,
                             &logs->next.errors)
               ? too_large(reading)
               : 0;
}

static void tell_kept(void *arg)
{
    struct reading *reading = arg;
    reading->logs.next = reading->from;
    if (rows_find_service_log(reading->supervisor->history_reader, reading->workspace_id,
                              reading->from.instance, take_row, reading, &reading->failure))
        fail(reading);
    else
        tell(reading);
}

static void read_done(void *arg, enum link_status status, const struct hearth_failure *failure,
                      const ProtobufCMessage *message);

static void ask(struct reading *reading, const struct service *service,
                const struct service_log_place *from, unsigned wait_ms, agent_replied replied)
{
    Hearth__Agent__V1__ServiceLogsRequest request = HEARTH__AGENT__V1__SERVICE_LOGS_REQUEST__INIT;
    request.name = (char *)(uintptr_t)service->name;
    request.instance = (char *)(uintptr_t)service->instance;
    request.stdout_offset = from->output;
    request.stderr_offset = from->errors;
    request.max_bytes = SERVICE_LOG_BYTES;
    request.wait_ms = wait_ms;
    agent_call(&service->workspace->sandbox->link, "ServiceLogs", &request.base,
               &hearth__agent__v1__service_logs_reply__descriptor, wait_ms + SLACK_MS, replied,
               reading);
}

/* The service, where its agent can be asked about it. */
static struct service *find_again(const struct reading *reading)
{
    struct hearth_failure failure;
    struct service *service = service_find_again(reading->supervisor, reading->workspace_id,
                                                 reading->name, reading->from.instance);
    return service && workspace_ready(service->workspace, &failure) == 0 ? service : NULL;
}

/* What is told is read from where the character begins. */
static void more_came(void *arg, enum link_status status, const struct hearth_failure *failure,
                      const ProtobufCMessage *message)
{
    struct reading *reading = arg;
    const struct service *service = find_again(reading);
    (void)message;
    reading->until_us = 0;
    if (status != LINK_STATUS_OK) {
        reading->failure = *failure;
        fail(reading);
    } else if (service) {
        ask(reading, service, &reading->from, 0, read_done);
    } else {
        tell_kept(reading);
    }
}

/* True: there is nothing to tell yet but the beginning of a character, and its rest is waited for.
 */
static bool waits_for_a_rest(struct reading *reading,
                             const Hearth__Agent__V1__ServiceLogsReply *reply)
{
    struct service_log_place there = reading->logs.next;
    int64_t left_us = reading->until_us - clock_monotonic_us();
    there.output = reply->stdout ? reply->stdout->next_offset : there.output;
    there.errors = reply->stderr ? reply->stderr->next_offset : there.errors;
    bool cut = there.output > reading->logs.next.output || there.errors > reading->logs.next.errors;
    const struct service *service = find_again(reading);
    if (!cut || left_us <= 0 || !service || reading->output.length || reading->errors.length)
        return false;
    ask(reading, service, &there, (unsigned)(left_us / US_PER_MS) + 1, more_came);
    return true;
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
    else if (take(&logs->output, &reading->output, reply->stdout, reading->from.output,
                  &logs->next.output) ||
             take(&logs->errors, &reading->errors, reply->stderr, reading->from.errors,
                  &logs->next.errors))
        too_large(reading);
    if (reading->failure.error)
        fail(reading);
    else if (!waits_for_a_rest(reading, reply))
        tell(reading);
}

/* From where a service is read on. */
static void begin_at(struct reading *reading, const struct service *service,
                     const struct service_log_place *from)
{
    bool goes_on = strcmp(from->instance, service->instance) == 0;
    reading->logs.started_since = *from->instance && !goes_on;
    if (goes_on)
        reading->from = *from;
    memcpy(reading->from.instance, service->instance, sizeof reading->from.instance);
    reading->logs.next = reading->from;
}

void service_logs(struct workspace *workspace, const char *name,
                  const struct service_log_place *from, unsigned wait_ms, service_logs_done done,
                  void *arg)
{
    struct reading *reading = calloc(1, sizeof *reading);
    struct service *service = service_find(workspace, name);
    struct hearth_failure not_ready;
    if (!reading)
        abort();
    *reading = (struct reading){.supervisor = workspace->supervisor,
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
    begin_at(reading, service, from);
    if (workspace_ready(workspace, &not_ready)) {
        loop_defer(workspace->supervisor->loop, tell_kept, reading);
        return;
    }
    reading->until_us = clock_monotonic_us() + wait_ms * US_PER_MS;
    ask(reading, service, &reading->from, wait_ms, read_done);
}
