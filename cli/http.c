#include "cli/http.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CONNECT_TIMEOUT_S 10L
#define REPLY_MAX ((size_t)256 << 20)

struct http {
    CURL *curl;
    struct endpoint endpoint;
};

/* What the callbacks of one request share. */
struct exchange {
    struct http *http;
    const struct http_request *request;
    struct buf *body;
    struct curl_slist *headers;
    bool gave_up; /* our read or write did */
};

void endpoint_free(struct endpoint *endpoint)
{
    free(endpoint->url);
    free(endpoint->socket_path);
    free(endpoint->token);
    *endpoint = (struct endpoint){0};
}

int http_open(struct http **ret_http, struct endpoint *endpoint, struct hearth_failure *failure)
{
    /* TLS costs milliseconds to set up and is not needed for a socket or loopback. */
    bool tls = !strncmp(endpoint->url, "https:", 6);
    struct http *http = calloc(1, sizeof *http);
    if (!http || curl_global_init(tls ? CURL_GLOBAL_SSL : CURL_GLOBAL_NOTHING) ||
        !(http->curl = curl_easy_init())) {
        free(http);
        return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    }
    http->endpoint = *endpoint;
    *endpoint = (struct endpoint){0};
    *ret_http = http;
    return 0;
}

void http_close(struct http *http)
{
    if (!http)
        return;
    curl_easy_cleanup(http->curl);
    endpoint_free(&http->endpoint);
    free(http);
}

bool http_socket_answers(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof address.sun_path)
        return false;
    strcpy(address.sun_path, socket_path);

    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
}

int http_escape(struct buf *out, const char *text)
{
    for (const char *at = text; *at; at++) {
        bool plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                     (*at >= '0' && *at <= '9') || strchr("-._~", *at);
        int error = plain ? buf_char(out, *at) : buf_printf(out, "%%%02X", (unsigned char)*at);
        if (error)
            return error;
    }
    return 0;
}

static size_t on_read(char *out, size_t size, size_t count, void *arg)
{
    struct exchange *exchange = arg;
    ssize_t got = exchange->request->read(exchange->request->read_arg, out, size * count);
    if (got < 0) {
        exchange->gave_up = true;
        return CURL_READFUNC_ABORT;
    }
    return (size_t)got;
}

static size_t on_write(char *data, size_t size, size_t count, void *arg)
{
    struct exchange *exchange = arg;
    const struct http_request *request = exchange->request;
    size_t length = size * count;

    long status = 0;
    curl_easy_getinfo(exchange->http->curl, CURLINFO_RESPONSE_CODE, &status);
    if (request->write && status >= 200 && status < 300) {
        if (request->write(request->write_arg, data, length) < 0) {
            exchange->gave_up = true;
            return 0;
        }
        return length;
    }
    return buf_append(exchange->body, data, length) ? 0 : length;
}

static bool add_header(struct exchange *exchange, const char *name, const char *value)
{
    auto_buf struct buf line = {0};
    if (buf_printf(&line, "%s: %s", name, value))
        return false;
    struct curl_slist *headers = curl_slist_append(exchange->headers, line.data);
    if (headers)
        exchange->headers = headers;
    return headers != NULL;
}

static bool set_headers(struct exchange *exchange)
{
    const struct http_request *request = exchange->request;
    const char *token = exchange->http->endpoint.token;

    bool ok =
        add_header(exchange, "Accept", request->accept ? request->accept : "application/json");
    if (request->range)
        ok = ok && add_header(exchange, "Range", request->range);
    if (token) {
        auto_buf struct buf value = {0};
        ok = ok && !buf_printf(&value, "Bearer %s", token) &&
             add_header(exchange, "Authorization", value.data);
    }
    if (request->read)
        ok = ok && add_header(exchange, "Content-Type", request->content_type);
    else if (request->body)
        ok = ok && add_header(exchange, "Content-Type", "application/json");
    return ok;
}

