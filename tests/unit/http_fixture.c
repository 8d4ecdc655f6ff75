#include "http_fixture.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_US (20 * US_PER_S)

struct loop *loop;
struct http_server *server;
struct seen seen;
static char directory[64], socket_path[96];

static void reply_text(struct http_request *request, int status, const char *text)
{
    struct buf body = {0};
    buf_text(&body, text);
    http_reply(request, status, "application/json", &body);
}

static int on_head(void *arg, struct http_request *request, struct http_plan *ret_plan,
                   struct hearth_failure *failure)
{
    (void)arg;
    const char *path = http_request_path(request);
    enum http_method method = http_request_method(request), wanted = HTTP_GET;
    *ret_plan = (struct http_plan){.body = HTTP_BODY_NONE};
    if (!strcmp(path, "/open")) {
        ret_plan->anonymous = true;
    } else if (!strcmp(path, "/json")) {
        wanted = HTTP_POST;
        *ret_plan = (struct http_plan){.body = HTTP_BODY_BUFFER, .body_limit = 1000};
    } else if (!strcmp(path, "/upload")) {
        wanted = HTTP_PUT;
        *ret_plan = (struct http_plan){.body = HTTP_BODY_STREAM, .body_limit = 1 << 20};
    } else if (strcmp(path, "/hello") && strncmp(path, "/echo/", 6) && strcmp(path, "/wait") &&
               strcmp(path, "/stream") && strcmp(path, "/problem")) {
        return hearth_fail(failure, HEARTH_ENOTFOUND, NULL, "there is nothing here");
    }
    if (method != wanted && !(wanted == HTTP_GET && method == HTTP_HEAD)) {
        http_request_header_out(request, "Allow", wanted == HTTP_GET ? "GET, HEAD" : "POST");
        return hearth_fail(failure, HEARTH_EINVALID, "method_not_allowed", "not this method");
    }
    return 0;
}

static void echo(struct http_request *request)
{
    struct buf body = {0};
    size_t count;
    const struct http_pair *query = http_request_query(request, &count);
    buf_text(&body, http_request_path(request) + 6);
    for (size_t i = 0; i < count; i++)
        buf_printf(&body, "|%s=%s", query[i].name, query[i].value);
    http_reply(request, 200, "text/plain", &body);
}

static void on_request(void *arg, struct http_request *request)
{
    (void)arg;
    const char *path = http_request_path(request);
    seen.requests++;
    if (!strncmp(path, "/echo/", 6)) {
        echo(request);
    } else if (!strcmp(path, "/json")) {
        struct buf body = {0};
        buf_append(&body, http_request_body(request)->data, http_request_body(request)->length);
        http_reply(request, 200, "application/json", &body);
    } else if (!strcmp(path, "/problem")) {
        struct hearth_failure failure;
        hearth_fail(&failure, HEARTH_ECONFLICT, "busy", "it is busy");
        http_reply_problem(request, &failure);
    } else if (!strcmp(path, "/upload") && seen.reply_at_head) {
        reply_text(request, 409, "{}");
    } else if (!strcmp(path, "/wait") || !strcmp(path, "/stream") || !strcmp(path, "/upload")) {
        seen.held = request;
    } else {
        reply_text(request, 200, "{\"ok\":true}");
    }
}

static void on_body(void *arg, struct http_request *request, const void *data, size_t length)
{
    (void)arg;
    (void)data;
    seen.body_bytes += length;
    if (seen.refuse_body) {
        seen.held = NULL;
        reply_text(request, 422, "{\"refused\":true}");
    } else if (seen.pause_body) {
        http_request_pause_body(request, true);
    }
}

static void on_body_end(void *arg, struct http_request *request)
{
    (void)arg;
    char text[32];
    seen.body_ends++;
    seen.held = NULL;
    snprintf(text, sizeof text, "%zu", seen.body_bytes);
    reply_text(request, 200, text);
}

static void on_gone(void *arg, struct http_request *request)
{
    (void)arg;
    if (seen.held == request)
        seen.held = NULL;
    seen.gone++;
}

