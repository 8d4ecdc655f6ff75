#include "supervisord/service_internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/text.h"
#include "supervisord/exec_internal.h"
#include "supervisord/port.h"
#include "supervisord/secret_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STOP_GRACE_MS 5000

/* What is kept. */

int service_not_found(struct hearth_failure *failure)
{
    int error = hearth_fail(failure, HEARTH_ENOTFOUND, "service_not_found",
                            "the workspace has no such service");
    hearth_failure_field(failure, "/service_name");
    hearth_failure_hint(failure, "List its services to find the right name.");
    return error;
}

static void watch_again(void *arg)
{
    services_watch(arg);
}

struct services *services_of(struct workspace *workspace)
{
    struct services *services = workspace->services;
    if (services)
        return services;
    services = calloc(1, sizeof *services);
    if (!services)
        abort();
    services->workspace = workspace;
    list_init(&services->list);
    timer_init(&services->again, workspace->supervisor->loop, watch_again, services);
    return workspace->services = services;
}

struct service *service_find(struct workspace *workspace, const char *name)
{
    if (workspace->services)
        list_for_each(cursor, next, &workspace->services->list)
        {
            struct service *service = container_of(cursor, struct service, link);
            if (strcmp(service->name, name) == 0)
                return service;
        }
    return NULL;
}

struct service *service_find_again(struct supervisor *supervisor, const char *workspace_id,
                                   const char *name, const char *instance)
{
    struct workspace *workspace = supervisor_workspace(supervisor, workspace_id);
    struct service *service = workspace ? service_find(workspace, name) : NULL;
    return service && (!instance || strcmp(service->instance, instance) == 0) ? service : NULL;
}

bool service_active(const struct service *service)
{
    return strcmp(service->state, "running") == 0 ||
           strcmp(service->stop_reason, "restarting") == 0;
}

struct service *service_new(struct services *services, const char *name, const char *command,
                            const char *cwd, const char *target)
{
    struct service *service = calloc(1, sizeof *service);
    if (!service)
        return NULL;
    service->workspace = services->workspace;
    snprintf(service->name, sizeof service->name, "%s", name);
    service->command = text_copy(command);
    service->cwd = text_copy(cwd);
    service->target = text_copy(target);
    list_init(&service->link);
    list_append(&services->list, &service->link);
    services->count++;
    if (service->command && service->cwd && service->target)
        return service;
    service_free(service);
    return NULL;
}

void service_free(struct service *service)
{
    service->workspace->services->count--;
    list_remove(&service->link);
    ports_close(service->published);
    free(service->command);
    free(service->cwd);
    free(service->target);
    free(service);
}

void services_free(struct workspace *workspace)
{
    struct services *services = workspace->services;
    if (!services)
        return;
    services_guest_ended(workspace, NULL, NULL);
    timer_free(&services->again);
    while (!list_empty(&services->list))
        service_free(container_of(services->list.next, struct service, link));
    free(services);
    workspace->services = NULL;
}

void services_forget(struct workspace *workspace, struct change *change)
{
    struct services *services = workspace->services;
    while (services && !list_empty(&services->list)) {
        struct service *service = container_of(services->list.next, struct service, link);
        change_delete_service(change, workspace->workspace_id, service->name);
        service_free(service);
    }
}

void services_count(const struct workspace *workspace, uint32_t *ret_known, uint32_t *ret_running)
{
    *ret_known = *ret_running = 0;
    if (!workspace->services)
        return;
    *ret_known = workspace->services->count;
    list_for_each(cursor, next, &workspace->services->list) *ret_running +=
        strcmp(container_of(cursor, struct service, link)->state, "running") == 0;
}

void service_put(const struct service *service, struct change *change)
{
    char ports[PORTS_TEXT_SIZE];
    ports_write(service->published, ports);
    /* Who writes a secret into a command has it in no database. */
    char *texts[] = {text_copy(service->command), text_copy(service->cwd),
                     text_copy(service->target)};
    workspace_redact_texts(service->workspace, texts, 3);
    auto_free char *command = texts[0], *cwd = texts[1], *target = texts[2];
    const struct row_service row = {
        .workspace_id = service->workspace->workspace_id,
        .name = service->name,
        .instance = service->instance,
        .command = command ? command : "",
        .cwd = cwd ? cwd : "",
        .execution_mode = service->execution_mode,
        .readiness = service->readiness,
        .target = target ? target : "",
        .restart = service->restart,
        .state = service->state,
        .stop_reason = service->stop_reason,
        .started_at = service->started_at,
        .ready_at = service->ready_at,
        .ended_at = service->ended_at,
        .has_exit = service->has_exit,
        .exit_code = service->exit_code,
        .pid = service->pid,
        .restarts = service->restarts,
        .ports = ports,
    };
    change_put_service(change, &row);
}

