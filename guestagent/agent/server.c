/* Streams in, calls out: every method by its name, unpacked and handed on. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "guestagent/agent/agent.h"
#include "guestagent/agent/inside.h"
#include "guestagent/agent/jobs.h"
#include "guestagent/agent/secrets.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINKS_MAX 16

struct stream {
    struct agent *agent;
    struct link *link;
    void (*closed)(void *arg); /* NULL: nobody asks */
    void *closed_arg;
    struct list entry; // agent::links
};

/* A unary call until it is answered. */
struct unary {
    struct agent *agent;
    const struct method *method;
    struct buf request;
    bool received;
};

struct method {
    const char *name;
    const ProtobufCMessageDescriptor *request;
    void (*handle)(struct agent *agent, struct link_call *call, const ProtobufCMessage *request);
    void (*accept)(struct agent *agent, struct link_call *call); /* client streaming */
    /* Server streaming: one request, then the handler has taken the call over (true) or refused it.
     */
    bool (*stream)(struct agent *agent, struct link_call *call, const ProtobufCMessage *request);
};

void call_refuse(struct link_call *call, enum link_status status, const char *format, ...)
{
    char message[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    link_call_end(call, status, message);
}

enum link_status call_status_of(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
        return LINK_STATUS_NOT_FOUND;
    case EXDEV:
    case ELOOP:
    case EACCES:
    case EPERM:
    case EROFS:
        return LINK_STATUS_PERMISSION_DENIED;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return LINK_STATUS_RESOURCE_EXHAUSTED;
    case EEXIST:
        return LINK_STATUS_ALREADY_EXISTS;
    case EINVAL:
    case ENAMETOOLONG:
        return LINK_STATUS_INVALID_ARGUMENT;
    default: /* ENOTDIR, EISDIR, ENOTEMPTY, EBUSY, … */
        return LINK_STATUS_FAILED_PRECONDITION;
    }
}

const char *call_refusal_text(int errno_value)
{
    bool leaves = errno_value == EXDEV || errno_value == ELOOP;
    return leaves ? "the path leaves the workspace" : strerror(errno_value);
}

void call_refuse_errno(struct link_call *call, int errno_value, const char *what)
{
    call_refuse(call, call_status_of(errno_value), "%s: %s", what, call_refusal_text(errno_value));
}

/* Calls that are answered later. */

void awaited_add(struct agent *agent, struct awaited *awaited, struct link_call *call)
{
    awaited->call = call;
    list_init(&awaited->link);
    list_append(&agent->awaited, &awaited->link);
}

struct link_call *awaited_take(struct awaited *awaited)
{
    if (awaited->call)
        list_remove(&awaited->link);
    return steal_pointer(awaited->call);
}

static void call_gone(struct agent *agent, struct link_call *call)
{
    list_for_each(cursor, next, &agent->awaited)
    {
        struct awaited *awaited = container_of(cursor, struct awaited, link);
        if (awaited->call == call)
            awaited_take(awaited);
    }
    exec_call_gone(agent, call);
    shell_call_gone(agent, call);
    service_call_gone(agent, call);
}

/* The agent's own calls. */

static void handle_hello(struct agent *agent, struct link_call *call,
                         const ProtobufCMessage *message)
{
    const Hearth__Agent__V1__HelloRequest *request =
        (const Hearth__Agent__V1__HelloRequest *)message;
    Hearth__Agent__V1__HelloReply reply = HEARTH__AGENT__V1__HELLO_REPLY__INIT;
    static char version[] = HEARTH_VERSION, exec[] = "exec", files[] = "files", tree[] = "tree",
                scan[] = "scan", shells[] = "shells", services[] = "services", ports[] = "ports",
                secrets[] = "secrets";
    char *features[] = {exec, files, tree, scan, shells, services, ports, secrets};
    reply.protocol = request->protocol && request->protocol < AGENT_PROTOCOL ? request->protocol
                                                                             : AGENT_PROTOCOL;
    reply.agent_version = version;
    reply.boot_id = agent->boot_id;
    reply.uptime_us = (uint64_t)(clock_monotonic_us() - agent->started_us);
    reply.features = features;
    reply.n_features = sizeof features / sizeof *features;
    reply.pid = (uint32_t)getpid();
    reply.workspace_root = (char *)(uintptr_t)agent->options.workspace;
    link_call_reply(call, &reply.base);
}