static const struct http_handler handler = {
    .on_head = on_head,
    .on_request = on_request,
    .on_body = on_body,
    .on_body_end = on_body_end,
    .on_gone = on_gone,
};

void fixture_start(struct http_config config)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    seen = (struct seen){0};
    log_set_level(LOG_LEVEL_ERROR);
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
    strcpy(directory, "/tmp/hearth-http-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(socket_path, sizeof socket_path, "%s/hearthd.sock", directory);
    config.supervisor = supervisor_double(loop);
    if (!config.socket_path)
        config.socket_path = socket_path;
    if (!config.listen)
        config.listen = "127.0.0.1:0";
    http_server_new(&server, &config, &handler, NULL, &failure);
    ck_assert_msg(server != NULL, "%s", failure.detail);
}

void fixture_stop(void)
{
    http_server_free(server);
    server = NULL;
    loop_free(loop);
    unlink(socket_path);
    rmdir(directory);
}

const char *fixture_socket(void)
{
    return socket_path;
}

uint16_t fixture_port(void)
{
    return (uint16_t)strtoul(strrchr(http_server_url(server), ':') + 1, NULL, 10);
}

struct wait {
    struct timer timer;
    bool (*check)(void *arg);
    void *arg;
    int64_t until_us;
};

static void on_wait(void *arg)
{
    struct wait *wait = arg;
    if (wait->check(wait->arg)) {
        loop_stop(loop);
        return;
    }
    ck_assert_msg(clock_monotonic_us() < wait->until_us, "what was waited for did not come");
    timer_set(&wait->timer, clock_monotonic_us() + US_PER_MS);
}

void run_until(bool (*check)(void *arg), void *arg)
{
    struct wait wait = {.check = check, .arg = arg};
    wait.until_us = clock_monotonic_us() + PATIENCE_US;
    timer_init(&wait.timer, loop, on_wait, &wait);
    timer_set(&wait.timer, clock_monotonic_us());
    loop_run(loop);
    timer_free(&wait.timer);
}

static bool is_held(void *arg)
{
    (void)arg;
    return seen.held != NULL;
}

void run_until_held(void)
{
    run_until(is_held, NULL);
}

static bool is_gone(void *arg)
{
    return seen.gone >= *(unsigned *)arg;
}

void run_until_gone(unsigned count)
{
    run_until(is_gone, &count);
}

static bool countdown(void *arg)
{
    return --*(unsigned *)arg == 0;
}

void run_some(void)
{
    unsigned turns = 20;
    run_until(countdown, &turns);
}

static void on_input(void *arg)
{
    struct client *client = arg;
    char data[65536];
    ssize_t got = recv(client->fd, data, sizeof data, MSG_DONTWAIT);
    if (got > 0) {
        buf_append(&client->in, data, (size_t)got);
    } else if (got == 0 || errno != EAGAIN) {
        client->eof = true;
        client_stop_reading(client);
    }
}

void client_stop_reading(struct client *client)
{
    if (client->watching)
        watch_free(&client->watch);
    client->watching = false;
}

void client_start_reading(struct client *client)
{
    client->watching = true;
    ck_assert_int_eq(watch_init(&client->watch, loop, client->fd, on_input, client), 0);
}

static struct client *connect_to(const void *address, socklen_t length, int family)
{
    struct client *client = calloc(1, sizeof *client);
    client->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(client->fd, address, length), 0);
    client_start_reading(client);
    return client;
}

struct client *client_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(fixture_port())};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect_to(&address, sizeof address, AF_INET);
}

struct client *client_local(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, socket_path);
    return connect_to(&address, sizeof address, AF_UNIX);
}

void client_free(struct client *client)
{
    client_stop_reading(client);
    close(client->fd);
    buf_free(&client->in);
    free(client);
}

void client_send_bytes(struct client *client, const void *data, size_t length)
{
    const char *cursor = data;
    while (length) {
        ssize_t sent = send(client->fd, cursor, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            run_some();
            continue;
        }
        if (sent < 0) {
            client->send_failed = true;
            return;
        }
        cursor += sent;
        length -= (size_t)sent;
    }
}

