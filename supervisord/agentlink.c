#include "supervisord/agentlink.h"

#include "agent.pb-c.h"
#include "base/log.h"
#include "guestagent/unpack.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 5000
#define HELLO_TIMEOUT_MS 10000
#define RETRY_FIRST_US (20 * US_PER_MS)
#define RETRY_MAX_US (2 * US_PER_S)
#define KEEPALIVE_INTERVAL_MS 30000
#define KEEPALIVE_TIMEOUT_MS 30000

struct agentlink_waiter {
    struct list link; // agentlink::waiters
    struct agentlink *owner;
    struct timer deadline;
    agentlink_done done;
    void *arg;
};

struct agent_call {
    struct link_call *call; /* NULL once it has ended */
    struct agentlink *owner;
    struct loop *loop;
    const ProtobufCMessageDescriptor *reply_type;
    agent_replied replied; /* NULL: nobody is to be told, any more or at all */
    void *arg;
    enum link_status status;
    struct hearth_failure failure;
};

/* What a connect that is under way holds: the agentlink may be gone, or elsewhere, when it ends. */
struct attempt {
    struct supervisor *supervisor;
    char guest_id[24];
    uint64_t number;
};

static void try_connect(void *arg);

static struct agentlink *attempt_owner(const struct attempt *attempt)
{
    list_for_each(cursor, next, &attempt->supervisor->sandboxes)
    {
        struct sandbox *sandbox = container_of(cursor, struct sandbox, all_link);
        if (strcmp(sandbox->guest.guest_id, attempt->guest_id) == 0)
            return sandbox->link.attempt == attempt->number ? &sandbox->link : NULL;
    }
    return NULL;
}

static void finish_waiter(struct agentlink_waiter *waiter, int error,
                          const struct hearth_failure *failure)
{
    agentlink_done done = waiter->done;
    void *arg = waiter->arg;
    list_remove(&waiter->link);
    timer_free(&waiter->deadline);
    free(waiter);
    done(arg, error, failure);
}

static void finish_waiters(struct agentlink *link, int error, const struct hearth_failure *failure)
{
    struct list taken;
    list_init(&taken);
    while (!list_empty(&link->waiters)) {
        struct list *first = link->waiters.next;
        list_remove(first);
        list_append(&taken, first);
    }
    while (!list_empty(&taken))
        finish_waiter(container_of(taken.next, struct agentlink_waiter, link), error, failure);
}

static int unreachable(struct agentlink *link, struct hearth_failure *failure)
{
    int error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "agent_unreachable",
                            "the guest's agent does not answer%s%s",
                            *link->last_failure.detail ? ": " : "", link->last_failure.detail);
    hearth_failure_hint(failure,
                        "Try again in a moment; if it stays so, stop and start the workspace.");
    return error;
}

static void waiter_expired(void *arg)
{
    struct agentlink_waiter *waiter = arg;
    struct hearth_failure failure;
    int error = unreachable(waiter->owner, &failure);
    finish_waiter(waiter, error, &failure);
}

void agentlink_init(struct agentlink *link, struct sandbox *sandbox)
{
    *link = (struct agentlink){.sandbox = sandbox};
    list_init(&link->waiters);
    timer_init(&link->retry, sandbox->supervisor->loop, try_connect, link);
}

static void hang_up(struct agentlink *link)
{
    link->attempt++;
    timer_unset(&link->retry);
    struct link *stream = steal_pointer(link->link);
    if (stream)
        link_free(stream);
}

static void broken(struct agentlink *link, const struct hearth_failure *why)
{
    if (link->state == AGENTLINK_UP)
        link->sandbox->supervisor->totals.links_lost_total++;
    link->last_failure = *why;
    hang_up(link);
    link->state = AGENTLINK_WAITING;
    int64_t wait = RETRY_FIRST_US << (link->failures < 8 ? link->failures : 8);
    link->failures++;
    timer_set(&link->retry, clock_monotonic_us() + (wait < RETRY_MAX_US ? wait : RETRY_MAX_US));
}

