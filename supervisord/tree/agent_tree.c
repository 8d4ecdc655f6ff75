#include "supervisord/tree/agent_tree.h"

#include "guestagent/unpack.h"
#include "supervisord/supervisor_internal.h"

#include <stdlib.h>
#include <string.h>

#define SCAN_BYTES_MAX ((size_t)256 << 20)
#define CALL_TIMEOUT_MS (60 * 60 * 1000) /* no guest has a reset or a create wait for ever */
#define READ_PATHS 512                   /* of a request message */
#define READ_HIGH ((size_t)8 << 20)      /* what waits for a worker, before the agent is held up */

int agent_message_append(struct buf *out, const void *data, size_t length)
{
    uint32_t prefix = (uint32_t)length;
    int error = buf_append(out, &prefix, sizeof prefix);
    return error ? error : buf_append(out, data, length);
}

bool agent_message_next(const struct buf *messages, size_t *at, const uint8_t **ret_data,
                        size_t *ret_length)
{
    uint32_t length;
    if (messages->length - *at < sizeof length)
        return false;
    memcpy(&length, messages->data + *at, sizeof length);
    if (messages->length - *at - sizeof length < length)
        return false;
    *ret_data = (const uint8_t *)messages->data + *at + sizeof length;
    *ret_length = length;
    *at += sizeof length + length;
    return true;
}

static int no_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
}

static void agent_fails(enum link_status status, const char *message,
                        struct hearth_failure *failure)
{
    if (status == LINK_STATUS_RESOURCE_EXHAUSTED)
        hearth_fail(failure, HEARTH_ENOSPACE, "guest_full", "%s",
                    message && *message ? message : "the guest is full");
    else
        link_status_failure(status, message, failure);
}

static int start_call(struct link_call **ret_call, struct agentlink *link, const char *method,
                      const struct link_call_events *events, void *arg,
                      struct hearth_failure *failure)
{
    if (!link->link)
        return hearth_fail(failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                           "the link to the guest is down");
    return link_call_start(ret_call, link->link, method, CALL_TIMEOUT_MS, events, arg, failure);
}

/* Scans. */

struct scan {
    struct link_call *call;
    struct buf messages;
    struct hearth_failure failure;
    agent_scanned done;
    void *arg;
};

static void scan_finish(void *arg)
{
    struct scan *scan = arg;
    if (scan->failure.error)
        buf_free(&scan->messages);
    scan->done(scan->arg, (int)scan->failure.error, &scan->failure, &scan->messages);
    buf_free(&scan->messages);
    free(scan);
}

static void scan_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct scan *scan = arg;
    int error = agent_message_append(&scan->messages, data, length);
    if (!error)
        return;
    hearth_fail(&scan->failure, (enum hearth_error)error,
                error == HEARTH_ETOOLARGE ? "tree_too_large" : NULL,
                "there are too many files in the workspace");
    link_call_cancel(call);
}

static void scan_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    struct scan *scan = arg;
    (void)call;
    if (status != LINK_STATUS_OK && !scan->failure.error)
        agent_fails(status, message, &scan->failure);
    scan_finish(scan);
}

static const struct link_call_events scan_events = {.on_message = scan_message, .on_end = scan_end};

void agent_scan(struct agentlink *link, const char *base_id, agent_scanned done, void *arg)
{
    struct scan *scan = calloc(1, sizeof *scan);
    if (!scan)
        abort();
    *scan = (struct scan){.messages.limit = SCAN_BYTES_MAX, .done = done, .arg = arg};
    Hearth__Agent__V1__TreeScanRequest request = HEARTH__AGENT__V1__TREE_SCAN_REQUEST__INIT;
    request.base_id = (char *)(uintptr_t)base_id;
    if (start_call(&scan->call, link, AGENT_SERVICE "TreeScan", &scan_events, scan,
                   &scan->failure)) {
        loop_defer(link->sandbox->supervisor->loop, scan_finish, scan);
        return;
    }
    if (link_call_send(scan->call, &request.base)) {
        no_memory(&scan->failure);
        link_call_cancel(scan->call);
        return;
    }
    link_call_finish(scan->call);
}

/* Reading. */

struct reading {
    struct stores *stores;
    struct link_call *call; /* NULL once it has ended */
    size_t count, index;
    struct buf incoming, working; /* whole messages: those to come, those on the worker */
    bool busy, paused;
    struct hearth_failure failure, worker_failure;
    const struct agent_read_events *events;
    void *arg;
};