static void handle_shutdown(struct agent *agent, struct link_call *call,
                            const ProtobufCMessage *message)
{
    const Hearth__Agent__V1__ShutdownRequest *request =
        (const Hearth__Agent__V1__ShutdownRequest *)message;
    if (agent->stop.phase != STOP_NONE) {
        call_refuse(call, LINK_STATUS_FAILED_PRECONDITION, "the agent is stopping");
        return;
    }
    agent->power_off = request->power_off;
    stop_begin(agent, call);
}

static void handle_list_execs(struct agent *agent, struct link_call *call,
                              const ProtobufCMessage *message)
{
    (void)message;
    exec_handle_list(agent, call);
}

static void handle_list_shells(struct agent *agent, struct link_call *call,
                               const ProtobufCMessage *message)
{
    (void)message;
    shell_handle_list(agent, call);
}

#define HANDLER(name, function, type)                                                              \
    static void name(struct agent *agent, struct link_call *call, const ProtobufCMessage *message) \
    {                                                                                              \
        function(agent, call, (const type *)message);                                              \
    }
HANDLER(handle_configure, configure_handle, Hearth__Agent__V1__ConfigureRequest)
HANDLER(handle_exec_start, exec_handle_start, Hearth__Agent__V1__ExecStartRequest)
HANDLER(handle_exec_read, exec_handle_read, Hearth__Agent__V1__ExecReadRequest)
HANDLER(handle_exec_input, exec_handle_input, Hearth__Agent__V1__ExecInputRequest)
HANDLER(handle_exec_cancel, exec_handle_cancel, Hearth__Agent__V1__ExecCancelRequest)
HANDLER(handle_exec_forget, exec_handle_forget, Hearth__Agent__V1__ExecForgetRequest)
HANDLER(handle_shell_open, shell_handle_open, Hearth__Agent__V1__ShellOpenRequest)
HANDLER(handle_shell_read, shell_handle_read, Hearth__Agent__V1__ShellReadRequest)
HANDLER(handle_shell_input, shell_handle_input, Hearth__Agent__V1__ShellInputRequest)
HANDLER(handle_shell_signal, shell_handle_signal, Hearth__Agent__V1__ShellSignalRequest)
HANDLER(handle_shell_resize, shell_handle_resize, Hearth__Agent__V1__ShellResizeRequest)
HANDLER(handle_shell_close, shell_handle_close, Hearth__Agent__V1__ShellCloseRequest)
HANDLER(handle_service_start, service_handle_start, Hearth__Agent__V1__ServiceStartRequest)
HANDLER(handle_service_stop, service_handle_stop, Hearth__Agent__V1__ServiceStopRequest)
HANDLER(handle_service_watch, service_handle_watch, Hearth__Agent__V1__ServiceWatchRequest)
HANDLER(handle_service_logs, service_handle_logs, Hearth__Agent__V1__ServiceLogsRequest)
HANDLER(handle_file_stat, file_handle_stat, Hearth__Agent__V1__FileStatRequest)
HANDLER(handle_file_list, file_handle_list, Hearth__Agent__V1__FileListRequest)
HANDLER(handle_directory_make, directory_handle_make, Hearth__Agent__V1__DirectoryMakeRequest)
HANDLER(handle_file_move, file_handle_move, Hearth__Agent__V1__FileMoveRequest)
HANDLER(handle_file_delete, file_handle_delete, Hearth__Agent__V1__FileDeleteRequest)