static void on_down(struct link *stream, void *arg, const struct hearth_failure *why)
{
    (void)stream;
    struct agentlink *link = arg;
    log_debug("link_down", "guest=%s why=\"%s\"", link->sandbox->guest.guest_id, why->detail);
    broken(link, why);
}

static const struct link_events stream_events = {.on_down = on_down};

void agentlink_pause(struct agentlink *link, bool paused)
{
    if (link->state == AGENTLINK_UP)
        link_set_keepalive(link->link, paused ? 0 : KEEPALIVE_INTERVAL_MS, KEEPALIVE_TIMEOUT_MS);
}

static void greeted(void *arg, enum link_status status, const struct hearth_failure *failure,
                    const ProtobufCMessage *reply)
{
    struct agentlink *link = arg;
    if (!link->link) /* it was hung up: who did that goes on */
        return;
    if (status != LINK_STATUS_OK) {
        broken(link, failure);
        return;
    }
    const Hearth__Agent__V1__HelloReply *hello = (const Hearth__Agent__V1__HelloReply *)reply;
    snprintf(link->boot_id, sizeof link->boot_id, "%s", hello->boot_id);
    link->state = AGENTLINK_UP;
    link->failures = 0;
    agentlink_pause(link, false);
    if (link->sandbox->workspace) {
        exec_link_up(link->sandbox->workspace);
        services_link_up(link->sandbox->workspace);
    }
    finish_waiters(link, 0, NULL);
}

static void connected(void *arg, int fd, const struct hearth_failure *failure)
{
    auto_free struct attempt *attempt = arg;
    struct agentlink *link = attempt_owner(attempt);
    if (!link) {
        if (fd >= 0)
            close(fd);
        return;
    }
    struct hearth_failure why = failure ? *failure : HEARTH_FAILURE_NONE;
    struct supervisor *supervisor = link->sandbox->supervisor;
    if (fd < 0 ||
        link_new_client(&link->link, loop_base(supervisor->loop), fd, &stream_events, link, &why)) {
        broken(link, &why);
        return;
    }
    link->state = AGENTLINK_GREETING;
    Hearth__Agent__V1__HelloRequest hello = HEARTH__AGENT__V1__HELLO_REQUEST__INIT;
    char version[] = HEARTH_VERSION;
    hello.protocol = AGENT_PROTOCOL;
    hello.daemon_version = version;
    hello.generation = supervisor->generation;
    agent_call(link, "Hello", &hello.base, &hearth__agent__v1__hello_reply__descriptor,
               HELLO_TIMEOUT_MS, greeted, link);
}

static void try_connect(void *arg)
{
    struct agentlink *link = arg;
    struct guest *guest = &link->sandbox->guest;
    struct attempt *attempt = malloc(sizeof *attempt);
    if (!attempt) {
        struct hearth_failure failure;
        hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        broken(link, &failure);
        return;
    }
    link->state = AGENTLINK_CONNECTING;
    *attempt = (struct attempt){.supervisor = link->sandbox->supervisor, .number = ++link->attempt};
    memcpy(attempt->guest_id, guest->guest_id, sizeof attempt->guest_id);
    guest->driver->operations->connect(guest->driver, guest, CONNECT_TIMEOUT_MS, connected,
                                       attempt);
}

void agentlink_open(struct agentlink *link)
{
    if (link->state != AGENTLINK_CLOSED)
        return;
    link->failures = 0;
    link->cut_off = HEARTH_FAILURE_NONE;
    try_connect(link);
}

void agentlink_cuts_off(struct agentlink *link, enum hearth_error error, const char *code,
                        const char *detail)
{
    hearth_fail(&link->cut_off, error, code, "%s", detail);
}

void agentlink_close(struct agentlink *link)
{
    hang_up(link);
    port_dials_cut(link->sandbox);
    link->state = AGENTLINK_CLOSED;
    timer_unset(&link->retry); /* a Hello that was under way has just failed, and would try again */
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EUNAVAILABLE, "agent_unreachable", "the guest is not running");
    finish_waiters(link, failure.error, &failure);
}

void agentlink_free(struct agentlink *link)
{
    agentlink_close(link);
    timer_free(&link->retry);
}

static void already_up(void *arg)
{
    finish_waiter(arg, 0, NULL);
}

