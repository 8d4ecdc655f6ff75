#include "api/shell_attach.h"

#include "api/relay_head.h"
#include "base/shell_frame.h"
#include "supervisord/shell.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HIGH_WATER ((size_t)256 << 10)
#define SHOWN_BEFORE 16384 /* characters that were there before, at most */
#define READ_CHARACTERS 16384

struct attached {
    struct request_owner owner;
    struct api *api;
    struct http_request *request; /* NULL: the connection is over */
    struct bufferevent *client;   /* NULL before it is upgraded, and when it is over */
    struct principal principal;
    char workspace_id[ID_SIZE], shell_id[ID_SIZE];
    uint64_t cursor;
    unsigned asking; /* questions under way: none is answered after it is freed */
    bool reading, writing, behind, begun, ended;
};

static void free_if_over(struct attached *attached)
{
    if (!attached->request && !attached->asking)
        free(attached);
}

static void hang_up(struct attached *attached)
{
    struct http_request *request = steal_pointer(attached->request);
    if (attached->client)
        bufferevent_free(steal_pointer(attached->client));
    if (request)
        http_upgrade_close(request);
    free_if_over(attached);
}

static void send_frame(struct attached *attached, char type, const void *data, size_t length)
{
    unsigned char head[SHELL_FRAME_HEAD];
    shell_frame_write(head, type, length);
    bufferevent_write(attached->client, head, sizeof head);
    bufferevent_write(attached->client, data, length);
}

/* The last frame; the client ends the connection after it. */
static void send_end(struct attached *attached, const struct shell_status *status,
                     const struct hearth_failure *failure)
{
    auto_buf struct buf text = {0};
    struct json_writer json = JSON_WRITER(&text);
    json_object_begin(&json, NULL);
    json_string(&json, "reason", failure ? failure->code : "shell_ended");
    if (failure)
        json_string(&json, "detail", failure->detail);
    if (status && status->exit_known)
        json_integer(&json, "exit_code", status->exit_code);
    else
        json_null(&json, "exit_code");
    json_object_end(&json);
    attached->ended = true;
    send_frame(attached, 'E', text.data, text.length);
}

static struct workspace *workspace_of(struct attached *attached, struct hearth_failure *failure)
{
    return workspace_find(&attached->principal, attached->workspace_id, failure);
}

/* Output. */

static void read_on(struct attached *attached);

/* What was there before begins with a whole line, where it is cut. */
static void send_output(struct attached *attached, const struct shell_status *status)
{
    const char *data = status->output;
    size_t length = status->output_length;
    const char *line =
        !attached->begun && status->cursor && length ? memchr(data, '\n', length) : NULL;
    attached->begun = true;
    if (line) {
        length -= (size_t)(line + 1 - data);
        data = line + 1;
    }
    if (length)
        send_frame(attached, 'O', data, length);
}

static void was_read(void *arg, int error, const struct hearth_failure *failure,
                     const struct shell_status *status)
{
    struct attached *attached = arg;
    attached->asking--;
    attached->reading = false;
    if (!attached->client) {
        free_if_over(attached);
        return;
    }
    if (error) {
        /* Where the guest stopped between two reads, or is being stopped or started, its shell has
         * ended all the same. */
        bool stopped = strcmp(failure->code, "workspace_not_started") == 0 ||
                       strcmp(failure->code, "workspace_busy") == 0;
        send_end(attached, NULL, stopped ? NULL : failure);
        return;
    }
    bool all = status->next_cursor >= status->total;
    send_output(attached, status);
    attached->cursor = status->next_cursor;
    if (!status->running && all)
        send_end(attached, status, NULL);
    else
        read_on(attached);
}

static void read_now(void *arg)
{
    struct attached *attached = arg;
    const struct shell_read_spec spec = {.cursor = attached->cursor,
                                         .max_characters = READ_CHARACTERS,
                                         .wait_ms = SHELL_IDLE_WAIT_MAX_MS};
    struct hearth_failure failure;
    struct workspace *workspace = workspace_of(attached, &failure);
    if (workspace)
        shell_read(workspace, attached->shell_id, &spec, was_read, attached);
    else
        was_read(attached, (int)failure.error, &failure, NULL);
}

