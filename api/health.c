#include "api/call_internal.h"

#include <string.h>

static void reply(struct http_request *request, int status, struct buf *body, int error)
{
    struct hearth_failure failure;
    if (!error) {
        http_reply(request, status, "application/json", body);
        return;
    }
    hearth_fail(&failure, (enum hearth_error)error, NULL, "the answer could not be made");
    http_reply_problem(request, &failure);
}

/* That this runs at all says that the loop turns. */
void health_live(struct api *api, struct http_request *request)
{
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    (void)api;
    json_object_begin(&json, NULL);
    json_string(&json, "status", "ok");
    json_object_end(&json);
    reply(request, 200, &body, json.error);
}

static void write_driver(void *arg, const char *name, bool chosen, const struct driver_probe *probe)
{
    struct json_writer *json = arg;
    json_object_begin(json, NULL);
    json_string(json, "name", name);
    json_boolean(json, "chosen", chosen);
    json_boolean(json, "usable", probe->usable);
    json_string(json, "version", *probe->version ? probe->version : NULL);
    json_string(json, "reason", *probe->reason ? probe->reason : NULL);
    json_string(json, "install", *probe->install ? probe->install : NULL);
    json_duration_ms(json, "probe_ms", probe->took_us);
    json_object_end(json);
}

static void write_check(struct json_writer *json, const char *name, bool ok, const char *detail)
{
    json_object_begin(json, NULL);
    json_string(json, "name", name);
    json_boolean(json, "ok", ok);
    json_string(json, "detail", detail);
    json_object_end(json);
}

static bool asks_for(struct http_request *request, const char *name)
{
    size_t count;
    const struct http_pair *query = http_request_query(request, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(query[i].name, name) == 0)
            return true;
    return false;
}

void health_ready(struct api *api, struct http_request *request)
{
    auto_buf struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    struct supervisor_health health;
    supervisor_get_health(api->supervisor, &health);
    bool ready = health.recovered && health.storage_ok && !health.draining &&
                 strcmp(health.driver, "none") != 0;
    json_object_begin(&json, NULL);
    json_string(&json, "status", ready ? "ok" : "unavailable");
    json_string(&json, "driver", health.driver);
    if (asks_for(request, "verbose")) {
        json_array_begin(&json, "checks");
        write_check(&json, "recovered", health.recovered,
                    "what ran before the start has been taken back");
        write_check(&json, "storage", health.storage_ok, "the database answers");
        write_check(&json, "accepting", !health.draining, "new workspaces are taken");
        write_check(&json, "driver", strcmp(health.driver, "none") != 0, "guests can be run");
        json_array_end(&json);
        json_string(&json, "version", HEARTH_VERSION);
        json_array_begin(&json, "drivers");
        supervisor_each_driver(api->supervisor, write_driver, &json);
        json_array_end(&json);
    }
    json_object_end(&json);
    reply(request, ready ? 200 : 503, &body, json.error);
}