static bool set_options(struct exchange *exchange)
{
    const struct http_request *request = exchange->request;
    struct http *http = exchange->http;
    CURL *curl = http->curl;
    auto_buf struct buf url = {0};

    curl_easy_reset(curl);
    if (!set_headers(exchange) || buf_printf(&url, "%s%s", http->endpoint.url, request->path))
        return false;
    bool ok = !curl_easy_setopt(curl, CURLOPT_URL, url.data) &&
              !curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method) &&
              !curl_easy_setopt(curl, CURLOPT_HTTPHEADER, exchange->headers) &&
              !curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write) &&
              !curl_easy_setopt(curl, CURLOPT_WRITEDATA, exchange) &&
              !curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S) &&
              !curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) &&
              /* Nothing from the environment: the daemon is local or named in full. */
              !curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    if (ok && http->endpoint.socket_path)
        ok = !curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, http->endpoint.socket_path);
    if (ok && request->read) {
        ok = !curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L) &&
             !curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10) &&
             !curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read) &&
             !curl_easy_setopt(curl, CURLOPT_READDATA, exchange);
    } else if (ok && request->body) {
        ok = !curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)strlen(request->body)) &&
             !curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
    }
    return ok;
}

static void copy_member(const cJSON *problem, const char *name, char *out, size_t size)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(problem, name);
    if (cJSON_IsString(member))
        snprintf(out, size, "%s", member->valuestring);
}

static enum hearth_error error_of_status(long status)
{
    switch (status) {
    case 400:
        return HEARTH_EMALFORMED;
    case 401:
        return HEARTH_EUNAUTHENTICATED;
    case 403:
        return HEARTH_EFORBIDDEN;
    case 404:
        return HEARTH_ENOTFOUND;
    case 409:
        return HEARTH_ECONFLICT;
    case 413:
        return HEARTH_ETOOLARGE;
    case 415:
        return HEARTH_EMEDIATYPE;
    case 422:
        return HEARTH_EINVALID;
    case 429:
        return HEARTH_EQUOTA;
    case 503:
        return HEARTH_EUNAVAILABLE;
    case 504:
        return HEARTH_ETIMEDOUT;
    case 507:
        return HEARTH_ENOSPACE;
    default:
        return HEARTH_EINTERNAL;
    }
}

int http_problem_failure(const cJSON *problem, long status, struct hearth_failure *failure)
{
    enum hearth_error error = error_of_status(status);
    hearth_fail(failure, error, "http_error", "the daemon answered %ld", status);
    if (failure) {
        copy_member(problem, "code", failure->code, sizeof failure->code);
        copy_member(problem, "detail", failure->detail, sizeof failure->detail);
        copy_member(problem, "field", failure->field, sizeof failure->field);
        copy_member(problem, "hint", failure->hint, sizeof failure->hint);
    }
    return error;
}

/* What came with a status that is no success. */
static int fail_with_reply(struct buf *body, long status, struct hearth_failure *failure)
{
    cJSON *problem = body->data ? cJSON_ParseWithLength(body->data, body->length) : NULL;
    if (!cJSON_IsObject(problem))
        buf_clear(body); /* not ours (a proxy's page, say): it is not shown as if it were */
    int error = http_problem_failure(problem, status, failure);
    cJSON_Delete(problem);
    return error;
}

static int fail_with_curl(const struct exchange *exchange, CURLcode code,
                          struct hearth_failure *failure)
{
    const struct endpoint *endpoint = &exchange->http->endpoint;
    const char *where = endpoint->socket_path ? endpoint->socket_path : endpoint->url;

    if (exchange->gave_up && exchange->request->own_failure) {
        *failure = *exchange->request->own_failure;
        return failure->error;
    }
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
        int error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "daemon_unreachable",
                                "no hearthd answers at %s", where);
        hearth_failure_hint(failure, "start it, or set HEARTH_URL to where it is");
        return error;
    }
    return hearth_fail(failure, HEARTH_EIO, "connection_lost", "talking to hearthd at %s: %s",
                       where, curl_easy_strerror(code));
}

int http_perform(struct http *http, const struct http_request *request, struct buf *ret_body,
                 struct hearth_failure *failure)
{
    struct exchange exchange = {.http = http, .request = request, .body = ret_body};
    buf_clear(ret_body);
    ret_body->limit = REPLY_MAX;

    if (!set_options(&exchange)) {
        curl_slist_free_all(exchange.headers);
        return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    }
    CURLcode code = curl_easy_perform(http->curl);
    long status = 0;
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(exchange.headers);

    /* An upload that was refused while it was sent ends in an error of sending; the refusal is what
     * counts. */
    if (status >= 300 && !exchange.gave_up)
        return fail_with_reply(ret_body, status, failure);
    if (code != CURLE_OK)
        return fail_with_curl(&exchange, code, failure);
    if (status < 200)
        return hearth_fail(failure, HEARTH_EIO, "bad_reply", "the daemon's answer has no status");
    return 0;
}