static void read_on(struct attached *attached)
{
    struct hearth_failure failure;
    if (attached->reading || attached->ended)
        return;
    attached->behind = evbuffer_get_length(bufferevent_get_output(attached->client)) >= HIGH_WATER;
    if (attached->behind)
        return; /* until it has taken what there is */
    struct workspace *workspace = workspace_of(attached, &failure);
    if (!workspace) {
        send_end(attached, NULL, &failure);
        return;
    }
    attached->reading = true;
    attached->asking++;
    if (!workspace_wake(workspace, true, read_now, attached))
        read_now(attached);
}

/* Input. */

static void take_frames(struct attached *attached);

/* A shell that has ended says so by its output's end; one that is full takes no more just now. */
static void was_done(void *arg, int error, const struct hearth_failure *failure,
                     const struct shell_status *status)
{
    struct attached *attached = arg;
    (void)error;
    (void)failure;
    (void)status;
    attached->asking--;
    attached->writing = false;
    if (!attached->client) {
        free_if_over(attached);
        return;
    }
    bufferevent_enable(attached->client, EV_READ);
    take_frames(attached);
}

static void awake(void *arg)
{
    was_done(arg, 0, NULL, NULL);
}

/* True: it is suspended, and the input is taken when it is there again. */
static bool waits_for_guest(struct attached *attached)
{
    struct hearth_failure failure;
    struct workspace *workspace = workspace_of(attached, &failure);
    if (!workspace || !workspace_wake(workspace, true, awake, attached))
        return false;
    attached->writing = true;
    attached->asking++;
    return true;
}

static unsigned within(unsigned value, unsigned least, unsigned most)
{
    return value < least ? least : value > most ? most : value;
}

/* False: it is no frame of ours. */
static bool act(struct attached *attached, char type, const unsigned char *data, size_t length)
{
    struct hearth_failure failure;
    struct workspace *workspace = workspace_of(attached, &failure);
    if ((type != 'I' && type != 'R') || (type == 'R' && length != 4))
        return false;
    if (!workspace || !length)
        return true;
    attached->writing = true;
    attached->asking++;
    if (type == 'I')
        shell_write(workspace, attached->shell_id, (const char *)data, length, was_done, attached);
    else
        shell_resize(workspace, attached->shell_id,
                     within((unsigned)data[0] << 8 | data[1], SHELL_COLS_MIN, SHELL_COLS_MAX),
                     within((unsigned)data[2] << 8 | data[3], SHELL_ROWS_MIN, SHELL_ROWS_MAX),
                     was_done, attached);
    return true;
}

/* One at a time: what comes meanwhile stays with the client. */
static void take_frames(struct attached *attached)
{
    struct evbuffer *input = bufferevent_get_input(attached->client);
    while (!attached->writing) {
        unsigned char head[SHELL_FRAME_HEAD];
        if (evbuffer_copyout(input, head, sizeof head) < (ev_ssize_t)sizeof head)
            return;
        size_t length = shell_frame_length(head);
        if (length > SHELL_FRAME_MAX) {
            hang_up(attached);
            return;
        }
        if (evbuffer_get_length(input) < sizeof head + length)
            return;
        if (waits_for_guest(attached))
            break;
        auto_free unsigned char *data = malloc(length + 1);
        if (!data)
            abort();
        evbuffer_drain(input, sizeof head);
        evbuffer_remove(input, data, length);
        if (!act(attached, (char)head[0], data, length)) {
            hang_up(attached);
            return;
        }
    }
    bufferevent_disable(attached->client, EV_READ);
}

static void on_read(struct bufferevent *client, void *arg)
{
    (void)client;
    take_frames(arg);
}

static void on_write(struct bufferevent *client, void *arg)
{
    struct attached *attached = arg;
    (void)client;
    if (attached->behind)
        read_on(attached);
}

static void on_event(struct bufferevent *client, short what, void *arg)
{
    (void)client;
    (void)what;
    hang_up(arg);
}

/* Beginning. */