/* What clients were told is kept, also where another has the port for now. */
static int listen_again(struct service *service, const char *text)
{
    struct hearth_failure failure;
    struct port_pair ports[SERVICE_PORTS_MAX];
    size_t count = service_active(service) ? ports_parse(text, ports) : 0;
    if (count &&
        ports_publish(&service->published, service->workspace, ports, count, true, &failure))
        log_warning("ports_not_back", "workspace=%s service=%s detail=\"%s\"",
                    service->workspace->workspace_id, service->name, failure.detail);
    return 0;
}

int services_load(struct supervisor *supervisor, const struct row_service *row)
{
    static const char *const kinds[] = {"file", "tcp", "http", "command", "none", NULL};
    static const char *const policies[] = {"on-failure", "never", NULL};
    struct workspace *workspace = supervisor_workspace(supervisor, row->workspace_id);
    if (!workspace)
        return 0;
    struct service *service =
        service_new(services_of(workspace), row->name, row->command, row->cwd, row->target);
    if (!service)
        return HEARTH_ENOMEMORY;
    snprintf(service->instance, sizeof service->instance, "%s", row->instance);
    snprintf(service->stop_reason, sizeof service->stop_reason, "%s",
             row->stop_reason ? row->stop_reason : "");
    service->state = service_state_named(row->state);
    service->readiness = text_literal(kinds, row->readiness);
    service->restart = text_literal(policies, row->restart);
    service->execution_mode = execution_mode_named(row->execution_mode);
    service->started_at = row->started_at;
    service->ready_at = row->ready_at;
    service->ended_at = row->ended_at;
    service->has_exit = row->has_exit;
    service->exit_code = row->exit_code;
    service->pid = row->pid;
    service->restarts = row->restarts;
    return listen_again(service, row->ports);
}

void service_describe(const struct service *service, struct service_status *ret_status)
{
    *ret_status = (struct service_status){
        .workspace_id = service->workspace->workspace_id,
        .name = service->name,
        .command = service->command,
        .cwd = service->cwd,
        .execution_mode = service->execution_mode,
        .readiness = service->readiness,
        .target = service->target,
        .restart = service->restart,
        .state = service->state,
        .stop_reason = *service->stop_reason ? service->stop_reason : NULL,
        .started_at = service->started_at,
        .ready_at = service->ready_at,
        .ended_at = service->ended_at,
        .has_exit = service->has_exit,
        .exit_code = service->exit_code,
        .pid = service->pid,
        .restarts = service->restarts,
    };
    ret_status->ports = ports_list(service->published, &ret_status->port_count);
}

int service_status(struct workspace *workspace, const char *name, struct service_status *ret_status,
                   struct hearth_failure *failure)
{
    const struct service *service = service_find(workspace, name);
    if (!service)
        return service_not_found(failure);
    service_describe(service, ret_status);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct service *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

void service_each(struct workspace *workspace,
                  void (*visit)(void *arg, const struct service_status *status), void *arg)
{
    const struct service *sorted[SERVICES_MAX];
    size_t count = 0;
    if (!workspace->services)
        return;
    list_for_each(cursor, next, &workspace->services->list) if (count < SERVICES_MAX)
        sorted[count++] = container_of(cursor, struct service, link);
    qsort(sorted, count, sizeof *sorted, by_name);
    for (size_t i = 0; i < count; i++) {
        struct service_status status;
        service_describe(sorted[i], &status);
        visit(arg, &status);
    }
}

/* A start or stop under way. The workspace may go meanwhile: it is found again by its ID. */
struct asking {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE], name[65], instance[ID_SIZE];
    uint32_t ready_timeout_ms, ready_interval_ms;
    Hearth__Agent__V1__SecretVariable **secrets; /* of a start; NULL: none */
    size_t secret_count;
    struct hearth_failure failure;
    service_done done;
    void *arg;
};