static void read_go_on(struct reading *reading);

static int take_items(struct reading *reading, const Hearth__Agent__V1__TreeReadReply *reply)
{
    for (size_t i = 0; i < reply->n_items; i++) {
        const Hearth__Agent__V1__TreeReadItem *item = reply->items[i];
        bool has_entry =
            item->status == HEARTH__AGENT__V1__TREE_READ_STATUS__TREE_READ_STATUS_OK ||
            item->status == HEARTH__AGENT__V1__TREE_READ_STATUS__TREE_READ_STATUS_CHANGED;
        if (reading->index >= reading->count || (item->end && has_entry && !item->entry))
            return hearth_fail(&reading->worker_failure, HEARTH_EUNAVAILABLE, "agent_broken",
                               "the agent's answer makes no sense");
        int error =
            reading->events->on_item(reading->arg, reading->index, item, &reading->worker_failure);
        if (error)
            return error;
        reading->index += item->end;
    }
    return 0;
}

static void run_items(void *arg)
{
    struct reading *reading = arg;
    const uint8_t *data;
    size_t at = 0, length;
    int error = 0;
    while (!error && agent_message_next(&reading->working, &at, &data, &length)) {
        Hearth__Agent__V1__TreeReadReply *reply =
            unpack_bounded(&hearth__agent__v1__tree_read_reply__descriptor, length, data);
        error = reply ? take_items(reading, reply)
                      : hearth_fail(&reading->worker_failure, HEARTH_EUNAVAILABLE, "agent_broken",
                                    "the agent's answer cannot be read");
        if (reply)
            hearth__agent__v1__tree_read_reply__free_unpacked(reply, NULL);
    }
}

static void items_done(void *arg)
{
    struct reading *reading = arg;
    reading->busy = false;
    buf_clear(&reading->working);
    if (reading->worker_failure.error && !reading->failure.error) {
        reading->failure = reading->worker_failure;
        if (reading->call) {
            link_call_cancel(reading->call); /* its end goes on */
            return;
        }
    }
    read_go_on(reading);
}

static void read_finish(struct reading *reading)
{
    if (!reading->failure.error && reading->index != reading->count)
        hearth_fail(&reading->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                    "the agent did not read all that it was asked for");
    reading->events->done(reading->arg, (int)reading->failure.error, &reading->failure);
    buf_free(&reading->incoming);
    buf_free(&reading->working);
    free(reading);
}

static void read_go_on(struct reading *reading)
{
    if (reading->busy)
        return;
    if (reading->incoming.length && !reading->failure.error) {
        struct buf empty = reading->working;
        reading->working = reading->incoming;
        reading->incoming = empty;
        reading->busy = true;
        if (reading->paused && reading->call) {
            reading->paused = false;
            link_call_pause(reading->call, false);
        }
        stores_submit(reading->stores, run_items, items_done, reading);
    } else if (!reading->call) {
        read_finish(reading);
    }
}

static void read_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct reading *reading = arg;
    if (agent_message_append(&reading->incoming, data, length)) {
        no_memory(&reading->failure);
        link_call_cancel(call);
        return;
    }
    if (reading->incoming.length > READ_HIGH && reading->busy && !reading->paused) {
        reading->paused = true;
        link_call_pause(call, true);
    }
    read_go_on(reading);
}

static void read_end(struct link_call *call, void *arg, enum link_status status,
                     const char *message)
{
    struct reading *reading = arg;
    (void)call;
    reading->call = NULL;
    if (status != LINK_STATUS_OK && !reading->failure.error)
        agent_fails(status, message, &reading->failure);
    read_go_on(reading);
}

static const struct link_call_events read_call_events = {.on_message = read_message,
                                                         .on_end = read_end};

static void read_failed(void *arg)
{
    read_go_on(arg);
}

static int send_paths(struct reading *reading, const char *const *paths)
{
    ProtobufCBinaryData list[READ_PATHS];
    for (size_t at = 0; at < reading->count;) {
        Hearth__Agent__V1__TreeReadRequest request = HEARTH__AGENT__V1__TREE_READ_REQUEST__INIT;
        request.paths = list;
        for (; at < reading->count && request.n_paths < READ_PATHS; at++)
            list[request.n_paths++] = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)paths[at],
                                                            .len = strlen(paths[at])};
        if (link_call_send(reading->call, &request.base))
            return no_memory(&reading->failure);
    }
    link_call_finish(reading->call);
    return 0;
}