static bool stream_file_read(struct agent *agent, struct link_call *call,
                             const ProtobufCMessage *message)
{
    return file_stream_read(agent, call, (const Hearth__Agent__V1__FileReadRequest *)message);
}

static bool stream_file_search(struct agent *agent, struct link_call *call,
                               const ProtobufCMessage *message)
{
    return file_stream_search(agent, call, (const Hearth__Agent__V1__FileSearchRequest *)message);
}

static bool stream_tree_export(struct agent *agent, struct link_call *call,
                               const ProtobufCMessage *message)
{
    return tree_stream_export(agent, call, (const Hearth__Agent__V1__TreeExportRequest *)message);
}

static bool stream_tree_scan(struct agent *agent, struct link_call *call,
                             const ProtobufCMessage *message)
{
    return tree_stream_scan(agent, call, (const Hearth__Agent__V1__TreeScanRequest *)message);
}

static const struct method methods[] = {
    {"Hello", &hearth__agent__v1__hello_request__descriptor, handle_hello, NULL, NULL},
    {"Configure", &hearth__agent__v1__configure_request__descriptor, handle_configure, NULL, NULL},
    {"ExecStart", &hearth__agent__v1__exec_start_request__descriptor, handle_exec_start, NULL,
     NULL},
    {"ExecRead", &hearth__agent__v1__exec_read_request__descriptor, handle_exec_read, NULL, NULL},
    {"ExecInput", &hearth__agent__v1__exec_input_request__descriptor, handle_exec_input, NULL,
     NULL},
    {"ExecCancel", &hearth__agent__v1__exec_cancel_request__descriptor, handle_exec_cancel, NULL,
     NULL},
    {"ExecList", &hearth__agent__v1__empty__descriptor, handle_list_execs, NULL, NULL},
    {"ExecForget", &hearth__agent__v1__exec_forget_request__descriptor, handle_exec_forget, NULL,
     NULL},
    {"ShellOpen", &hearth__agent__v1__shell_open_request__descriptor, handle_shell_open, NULL,
     NULL},
    {"ShellRead", &hearth__agent__v1__shell_read_request__descriptor, handle_shell_read, NULL,
     NULL},
    {"ShellInput", &hearth__agent__v1__shell_input_request__descriptor, handle_shell_input, NULL,
     NULL},
    {"ShellSignal", &hearth__agent__v1__shell_signal_request__descriptor, handle_shell_signal, NULL,
     NULL},
    {"ShellResize", &hearth__agent__v1__shell_resize_request__descriptor, handle_shell_resize, NULL,
     NULL},
    {"ShellClose", &hearth__agent__v1__shell_close_request__descriptor, handle_shell_close, NULL,
     NULL},
    {"ShellList", &hearth__agent__v1__empty__descriptor, handle_list_shells, NULL, NULL},
    {"FileStat", &hearth__agent__v1__file_stat_request__descriptor, handle_file_stat, NULL, NULL},
    {"FileList", &hearth__agent__v1__file_list_request__descriptor, handle_file_list, NULL, NULL},
    {"FileRead", &hearth__agent__v1__file_read_request__descriptor, NULL, NULL, stream_file_read},
    {"FileWrite", NULL, NULL, file_accept_write, NULL},
    {"FileDelete", &hearth__agent__v1__file_delete_request__descriptor, handle_file_delete, NULL,
     NULL},
    {"DirectoryMake", &hearth__agent__v1__directory_make_request__descriptor, handle_directory_make,
     NULL, NULL},
    {"FileMove", &hearth__agent__v1__file_move_request__descriptor, handle_file_move, NULL, NULL},
    {"FileSearch", &hearth__agent__v1__file_search_request__descriptor, NULL, NULL,
     stream_file_search},
    {"FilesChange", NULL, NULL, files_accept_change, NULL},
    {"TreeExport", &hearth__agent__v1__tree_export_request__descriptor, NULL, NULL,
     stream_tree_export},
    {"TreeApply", NULL, NULL, tree_accept_apply, NULL},
    {"TreeRead", NULL, NULL, tree_accept_read, NULL},
    {"TreeScan", &hearth__agent__v1__tree_scan_request__descriptor, NULL, NULL, stream_tree_scan},
    {"ServiceStart", &hearth__agent__v1__service_start_request__descriptor, handle_service_start,
     NULL, NULL},
    {"ServiceStop", &hearth__agent__v1__service_stop_request__descriptor, handle_service_stop, NULL,
     NULL},
    {"ServiceWatch", &hearth__agent__v1__service_watch_request__descriptor, handle_service_watch,
     NULL, NULL},
    {"ServiceLogs", &hearth__agent__v1__service_logs_request__descriptor, handle_service_logs, NULL,
     NULL},
    {"PortDial", NULL, NULL, port_accept_dial, NULL},
    {"Shutdown", &hearth__agent__v1__shutdown_request__descriptor, handle_shutdown, NULL, NULL},
};