static struct asking *asking_new(struct workspace *workspace, const char *name, service_done done,
                                 void *arg)
{
    struct asking *asking = calloc(1, sizeof *asking);
    if (!asking)
        abort();
    asking->supervisor = workspace->supervisor;
    asking->done = done;
    asking->arg = arg;
    memcpy(asking->workspace_id, workspace->workspace_id, sizeof asking->workspace_id);
    snprintf(asking->name, sizeof asking->name, "%s", name);
    return asking;
}

static struct service *find_again(const struct asking *asking)
{
    return service_find_again(asking->supervisor, asking->workspace_id, asking->name,
                              asking->instance);
}

static void fail(struct asking *asking, const struct hearth_failure *failure)
{
    asking->done(asking->arg, (int)failure->error, failure, NULL);
    free(asking->secrets);
    free(asking);
}

static void fail_now(void *arg)
{
    struct asking *asking = arg;
    struct hearth_failure failure = asking->failure;
    fail(asking, &failure);
}

static void tell(struct asking *asking)
{
    const struct service *service = find_again(asking);
    struct service_status status;
    if (!service) {
        service_not_found(&asking->failure);
        fail_now(asking);
        return;
    }
    service_describe(service, &status);
    asking->done(asking->arg, 0, NULL, &status);
    free(asking->secrets);
    free(asking);
}

static void tell_now(void *arg)
{
    tell(arg);
}

static void written(void *arg, int error, const struct hearth_failure *failure)
{
    if (error)
        fail(arg, failure);
    else
        tell(arg);
}

/* The agent has answered: what it says is taken in, written, and then told. */
static void answered(void *arg, enum link_status status, const struct hearth_failure *failure,
                     const ProtobufCMessage *reply)
{
    struct asking *asking = arg;
    struct service *service = find_again(asking);
    if (status != LINK_STATUS_OK) {
        /* A link that is down says nothing of the service: the agent will, when it is up again. */
        if (service && service->starting && status != LINK_STATUS_UNAVAILABLE &&
            status != LINK_STATUS_CANCELLED)
            service_settle(service, "failed", "cannot_start");
        if (service && status == LINK_STATUS_CANCELLED && !service_active(service))
            tell(asking); /* it has ended with its guest, and says so */
        else
            fail(asking, failure);
        return;
    }
    if (!service) {
        tell(asking);
        return;
    }
    service_take(service, (const Hearth__Agent__V1__ServiceState *)reply);
    struct change *change = change_new();
    service_put(service, change);
    change_commit(change, asking->supervisor->writer, written, asking);
}

/* Starting. */

