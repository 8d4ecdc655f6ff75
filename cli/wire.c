#include "cli/wire.h"

#include "base/text.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_S 10L
#define HEAD_MAX 65536

static int lost(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_EIO, "connection_lost", "the daemon ended the connection");
}

int wire_open(struct wire *wire, const struct endpoint *endpoint, struct hearth_failure *failure)
{
    CURL *curl = curl_easy_init();
    curl_socket_t fd = CURL_SOCKET_BAD;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    *wire = (struct wire){.curl = curl, .fd = -1, .endpoint = endpoint};
    if (curl && !curl_easy_setopt(curl, CURLOPT_URL, endpoint->url) &&
        !curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L) &&
        !curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S) &&
        !curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) &&
        !curl_easy_setopt(curl, CURLOPT_NOPROXY, "*") &&
        !curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, endpoint->socket_path))
        code = curl_easy_perform(curl);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &fd);
    if (code == CURLE_OK && fd != CURL_SOCKET_BAD) {
        wire->fd = fd;
        return 0;
    }
    wire_close(wire);
    return hearth_fail(
        failure, HEARTH_EUNAVAILABLE, "daemon_unreachable", "no hearthd answers at %s: %s",
        endpoint->socket_path ? endpoint->socket_path : endpoint->url, curl_easy_strerror(code));
}

void wire_close(struct wire *wire)
{
    curl_easy_cleanup(wire->curl);
    wire->curl = NULL;
    wire->fd = -1;
}

ssize_t wire_send(struct wire *wire, const void *data, size_t length)
{
    size_t sent = 0;
    CURLcode code = curl_easy_send(wire->curl, data, length, &sent);
    return code == CURLE_AGAIN ? 0 : code == CURLE_OK ? (ssize_t)sent : -1;
}

ssize_t wire_receive(struct wire *wire, void *out, size_t size)
{
    size_t got = 0;
    CURLcode code = curl_easy_recv(wire->curl, out, size, &got);
    return code == CURLE_AGAIN ? 0 : code == CURLE_OK && got ? (ssize_t)got : -1;
}

static void wait_for(const struct wire *wire, short events)
{
    struct pollfd poll_fd = {.fd = wire->fd, .events = events};
    poll(&poll_fd, 1, -1);
}

int wire_ask(struct wire *wire, const char *method, const char *path, const char *version,
             const char *headers, struct hearth_failure *failure)
{
    auto_buf struct buf head = {0};
    const struct endpoint *endpoint = wire->endpoint;
    const char *host = strstr(endpoint->url, "://") + 3;
    size_t host_length = strcspn(host, "/");
    int error = buf_printf(&head, "%s %s%s %s\r\nHost: %.*s\r\n%s", method, host + host_length,
                           path, version, (int)host_length, host, headers);
    if (!error && endpoint->token)
        error = buf_printf(&head, "Authorization: Bearer %s\r\n", endpoint->token);
    if (error || buf_text(&head, "\r\n"))
        return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    for (size_t sent = 0; sent < head.length;) {
        ssize_t more = wire_send(wire, head.data + sent, head.length - sent);
        if (more < 0)
            return lost(failure);
        if (more == 0)
            wait_for(wire, POLLOUT);
        sent += (size_t)more;
    }
    return 0;
}

/* The length that a head announces; without one all counts that comes. */
static size_t announced(const char *head)
{
    const char *line = strcasestr(head, "\r\nContent-Length:");
    return line ? strtoul(line + strlen("\r\nContent-Length:"), NULL, 10) : HEAD_MAX;
}

static int refused(struct wire *wire, struct buf *body, size_t length, long status,
                   struct hearth_failure *failure)
{
    char piece[4096];
    ssize_t got;
    while (body->length < length && body->length < HEAD_MAX &&
           (got = wire_receive(wire, piece, sizeof piece)) >= 0) {
        if (got == 0)
            wait_for(wire, POLLIN);
        else if (buf_append(body, piece, (size_t)got))
            break;
    }
    cJSON *problem = body->length ? cJSON_ParseWithLength(body->data, body->length) : NULL;
    int error = http_problem_failure(problem, status, failure);
    cJSON_Delete(problem);
    return error;
}

int wire_answer(struct wire *wire, struct buf *rest, struct hearth_failure *failure)
{
    auto_buf struct buf head = {0};
    char piece[4096];
    char *end = NULL;
    long status = 0;
    while (!end) {
        ssize_t got = wire_receive(wire, piece, sizeof piece);
        if (got < 0 || head.length > HEAD_MAX ||
            buf_append(&head, piece, (size_t)(got > 0 ? got : 0)))
            return lost(failure);
        if (got == 0)
            wait_for(wire, POLLIN);
        else
            end = memmem(head.data, head.length, "\r\n\r\n", 4);
    }
    size_t length = (size_t)(end - head.data) + 4;
    if (sscanf(head.data, "HTTP/1.%*1d %3ld", &status) != 1)
        return hearth_fail(failure, HEARTH_EIO, "bad_reply", "the daemon's answer is not HTTP");
    if (buf_append(rest, head.data + length, head.length - length))
        return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    return status == 101 || (status >= 200 && status < 300)
               ? 0
               : refused(wire, rest, announced(head.data), status, failure);
}