void client_send(struct client *client, const char *text)
{
    client_send_bytes(client, text, strlen(text));
}

/* Joins chunks into body; gives the length of the whole, 0 where it is not there yet. */
static size_t take_chunks(const char *text, const char *end, struct buf *body)
{
    const char *cursor = text;
    buf_clear(body);
    for (;;) {
        const char *line = memmem(cursor, (size_t)(end - cursor), "\r\n", 2);
        if (!line)
            return 0;
        size_t size = strtoul(cursor, NULL, 16);
        if ((size_t)(end - line) < size + 4)
            return 0;
        buf_append(body, line + 2, size);
        cursor = line + 2 + size + 2;
        if (size == 0)
            return (size_t)(cursor - text);
    }
}

struct take {
    struct client *client;
    struct reply *reply;
};

static bool take_reply(void *arg)
{
    struct take *take = arg;
    struct buf *in = &take->client->in;
    struct reply *reply = take->reply;
    char *head_end = in->length ? memmem(in->data, in->length, "\r\n\r\n", 4) : NULL;
    if (!head_end)
        return take->client->eof;
    size_t head_length = (size_t)(head_end - in->data) + 4;
    snprintf(reply->head, sizeof reply->head, "%.*s", (int)head_length, in->data);
    reply->status = (int)strtol(in->data + strlen("HTTP/1.1 "), NULL, 10);
    size_t whole = head_length;
    const char *length_text = strcasestr(reply->head, "\r\nContent-Length: ");
    if (reply->status != 100 && strcasestr(reply->head, "\r\nTransfer-Encoding: chunked")) {
        size_t chunks = take_chunks(head_end + 4, in->data + in->length, &reply->body);
        if (!chunks)
            return false;
        whole += chunks;
    } else if (length_text) {
        size_t length = strtoul(length_text + strlen("\r\nContent-Length: "), NULL, 10);
        if (in->length < head_length + length)
            return false;
        buf_clear(&reply->body);
        buf_append(&reply->body, head_end + 4, length);
        whole += length;
    }
    buf_consume(in, whole);
    return true;
}

void client_reply(struct client *client, struct reply *ret_reply)
{
    buf_free(&ret_reply->body);
    *ret_reply = (struct reply){0};
    run_until(take_reply, &(struct take){client, ret_reply});
}

static bool at_eof(void *arg)
{
    return ((struct client *)arg)->eof;
}

void client_until_eof(struct client *client)
{
    run_until(at_eof, client);
}

bool reply_has(const struct reply *reply, const char *header_line)
{
    char line[256];
    snprintf(line, sizeof line, "\r\n%s\r\n", header_line);
    return strcasestr(reply->head, line) != NULL;
}

int status_of(const char *bytes, size_t length, struct reply *ret_reply, bool *ret_closed)
{
    struct client *client = client_tcp();
    client_send_bytes(client, bytes, length);
    client_reply(client, ret_reply);
    run_some();
    *ret_closed = client->eof;
    client_free(client);
    return ret_reply->status;
}

void client_get(struct client *client, const char *path)
{
    char text[512];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n" AUTH "\r\n", path);
    client_send(client, text);
}

void fixture_reply(const char *text)
{
    struct buf body = {0};
    struct http_request *held = seen.held;
    buf_text(&body, text);
    seen.held = NULL;
    http_reply(held, 200, "text/plain", &body);
}

struct http_stats fixture_stats(void)
{
    struct http_stats now;
    http_server_get_stats(server, &now);
    return now;
}

static void on_writable(void *arg)
{
    (void)arg;
    seen.writable++;
}

const struct http_stream_events fixture_stream_events = {.on_writable = on_writable};

struct client *client_stream(int64_t length)
{
    struct client *client = client_local();
    client_get(client, "/stream");
    run_until_held();
    http_stream_begin(seen.held, 200, "text/plain", length, &fixture_stream_events, NULL);
    return client;
}