void agent_read(struct agentlink *link, struct stores *stores, const char *const *paths,
                size_t count, const struct agent_read_events *events, void *arg)
{
    struct reading *reading = calloc(1, sizeof *reading);
    if (!reading)
        abort();
    *reading = (struct reading){.stores = stores, .count = count, .events = events, .arg = arg};
    if (!count || start_call(&reading->call, link, AGENT_SERVICE "TreeRead", &read_call_events,
                             reading, &reading->failure)) {
        reading->call = NULL;
        loop_defer(link->sandbox->supervisor->loop, read_failed, reading);
        return;
    }
    if (send_paths(reading, paths))
        link_call_cancel(reading->call);
}

/* Putting. */

struct putting {
    struct stores *stores;
    struct link_call *call; /* NULL once it has ended */
    struct buf out;
    bool busy, filled, replied; /* filled: there is no more */
    struct hearth_failure failure, worker_failure;
    const struct agent_put_events *events;
    void *arg;
};

static void put_finish(struct putting *putting)
{
    if (!putting->failure.error && !putting->replied)
        hearth_fail(&putting->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                    "the agent gave no answer");
    putting->events->done(putting->arg, (int)putting->failure.error, &putting->failure);
    buf_free(&putting->out);
    free(putting);
}

static void run_fill(void *arg)
{
    struct putting *putting = arg;
    putting->events->fill(putting->arg, &putting->out, &putting->filled, &putting->worker_failure);
}

static void fill_done(void *arg);

static void put_go_on(struct putting *putting)
{
    if (putting->busy)
        return;
    if (!putting->call) {
        put_finish(putting);
    } else if (!putting->filled && link_call_queued(putting->call) <= LINK_SEND_LOW_WATER) {
        putting->busy = true;
        stores_submit(putting->stores, run_fill, fill_done, putting);
    }
}

static void fill_done(void *arg)
{
    struct putting *putting = arg;
    const uint8_t *data;
    size_t at = 0, length;
    putting->busy = false;
    if (putting->worker_failure.error && !putting->failure.error)
        putting->failure = putting->worker_failure;
    while (putting->call && !putting->failure.error &&
           agent_message_next(&putting->out, &at, &data, &length))
        if (link_call_send_bytes(putting->call, data, length))
            no_memory(&putting->failure);
    buf_clear(&putting->out);
    if (putting->failure.error && putting->call) {
        link_call_cancel(putting->call); /* its end goes on */
        return;
    }
    if (putting->filled && putting->call)
        link_call_finish(putting->call);
    put_go_on(putting);
}

static void put_writable(struct link_call *call, void *arg)
{
    (void)call;
    put_go_on(arg);
}

static void put_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct putting *putting = arg;
    (void)call;
    (void)data;
    (void)length;
    putting->replied = true;
}

static void put_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    struct putting *putting = arg;
    (void)call;
    putting->call = NULL;
    if (status != LINK_STATUS_OK && !putting->failure.error)
        agent_fails(status, message, &putting->failure);
    put_go_on(putting);
}

static const struct link_call_events put_call_events = {
    .on_message = put_message, .on_writable = put_writable, .on_end = put_end};

static void put_failed(void *arg)
{
    put_go_on(arg);
}

void agent_put(struct agentlink *link, struct stores *stores, const struct agent_put_events *events,
               void *arg)
{
    struct putting *putting = calloc(1, sizeof *putting);
    if (!putting)
        abort();
    *putting = (struct putting){.stores = stores, .events = events, .arg = arg};
    Hearth__Agent__V1__TreeItem first = HEARTH__AGENT__V1__TREE_ITEM__INIT;
    first.exact = true;
    if (start_call(&putting->call, link, AGENT_SERVICE "TreeApply", &put_call_events, putting,
                   &putting->failure)) {
        putting->call = NULL;
        loop_defer(link->sandbox->supervisor->loop, put_failed, putting);
        return;
    }
    if (link_call_send(putting->call, &first.base)) {
        no_memory(&putting->failure);
        link_call_cancel(putting->call);
        return;
    }
    put_go_on(putting);
}
