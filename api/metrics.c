/* Prometheus text exposition (https://prometheus.io/docs/instrumenting/exposition_formats/). No
 * label carries what a tenant chose, and none a workspace's ID. */
#include "api/call_internal.h"
#include "supervisord/guest_network.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct metrics {
    struct buf *out;
    int error;
};

static void line(struct metrics *metrics, const char *name, const char *kind, const char *help,
                 double value)
{
    if (!metrics->error)
        metrics->error =
            buf_printf(metrics->out, "# HELP hearth_%s %s\n# TYPE hearth_%s %s\nhearth_%s %.17g\n",
                       name, help, name, kind, name, value);
}

static void head(struct metrics *metrics, const char *name, const char *kind, const char *help)
{
    if (!metrics->error)
        metrics->error = buf_printf(metrics->out, "# HELP hearth_%s %s\n# TYPE hearth_%s %s\n",
                                    name, help, name, kind);
}

static void labelled(struct metrics *metrics, const char *name, const char *label,
                     const char *value, double number)
{
    if (!metrics->error)
        metrics->error =
            buf_printf(metrics->out, "hearth_%s{%s=\"%s\"} %.17g\n", name, label, value, number);
}

static double resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    if (fscanf(file, "%*s %lu", &pages) != 1)
        pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void write_storage(struct metrics *metrics, const struct supervisor_health *health)
{
    const struct storage_health *storage = health->storage;
    head(metrics, "storage_commits_total", "counter", "Transactions committed.");
    for (int i = 0; i < STORAGE_COUNT; i++)
        labelled(metrics, "storage_commits_total", "database", storage[i].name,
                 (double)storage[i].commits);
    head(metrics, "storage_changes_total", "counter", "Changes written; many share a transaction.");
    for (int i = 0; i < STORAGE_COUNT; i++)
        labelled(metrics, "storage_changes_total", "database", storage[i].name,
                 (double)storage[i].changes);
    head(metrics, "storage_failures_total", "counter", "Changes that could not be written.");
    for (int i = 0; i < STORAGE_COUNT; i++)
        labelled(metrics, "storage_failures_total", "database", storage[i].name,
                 (double)storage[i].failures);
    head(metrics, "storage_queued", "gauge", "Changes that wait to be written.");
    for (int i = 0; i < STORAGE_COUNT; i++)
        labelled(metrics, "storage_queued", "database", storage[i].name, (double)storage[i].queued);
}

static void write_http(struct metrics *metrics, struct api *api)
{
    struct http_stats stats;
    http_server_get_stats(api->server, &stats);
    line(metrics, "http_requests_total", "counter", "Requests taken in.", (double)stats.requests);
    line(metrics, "http_refused_total", "counter", "Requests refused by the guard.",
         (double)stats.refused);
    line(metrics, "http_connections_total", "counter", "Connections accepted.",
         (double)stats.connections_total);
    line(metrics, "http_connections", "gauge", "Connections open now.", stats.connections);
    line(metrics, "http_suspended", "gauge", "Requests that wait.", stats.suspended);
    line(metrics, "http_received_bytes_total", "counter", "Bytes of bodies received.",
         (double)stats.bytes_in);
    line(metrics, "http_sent_bytes_total", "counter", "Bytes of bodies sent.",
         (double)stats.bytes_out);
    head(metrics, "operations_total", "counter", "Operations answered, by the status's class.");
    for (int i = 2; i < 6; i++) {
        char class[8];
        snprintf(class, sizeof class, "%dxx", i);
        labelled(metrics, "operations_total", "status", class, (double)api->outcomes[i]);
    }
}

void metrics_reply(struct api *api, struct http_request *request)
{
    auto_buf struct buf body = {0};
    struct metrics metrics = {.out = &body};
    struct supervisor_health health;
    struct hearth_failure failure;
    struct loop *loop = supervisor_loop(api->supervisor);
    supervisor_get_health(api->supervisor, &health);
    head(&metrics, "workspaces", "gauge", "Workspaces by state.");
    for (int state = 0; state < WORKSPACE_STATE_MAX; state++)
        labelled(&metrics, "workspaces", "state", workspace_state_name((enum workspace_state)state),
                 health.workspaces[state]);
    line(&metrics, "guests", "gauge", "Guests that run.", health.guests);
    line(&metrics, "guests_pooled", "gauge", "Guests that wait in the pool.", health.pooled_guests);
    line(&metrics, "guests_paused", "gauge", "Those of them that are restored and paused.",
         health.paused_guests);
    line(&metrics, "guests_pool_making", "gauge", "Guests that are being made for the pool.",
         health.pool_making);
    line(&metrics, "pool_claims_total", "counter", "Creates that took a guest from the pool.",
         (double)health.pool_claims_total);
    line(&metrics, "pool_evictions_total", "counter",
         "Guests of the pool that were ended because memory was short.",
         (double)health.pool_evictions_total);
    line(&metrics, "links_up", "gauge", "Links to agents that are up.", health.links_up);
    line(&metrics, "links_lost_total", "counter", "Links to agents that broke.",
         (double)health.links_lost_total);
    line(&metrics, "execs_running", "gauge", "Commands that run.", health.running_execs);
    line(&metrics, "execs_total", "counter", "Commands ended.", (double)health.execs_total);
    line(&metrics, "execs_failed_total", "counter", "Commands that did not start or were lost.",
         (double)health.execs_failed);
    line(&metrics, "creates_total", "counter", "Creates ended.", (double)health.creates_total);
    line(&metrics, "creates_failed_total", "counter", "Creates that failed.",
         (double)health.creates_failed);
    line(&metrics, "deletes_total", "counter", "Workspaces deleted.", (double)health.deletes_total);
    line(&metrics, "guests_adopted_total", "counter", "Guests taken back at the start.",
         (double)health.adopted_total);
    line(&metrics, "machine_boots_retried_total", "counter",
         "Machines whose first boot missed its deadline.", (double)health.drivers.boots_retried);
    line(&metrics, "machine_template_clones_total", "counter", "Machines started from a template.",
         (double)health.drivers.template_clones);
    line(&metrics, "machine_clone_failures_total", "counter",
         "Machines that did not start from their template: cold boots instead.",
         (double)health.drivers.clone_failures);
    line(&metrics, "machine_template_failures_total", "counter",
         "Templates that could not be made, or were given up: cold boots instead.",
         (double)health.drivers.template_failures);
    line(&metrics, "network_denied_total", "counter",
         "Connections and names that guests were denied.",
         (double)guest_network_denied(api->supervisor));
    line(&metrics, "loop_turns_total", "counter", "Turns of the event loop.",
         (double)loop_turns(loop));
    line(&metrics, "loop_lag_seconds", "gauge", "Longest delay of the loop since last asked.",
         (double)loop_longest_turn_us(loop) / 1e6);
    line(&metrics, "resident_memory_bytes", "gauge", "Resident memory of hearthd.",
         resident_bytes());
    write_storage(&metrics, &health);
    write_http(&metrics, api);
    if (metrics.error) {
        hearth_fail(&failure, (enum hearth_error)metrics.error, NULL,
                    "the metrics could not be made");
        http_reply_problem(request, &failure);
        return;
    }
    http_reply(request, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}