void agentlink_when_up(struct agentlink *link, int64_t deadline_us, agentlink_done done, void *arg)
{
    struct agentlink_waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter)
        abort();
    *waiter = (struct agentlink_waiter){.owner = link, .done = done, .arg = arg};
    struct loop *loop = link->sandbox->supervisor->loop;
    timer_init(&waiter->deadline, loop, waiter_expired, waiter);
    if (link->state == AGENTLINK_UP) {
        list_init(&waiter->link);
        loop_defer(loop, already_up, waiter);
        return;
    }
    list_append(&link->waiters, &waiter->link);
    timer_set(&waiter->deadline, deadline_us);
}

const char *agentlink_state_name(const struct agentlink *link)
{
    return link->state == AGENTLINK_UP       ? "up"
           : link->state == AGENTLINK_CLOSED ? "down"
                                             : "connecting";
}

/* Calls. */

static void call_message(struct link_call *stream, void *arg, const uint8_t *data, size_t length)
{
    (void)stream;
    struct agent_call *call = arg;
    if (!call->replied)
        return;
    ProtobufCMessage *reply = unpack_bounded(call->reply_type, length, data);
    if (!reply) {
        call->status = LINK_STATUS_INTERNAL;
        hearth_fail(&call->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                    "the agent's answer cannot be read");
        return;
    }
    /* The answer is told at once, not at the stream's end: that is one frame later. */
    agent_replied replied = call->replied;
    call->replied = NULL;
    replied(call->arg, LINK_STATUS_OK, NULL, reply);
    protobuf_c_message_free_unpacked(reply, NULL);
}

/* It was closed by this side, for the guest ends. */
static void was_cut_off(struct agentlink *link, struct hearth_failure *failure)
{
    if (link->cut_off.error)
        *failure = link->cut_off;
    else
        unreachable(link, failure);
}

static void call_ended(struct link_call *stream, void *arg, enum link_status status,
                       const char *message)
{
    (void)stream;
    struct agent_call *call = arg;
    call->call = NULL;
    if (call->replied) {
        if (call->status == LINK_STATUS_OK && status == LINK_STATUS_OK)
            hearth_fail(&call->failure, HEARTH_EUNAVAILABLE, "agent_broken",
                        "the agent gave no answer");
        else if (call->status == LINK_STATUS_OK && status == LINK_STATUS_CANCELLED)
            was_cut_off(call->owner, &call->failure); /* who cancels one hears nothing of it */
        else if (call->status == LINK_STATUS_OK)
            link_status_failure(status, message, &call->failure);
        if (call->status == LINK_STATUS_OK)
            call->status = status == LINK_STATUS_OK ? LINK_STATUS_INTERNAL : status;
        call->replied(call->arg, call->status, &call->failure, NULL);
    }
    free(call);
}

static const struct link_call_events call_events = {.on_message = call_message,
                                                    .on_end = call_ended};

static void call_failed_early(void *arg)
{
    struct agent_call *call = arg;
    if (call->replied)
        call->replied(call->arg, call->status, &call->failure, NULL);
    free(call);
}

struct agent_call *agent_call(struct agentlink *link, const char *method,
                              const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *reply_type, unsigned timeout_ms,
                              agent_replied replied, void *arg)
{
    struct agent_call *call = calloc(1, sizeof *call);
    if (!call)
        abort();
    *call = (struct agent_call){.owner = link,
                                .loop = link->sandbox->supervisor->loop,
                                .reply_type = reply_type,
                                .replied = replied,
                                .arg = arg};
    char path[96];
    snprintf(path, sizeof path, AGENT_SERVICE "%s", method);
    int error = link->link ? link_call_unary(&call->call, link->link, path, timeout_ms, request,
                                             &call_events, call, &call->failure)
                           : unreachable(link, &call->failure);
    if (error) {
        call->call = NULL;
        call->status = LINK_STATUS_UNAVAILABLE;
        loop_defer(call->loop, call_failed_early, call);
    }
    return call;
}

void agent_call_cancel(struct agent_call *call)
{
    call->replied = NULL;
    if (call->call)
        link_call_cancel(call->call);
}