/* Calls. */

static void unary_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct unary *unary = arg;
    if (unary->received) {
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "one message was expected");
        return;
    }
    unary->received = true;
    ProtobufCMessage *request =
        protobuf_c_message_unpack(unary->method->request, NULL, length, data);
    if (!request) {
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "the message cannot be read");
        return;
    }
    if (!unary->method->stream)
        unary->method->handle(unary->agent, call, request);
    else if (unary->method->stream(unary->agent, call, request))
        free(unary); /* its events are another's now */
    protobuf_c_message_free_unpacked(request, NULL);
}

static void unary_half_closed(struct link_call *call, void *arg)
{
    const struct unary *unary = arg;
    if (!unary->received)
        call_refuse(call, LINK_STATUS_INVALID_ARGUMENT, "a message was expected");
}

static void unary_end(struct link_call *call, void *arg, enum link_status status,
                      const char *message)
{
    struct unary *unary = arg;
    (void)message;
    if (status != LINK_STATUS_OK)
        call_gone(unary->agent, call);
    free(unary);
}

static const struct link_call_events unary_events = {
    .on_message = unary_message, .on_half_closed = unary_half_closed, .on_end = unary_end};

static void on_call(struct link *link, void *arg, struct link_call *call, const char *path)
{
    struct stream *stream = arg;
    const char *name = strncmp(path, AGENT_SERVICE, strlen(AGENT_SERVICE)) == 0
                           ? path + strlen(AGENT_SERVICE)
                           : "";
    (void)link;
    inside_find_root(stream->agent);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(methods[i].name, name) != 0)
            continue;
        if (methods[i].accept) {
            methods[i].accept(stream->agent, call);
            return;
        }
        struct unary *unary = calloc(1, sizeof *unary);
        if (!unary) {
            call_refuse(call, LINK_STATUS_RESOURCE_EXHAUSTED, "the agent is out of memory");
            return;
        }
        unary->agent = stream->agent;
        unary->method = &methods[i];
        link_call_accept(call, &unary_events, unary);
        return;
    }
    call_refuse(call, LINK_STATUS_UNIMPLEMENTED, "this agent has no such method");
}

/* Streams. */

static void drop_stream(struct stream *stream)
{
    list_remove(&stream->entry);
    link_free(stream->link);
    if (stream->closed)
        stream->closed(stream->closed_arg);
    free(stream);
}

static void on_down(struct link *link, void *arg, const struct hearth_failure *why)
{
    (void)link;
    log_debug("link_down", "%s", why->detail);
    drop_stream(arg);
}

static const struct link_events link_events = {.on_down = on_down, .on_call = on_call};

