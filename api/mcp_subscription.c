/* Who has subscribed to a resource is told when it changed. Guests change files without telling, so
 * each subscription looks: a second after it last did, and at once when an operation was done that
 * counts as activity in its workspace. Looking is one small question to the agent. */
#include "api/mcp_resource.h"

#include "base/text.h"
#include "supervisord/exec.h"
#include "supervisord/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_US (1 * US_PER_S)

/* What is compared; all zero: there is no such thing. */
struct look {
    int64_t first, second;
};

struct mcp_subscription {
    struct mcp_peer *peer;
    struct mcp_request *request; /* the listen that it belongs to; NULL: resources/subscribe */
    struct list link;            // mcp_peer::subscriptions
    char *uri;
    struct mcp_resource resource;
    struct look seen, now;
    bool seen_once;
    struct file_transfer *transfer; /* looking */
    struct timer timer;
};

static void subscription_free(struct mcp_subscription *subscription)
{
    if (subscription->transfer)
        file_transfer_abort(subscription->transfer);
    timer_free(&subscription->timer);
    list_remove(&subscription->link);
    free(subscription->uri);
    free(subscription);
}

static void write_subscription_meta(struct json_writer *json, const struct mcp_request *request)
{
    json_object_begin(json, "_meta");
    json_raw(json, "io.modelcontextprotocol/subscriptionId", request->id);
    json_object_end(json);
}

static void tell_updated(struct mcp_subscription *subscription)
{
    auto_buf struct buf out = {0};
    struct json_writer json = JSON_WRITER(&out);
    struct mcp_request *request = subscription->request;
    json_object_begin(&json, NULL);
    json_string(&json, "jsonrpc", "2.0");
    json_string(&json, "method", "notifications/resources/updated");
    json_object_begin(&json, "params");
    json_string(&json, "uri", subscription->uri);
    if (request)
        write_subscription_meta(&json, request);
    json_object_end(&json);
    json_object_end(&json);
    if (json.error)
        return;
    if (request)
        request->peer->transport->tell(request, &out);
    else
        subscription->peer->transport->announce(subscription->peer, &out);
}

static void looked(struct mcp_subscription *subscription)
{
    const struct look *seen = &subscription->seen, *now = &subscription->now;
    bool changed =
        subscription->seen_once && (seen->first != now->first || seen->second != now->second);
    subscription->seen = *now;
    subscription->seen_once = true;
    timer_set(&subscription->timer, clock_monotonic_us() + LOOK_EVERY_US);
    if (changed)
        tell_updated(subscription);
}

static void on_entry(void *arg, const struct file_entry *entry)
{
    struct mcp_subscription *subscription = arg;
    subscription->now = (struct look){entry->mtime_us, (int64_t)entry->size + 1};
}

static void on_data(void *arg, const void *data, size_t length)
{
    (void)arg;
    (void)data;
    (void)length;
}

static void on_end(void *arg, int error, const struct hearth_failure *failure)
{
    struct mcp_subscription *subscription = arg;
    (void)failure;
    subscription->transfer = NULL;
    /* A workspace that is stopped or unreachable says nothing about its files. */
    if (error && error != HEARTH_ENOTFOUND)
        subscription->now = subscription->seen;
    looked(subscription);
}

static const struct file_read_events look_events = {on_entry, on_data, on_end};

static void look_at_logs(struct mcp_subscription *subscription, struct workspace *workspace)
{
    struct workspace_status status;
    workspace_describe(workspace, &status);
    workspace_describe_last_command(workspace, &status);
    subscription->now =
        (struct look){(int64_t)status.last_command.sequence, status.last_command.recorded_at};
    looked(subscription);
}

static void look(void *arg)
{
    struct mcp_subscription *subscription = arg;
    struct hearth_failure failure;
    struct workspace *workspace = workspace_find(&subscription->peer->principal,
                                                 subscription->resource.workspace_id, &failure);
    if (subscription->transfer)
        return;
    subscription->now = (struct look){0};
    if (!workspace)
        looked(subscription);
    else if (subscription->resource.kind == MCP_RESOURCE_LOGS)
        look_at_logs(subscription, workspace);
    else
        files_read(workspace, subscription->resource.path, 0, 1, &look_events, subscription,
                   &subscription->transfer);
}

/* False: as many as a peer may have, or no memory. */
static bool subscription_add(struct mcp_peer *peer, struct mcp_request *request, const char *uri,
                             const struct mcp_resource *resource)
{
    unsigned count = 0;
    list_for_each(cursor, next, &peer->subscriptions) count++;
    struct mcp_subscription *subscription =
        count < MCP_SUBSCRIPTIONS_MAX ? calloc(1, sizeof *subscription) : NULL;
    if (!subscription)
        return false;
    subscription->peer = peer;
    subscription->request = request;
    subscription->resource = *resource;
    subscription->uri = text_copy(uri);
    list_init(&subscription->link);
    timer_init(&subscription->timer, supervisor_loop(peer->api->supervisor), look, subscription);
    if (!subscription->uri) {
        subscription_free(subscription);
        return false;
    }
    list_append(&peer->subscriptions, &subscription->link);
    look(subscription);
    return true;
}