static void send_start(struct asking *asking, struct service *service)
{
    static char shell[] = "/bin/sh", flags[] = "-lc";
    Hearth__Agent__V1__ServiceStartRequest request = HEARTH__AGENT__V1__SERVICE_START_REQUEST__INIT;
    struct exec_environment environment;
    char *argv[] = {shell, flags, service->command};
    const char *kind = service->readiness;
    if (exec_environment_make(&environment, NULL, 0)) {
        hearth_fail(&asking->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        fail_now(asking);
        return;
    }
    request.name = service->name;
    request.instance = service->instance;
    request.argv = argv;
    request.n_argv = 3;
    request.cwd = service->cwd;
    request.environment = environment.list;
    request.n_environment = environment.count;
    request.secret_environment = asking->secrets;
    request.n_secret_environment = asking->secret_count;
    request.ready_timeout_ms = asking->ready_timeout_ms;
    request.ready_interval_ms = asking->ready_interval_ms;
    request.restart_on_failure = strcmp(service->restart, "on-failure") == 0;
    request.log_bytes = SERVICE_LOG_BYTES;
    if (strcmp(kind, "file") == 0)
        request.ready_file = service->target;
    else if (strcmp(kind, "tcp") == 0)
        request.ready_tcp = service->target;
    else if (strcmp(kind, "http") == 0)
        request.ready_http = service->target;
    else if (strcmp(kind, "command") == 0)
        request.ready_command = service->target;
    agent_call(&service->workspace->sandbox->link, "ServiceStart", &request.base,
               &hearth__agent__v1__service_state__descriptor, 0, answered, asking);
    exec_environment_free(&environment);
}

/* Its row is written: from here on a crash leaves something to find. */
static void noted(void *arg, int error, const struct hearth_failure *failure)
{
    struct asking *asking = arg;
    struct service *service = find_again(asking);
    struct hearth_failure gone;
    if (error && service)
        service_free(service);
    if (error) {
        fail(asking, failure);
    } else if (!service || workspace_ready(service->workspace, &gone)) {
        if (!service)
            service_not_found(&gone);
        else if (service->starting)
            service_settle(service, "failed", "cannot_start");
        fail(asking, &gone);
    } else {
        services_watch(service->workspace->services);
        send_start(asking, service);
    }
}

static bool is_address(const char *text, size_t length)
{
    char host[64];
    unsigned char address[16];
    bool bracketed = length > 2 && text[0] == '[' && text[length - 1] == ']';
    if (bracketed) {
        text++;
        length -= 2;
    }
    if (!length || length >= sizeof host)
        return false;
    snprintf(host, sizeof host, "%.*s", (int)length, text);
    return strcmp(host, "localhost") == 0 ||
           inet_pton(bracketed ? AF_INET6 : AF_INET, host, address) == 1;
}

static bool is_port(const char *text)
{
    size_t length = strlen(text);
    long port = strtol(text, NULL, 10);
    return length && strspn(text, "0123456789") == length && length <= 5 && port >= 1 &&
           port <= 65535;
}

/* [HOST:]PORT as HOST:PORT, where HOST is an address or localhost. */
static bool tcp_target(char *out, size_t size, const char *text)
{
    const char *colon = strrchr(text, ':');
    if (!colon)
        return is_port(text) && snprintf(out, size, "127.0.0.1:%s", text) < (int)size;
    return is_port(colon + 1) && is_address(text, (size_t)(colon - text)) &&
           snprintf(out, size, "%s", text) < (int)size;
}

static bool http_target(char *out, size_t size, const char *text)
{
    if (!text_starts_with(text, "http://") || strpbrk(text, " \t\r\n"))
        return false;
    const char *host = text + strlen("http://");
    size_t length = strcspn(host, "/?#");
    const char *colon = memrchr(host, ':', length);
    const char *bracket = memrchr(host, ']', length);
    bool has_port = colon && (!bracket || colon > bracket);
    char port[16];
    if (has_port)
        snprintf(port, sizeof port, "%.*s", (int)(host + length - colon - 1), colon + 1);
    return is_address(host, has_port ? (size_t)(colon - host) : length) &&
           (!has_port || is_port(port)) && snprintf(out, size, "%s", text) < (int)size;
}

static int make_target(char *out, size_t size, const struct service_spec *spec,
                       struct hearth_failure *failure)
{
    bool good = true;
    *out = '\0';
    if (strcmp(spec->readiness, "tcp") == 0)
        good = tcp_target(out, size, spec->target);
    else if (strcmp(spec->readiness, "http") == 0)
        good = http_target(out, size, spec->target);
    else if (strcmp(spec->readiness, "file") == 0)
        good = snprintf(out, size, "%s%s", spec->target[0] == '/' ? "" : "/workspace/",
                        spec->target) < (int)size;
    else if (spec->target)
        good = snprintf(out, size, "%s", spec->target) < (int)size;
    if (good)
        return 0;
    int error = hearth_fail(failure, HEARTH_EINVALID, "bad_readiness",
                            "ready_%s cannot be looked at as it is", spec->readiness);
    char field[32];
    snprintf(field, sizeof field, "/ready_%s", spec->readiness);
    hearth_failure_field(failure, field);
    hearth_failure_hint(failure, "A port is HOST:PORT or PORT, a URL http://HOST:PORT/PATH; the "
                                 "host is an address in the guest or localhost.");
    return error;
}

/* Room for one more of the name: what is there of it gives way, or the oldest that does not run. */
static int make_room(struct workspace *workspace, const char *name, struct change *change,
                     struct hearth_failure *failure)
{
    struct services *services = services_of(workspace);
    struct service *there = service_find(workspace, name);
    if (there && service_active(there)) {
        int error = hearth_fail(failure, HEARTH_ECONFLICT, "service_running",
                                "a service of this name is running");
        hearth_failure_field(failure, "/service_name");
        hearth_failure_hint(failure, "Stop it first, or take another name.");
        return error;
    }
    if (there) {
        service_free(there);
        return 0;
    }
    if (services->count < SERVICES_MAX)
        return 0;
    list_for_each(cursor, next, &services->list)
    {
        struct service *service = container_of(cursor, struct service, link);
        if (service_active(service))
            continue;
        change_delete_service(change, workspace->workspace_id, service->name);
        service_free(service);
        return 0;
    }
    int error = hearth_fail(failure, HEARTH_EQUOTA, "too_many_services",
                            "the workspace runs %d services, as many as it may", SERVICES_MAX);
    hearth_failure_hint(failure, "Stop one first.");
    return error;
}

static struct service *make(struct workspace *workspace, const struct service_spec *spec,
                            const char *target, struct hearth_failure *failure)
{
    char cwd[4200];
    const char *in = spec->cwd ? spec->cwd : "/workspace";
    snprintf(cwd, sizeof cwd, "%s%s", in[0] == '/' ? "" : "/workspace/", in);
    struct service *service =
        service_new(services_of(workspace), spec->name, spec->command, cwd, target);
    if (!service) {
        hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
        return NULL;
    }
    id_make(service->instance, "sv", workspace->supervisor->config->node_tag);
    service->readiness = spec->readiness;
    service->restart = spec->restart_on_failure ? "on-failure" : "never";
    service->execution_mode = execution_mode_named(workspace_execution_mode(workspace));
    service->state = "running";
    service->starting = true;
    service->started_at = clock_wall_us();
    return service;
}

static int take_secrets(struct asking *asking, const struct service_spec *spec,
                        struct hearth_failure *failure)
{
    asking->secrets = secret_variables_make(spec->secrets, spec->secret_count);
    asking->secret_count = spec->secret_count;
    return asking->secrets ? 0 : hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
}

void service_start(struct workspace *workspace, const struct principal *principal,
                   const struct service_spec *spec, service_done done, void *arg)
{
    struct asking *asking = asking_new(workspace, spec->name, done, arg);
    struct hearth_failure *failure = &asking->failure;
    struct change *change = change_new();
    char target[8192];
    struct service *service = NULL;
    if (!workspace_ready(workspace, failure) &&
        !secret_variables_check(workspace, spec->secrets, spec->secret_count, failure) &&
        !take_secrets(asking, spec, failure) &&
        !make_target(target, sizeof target, spec, failure) &&
        !make_room(workspace, spec->name, change, failure))
        service = make(workspace, spec, target, failure);
    if (service && spec->port_count &&
        ports_publish(&service->published, workspace, spec->ports, spec->port_count, false,
                      failure)) {
        service_free(service);
        service = NULL;
    }
    if (!service) {
        change_free(change);
        loop_defer(workspace->supervisor->loop, fail_now, asking);
        return;
    }
    memcpy(asking->instance, service->instance, sizeof asking->instance);
    asking->ready_timeout_ms = spec->ready_timeout_ms;
    asking->ready_interval_ms = spec->ready_interval_ms;
    workspace_touch(workspace);
    service_put(service, change);
    workspace_audit(workspace, change, principal, spec->request_id, "service_start", "ok");
    change_commit(change, workspace->supervisor->writer, noted, asking);
}

/* Stopping. */

/* It had ended before, and is told as it is: what it had left behind is gone, where the guest still
 * knew of it. */
static void strays_ended(void *arg, enum link_status status, const struct hearth_failure *failure,
                         const ProtobufCMessage *message)
{
    (void)status;
    (void)failure;
    (void)message;
    tell_now(arg);
}

void service_stop(struct workspace *workspace, const struct principal *principal, const char *name,
                  const char *request_id, service_done done, void *arg)
{
    struct hearth_failure unready;
    struct asking *asking = asking_new(workspace, name, done, arg);
    struct service *service = service_find(workspace, name);
    bool active = service && service_active(service);
    bool ready = workspace_ready(workspace, active ? &asking->failure : &unready) == 0;
    if (!service)
        service_not_found(&asking->failure);
    if (!service || (active && !ready)) {
        loop_defer(workspace->supervisor->loop, fail_now, asking);
        return;
    }
    memcpy(asking->instance, service->instance, sizeof asking->instance);
    if (!ready) {
        loop_defer(workspace->supervisor->loop, tell_now, asking);
        return;
    }
    struct change *change = change_new();
    workspace_touch(workspace);
    workspace_audit(workspace, change, principal, request_id, "service_stop", "ok");
    change_commit(change, workspace->supervisor->writer, NULL, NULL);
    Hearth__Agent__V1__ServiceStopRequest request = HEARTH__AGENT__V1__SERVICE_STOP_REQUEST__INIT;
    request.name = service->name;
    request.instance = service->instance;
    request.grace_ms = STOP_GRACE_MS;
    agent_call(&workspace->sandbox->link, "ServiceStop", &request.base,
               &hearth__agent__v1__service_state__descriptor, 0, active ? answered : strays_ended,
               asking);
}