static void on_taken(void *arg, int fd, const void *extra, size_t length)
{
    struct attached *attached = arg;
    if (fd < 0) {
        attached->request = NULL;
        free_if_over(attached);
        return;
    }
    struct event_base *base = loop_base(supervisor_loop(attached->api->supervisor));
    attached->client = bufferevent_socket_new(base, fd, 0);
    if (!attached->client)
        abort();
    bufferevent_setcb(attached->client, on_read, on_write, on_event, attached);
    bufferevent_setwatermark(attached->client, EV_READ, 0, SHELL_FRAME_HEAD + SHELL_FRAME_MAX);
    bufferevent_enable(attached->client, EV_READ | EV_WRITE);
    /* Frames that came with the head go before what comes. */
    if (length) {
        struct evbuffer *input = bufferevent_get_input(attached->client);
        evbuffer_prepend(input, extra, length);
        take_frames(attached);
    }
    if (attached->client)
        read_on(attached);
}

static void on_drain(void *arg)
{
    hang_up(arg);
}

static const struct http_upgrade_events upgrade_events = {.on_taken = on_taken,
                                                          .on_drain = on_drain};

static void found(void *arg, int error, const struct hearth_failure *failure,
                  const struct shell_status *status)
{
    struct attached *attached = arg;
    struct http_request *request = attached->request;
    attached->asking--;
    if (!request) {
        free_if_over(attached);
        return;
    }
    http_request_set_data(request, NULL);
    if (error) {
        attached->request = NULL;
        http_reply_problem(request, failure);
        free_if_over(attached);
        return;
    }
    attached->cursor = status->total > SHOWN_BEFORE ? status->total - SHOWN_BEFORE : 0;
    http_request_header_out(request, "Upgrade", SHELL_PROTOCOL);
    http_upgrade(request, &upgrade_events, attached);
}

static void on_gone(struct request_owner *owner)
{
    container_of(owner, struct attached, owner)->request = NULL; /* `found` is to come */
}

static int check(struct http_request *request, const struct route *route,
                 struct hearth_failure *failure)
{
    const char *wanted = http_request_header(request, "Upgrade");
    if (wanted && strcasecmp(wanted, SHELL_PROTOCOL) == 0 &&
        relay_list_has(http_request_header(request, "Connection"), "upgrade"))
        return rights_check(http_request_principal(request), route->entry, failure);
    http_request_header_out(request, "Upgrade", SHELL_PROTOCOL);
    int error = hearth_fail(failure, HEARTH_EINVALID, "upgrade_required",
                            "this resource speaks %s alone", SHELL_PROTOCOL);
    hearth_failure_hint(failure,
                        "Send `Connection: Upgrade` and `Upgrade: %s`, or use "
                        "shell_read and shell_write.",
                        SHELL_PROTOCOL);
    return error;
}

static void find_shell(void *arg)
{
    struct attached *attached = arg;
    const struct shell_read_spec spec = {.cursor = INT64_MAX, .max_characters = 1};
    struct hearth_failure failure;
    struct workspace *workspace = workspace_of(attached, &failure);
    if (workspace)
        shell_read(workspace, attached->shell_id, &spec, found, attached);
    else
        found(attached, (int)failure.error, &failure, NULL);
}

void shell_attach_serve(struct api *api, struct http_request *request, const struct route *route)
{
    struct hearth_failure failure;
    struct workspace *workspace = NULL;
    if (!check(request, route, &failure))
        workspace =
            workspace_find(http_request_principal(request), route->parameters[0].value, &failure);
    if (!workspace) {
        http_reply_problem(request, &failure);
        return;
    }
    struct attached *attached = calloc(1, sizeof *attached);
    if (!attached)
        abort();
    attached->owner.on_gone = on_gone;
    attached->api = api;
    attached->request = request;
    attached->principal = *http_request_principal(request);
    snprintf(attached->workspace_id, sizeof attached->workspace_id, "%.*s",
             (int)sizeof attached->workspace_id - 1, route->parameters[0].value);
    snprintf(attached->shell_id, sizeof attached->shell_id, "%.*s",
             (int)sizeof attached->shell_id - 1, route->parameters[1].value);
    attached->asking = 1;
    http_request_set_data(request, &attached->owner);
    http_request_long(request);
    if (!workspace_wake(workspace, true, find_shell, attached))
        find_shell(attached);
}