static struct mcp_subscription *find(struct mcp_peer *peer, const char *uri)
{
    list_for_each(cursor, next, &peer->subscriptions)
    {
        struct mcp_subscription *subscription = container_of(cursor, struct mcp_subscription, link);
        if (!subscription->request && strcmp(subscription->uri, uri) == 0)
            return subscription;
    }
    return NULL;
}

void mcp_subscriptions_close(struct mcp_peer *peer)
{
    list_for_each(cursor, next, &peer->subscriptions)
        subscription_free(container_of(cursor, struct mcp_subscription, link));
}

void mcp_request_unsubscribe(struct mcp_request *request)
{
    list_for_each(cursor, next, &request->peer->subscriptions)
    {
        struct mcp_subscription *subscription = container_of(cursor, struct mcp_subscription, link);
        if (subscription->request == request)
            subscription_free(subscription);
    }
}

void mcp_workspace_touched(struct api *api, const char *workspace_id)
{
    list_for_each(peers, next_peer, &api->mcp_peers)
    {
        struct mcp_peer *peer = container_of(peers, struct mcp_peer, link);
        list_for_each(cursor, next, &peer->subscriptions)
        {
            struct mcp_subscription *subscription =
                container_of(cursor, struct mcp_subscription, link);
            if (strcmp(subscription->resource.workspace_id, workspace_id) == 0)
                timer_set(&subscription->timer, clock_monotonic_us());
        }
    }
}

/* The handshake era: resources/subscribe and its opposite. */

static void reply_empty(struct mcp_request *request)
{
    struct json_writer json;
    mcp_result_begin(request, &json, MCP_TTL_NONE);
    mcp_result_end(request, &json);
}

void mcp_subscribe(struct mcp_request *request, const cJSON *params)
{
    struct mcp_resource resource;
    struct hearth_failure failure;
    struct mcp_peer *peer = request->peer;
    if (!mcp_resource_of(request, params, &resource))
        return;
    if (!workspace_find(&peer->principal, resource.workspace_id, &failure))
        mcp_fail(request, MCP_RESOURCE_NOT_FOUND, failure.detail);
    else if (find(peer, request->subject) ||
             subscription_add(peer, NULL, request->subject, &resource))
        reply_empty(request);
    else
        mcp_fail(request, MCP_OVERLOADED, "as many subscriptions as one client may have");
}

void mcp_unsubscribe(struct mcp_request *request, const cJSON *params)
{
    struct mcp_resource resource;
    if (!mcp_resource_of(request, params, &resource))
        return;
    struct mcp_subscription *subscription = find(request->peer, request->subject);
    if (subscription)
        subscription_free(subscription);
    reply_empty(request);
}

/* The modern one: a request that stays, and whose answer is what it listens for. Lists never change
 * while the daemon runs, so of the kinds of news only resources are agreed to. */
void mcp_listen(struct mcp_request *request, const cJSON *params)
{
    const cJSON *wanted = cJSON_GetObjectItemCaseSensitive(params, "notifications");
    const cJSON *uris = cJSON_GetObjectItemCaseSensitive(wanted, "resourceSubscriptions");
    auto_buf struct buf out = {0};
    struct json_writer json = JSON_WRITER(&out);
    if (!cJSON_IsObject(wanted) || (uris && !cJSON_IsArray(uris) && !cJSON_IsNull(uris))) {
        mcp_fail(request, MCP_INVALID_PARAMS, "params.notifications must say what to listen for");
        return;
    }
    json_object_begin(&json, NULL);
    json_string(&json, "jsonrpc", "2.0");
    json_string(&json, "method", "notifications/subscriptions/acknowledged");
    json_object_begin(&json, "params");
    write_subscription_meta(&json, request);
    json_object_begin(&json, "notifications");
    if (uris && uris->child)
        json_array_begin(&json, "resourceSubscriptions");
    for (const cJSON *uri = uris ? uris->child : NULL; uri; uri = uri->next) {
        struct mcp_resource resource;
        if (cJSON_IsString(uri) && mcp_resource_parse(uri->valuestring, &resource) &&
            subscription_add(request->peer, request, uri->valuestring, &resource))
            json_string(&json, NULL, uri->valuestring);
    }
    if (uris && uris->child)
        json_array_end(&json);
    json_object_end(&json);
    json_object_end(&json);
    json_object_end(&json);
    if (json.error)
        mcp_fail(request, MCP_INTERNAL_ERROR, "out of memory");
    else
        request->peer->transport->tell(request, &out);
}