void agent_adopt_stream(struct agent *agent, int fd, void (*closed)(void *arg), void *arg)
{
    struct hearth_failure failure;
    unsigned count = 0;
    list_for_each(cursor, next, &agent->links) count++;
    /* The oldest gives way: a daemon that was killed may have left streams that nobody closes. */
    if (count >= LINKS_MAX)
        drop_stream(container_of(agent->links.next, struct stream, entry));
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        close(fd);
        if (closed)
            closed(arg);
        return;
    }
    *stream = (struct stream){.agent = agent, .closed = closed, .closed_arg = arg};
    list_init(&stream->entry);
    if (link_new_server(&stream->link, agent->base, fd, &link_events, stream, &failure)) {
        log_error("link_not_made", "%s", failure.detail);
        free(stream);
        if (closed)
            closed(arg);
        return;
    }
    list_append(&agent->links, &stream->entry);
}

/* Over vsock a process of the guest itself could call too: only the host is listened to. */
static bool is_host(const struct sockaddr_vm *peer)
{
    return peer->svm_family != AF_VSOCK || peer->svm_cid == VMADDR_CID_HOST;
}

static void on_connection(evutil_socket_t fd, short what, void *arg)
{
    struct sockaddr_vm peer = {0};
    socklen_t size = sizeof peer;
    (void)what;
    int connection = accept4(fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection >= 0 && !is_host(&peer))
        close(connection);
    else if (connection >= 0)
        agent_adopt_stream(arg, connection, NULL, NULL);
}

static void on_child(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    exec_reap(arg);
    stop_child_ended(arg);
}

static void on_terminate(evutil_socket_t fd, short what, void *arg)
{
    struct agent *agent = arg;
    (void)fd;
    (void)what;
    if (agent->stop.phase == STOP_NONE)
        stop_begin(agent, NULL);
}

int agent_begin(struct agent *agent)
{
    id_random_text(agent->boot_id, 32);
    agent->started_us = clock_monotonic_us();
    list_init(&agent->links);
    list_init(&agent->awaited);
    list_init(&agent->running);
    list_init(&agent->finished);
    shell_begin(agent);
    list_init(&agent->services);
    list_init(&agent->service_watchers);
    agent->service_revision = 1; /* 0 is before all */
    agent->jobs = jobs_new(agent);
    return agent->jobs ? 0 : -ENOMEM;
}

void agent_end(struct agent *agent)
{
    while (!list_empty(&agent->links))
        drop_stream(container_of(agent->links.next, struct stream, entry));
    serial_free(agent); /* the end of a link on the port is told to it */
    shell_free_all(agent);
    exec_free_all(agent);
    jobs_free(agent->jobs);
    stop_free(agent);
    service_free_all(agent);
    secrets_free(agent);
    tree_scan_free(agent);
}

static int listen_and_dispatch(struct agent *agent)
{
    struct event *child = evsignal_new(agent->base, SIGCHLD, on_child, agent);
    struct event *terminate = evsignal_new(agent->base, SIGTERM, on_terminate, agent);
    struct event *listener = NULL;
    if (!child || !terminate || event_add(child, NULL) < 0 || event_add(terminate, NULL) < 0)
        return -ENOMEM;
    if (agent->options.listen_fd >= 0) {
        fcntl(agent->options.listen_fd, F_SETFD, FD_CLOEXEC);
        fcntl(agent->options.listen_fd, F_SETFL,
              fcntl(agent->options.listen_fd, F_GETFL) | O_NONBLOCK);
        listener = event_new(agent->base, agent->options.listen_fd, EV_READ | EV_PERSIST,
                             on_connection, agent);
        if (!listener || event_add(listener, NULL) < 0)
            return -ENOMEM;
    }
    if (agent->options.connected_fd >= 0)
        agent_adopt_stream(agent, agent->options.connected_fd, NULL, NULL);
    if (agent->options.serial_fd >= 0 && serial_serve(agent, agent->options.serial_fd))
        return -ENOMEM;
    event_base_dispatch(agent->base);
    if (listener)
        event_free(listener);
    event_free(child);
    event_free(terminate);
    return 0;
}

int agent_serve(struct agent *agent)
{
    int error = agent_begin(agent);
    if (error)
        return error;
    error = listen_and_dispatch(agent);
    agent_end(agent);
    return error;
}
