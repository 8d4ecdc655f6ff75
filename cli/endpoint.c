#include "cli/endpoint.h"

#include "base/text.h"
#include "cli/private_daemon.h"

#include <fcntl.h>
#include <string.h>

#define SYSTEM_SOCKET "/run/hearth/hearthd.sock"
#define TOKEN_MAX 512

static int out_of_memory(struct hearth_failure *failure)
{
    return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
}

/* Set and not empty, else NULL. */
static const char *environment_text(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static int find_token(char **ret_token, struct hearth_failure *failure)
{
    const char *token = environment_text("HEARTH_TOKEN");
    const char *file = environment_text("HEARTH_TOKEN_FILE");
    char text[TOKEN_MAX];

    if (!token && file) {
        auto_close int fd = open(file, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (length < 0)
            return hearth_fail(failure, HEARTH_EINVALID, "bad_token_file",
                               "HEARTH_TOKEN_FILE: %s cannot be read", file);
        text[length] = '\0';
        token = text;
    }
    if (!token)
        return 0;

    size_t length = strcspn(token, "\r\n");
    if (token[length + strspn(token + length, "\r\n")])
        return hearth_fail(failure, HEARTH_EINVALID, "bad_token",
                           "the token has more than one line");
    *ret_token = strndup(token, length);
    return *ret_token ? 0 : out_of_memory(failure);
}

static int use_socket(struct endpoint *endpoint, const char *socket_path,
                      struct hearth_failure *failure)
{
    endpoint->socket_path = text_copy(socket_path);
    endpoint->url = text_copy("http://localhost");
    return endpoint->socket_path && endpoint->url ? 0 : out_of_memory(failure);
}

static int use_url(struct endpoint *endpoint, const char *url, struct hearth_failure *failure)
{
    if (text_starts_with(url, "unix:///"))
        return use_socket(endpoint, url + strlen("unix://"), failure);
    if (!text_starts_with(url, "http://") && !text_starts_with(url, "https://")) {
        int error = hearth_fail(failure, HEARTH_EINVALID, "bad_url",
                                "HEARTH_URL names no daemon: %.200s", url);
        hearth_failure_hint(failure, "it reads http://HOST:PORT or unix:///PATH");
        return error;
    }
    size_t length = strlen(url);
    while (length && url[length - 1] == '/')
        length--;
    endpoint->url = strndup(url, length);
    return endpoint->url ? 0 : out_of_memory(failure);
}

static int use_local(struct endpoint *endpoint, bool start, struct hearth_failure *failure)
{
    struct private_paths paths = {0};
    int error = private_paths_find(&paths, failure);
    if (!error) {
        bool own = private_paths_trusted(&paths) && http_socket_answers(paths.socket_path);
        if (!own && http_socket_answers(SYSTEM_SOCKET)) {
            error = use_socket(endpoint, SYSTEM_SOCKET, failure);
        } else if (!own && !start) {
            error = hearth_fail(failure, HEARTH_EUNAVAILABLE, "no_daemon", "no hearthd runs");
        } else {
            error = own ? 0 : private_daemon_ensure(&paths, failure);
            if (!error)
                error = use_socket(endpoint, paths.socket_path, failure);
        }
    }
    private_paths_free(&paths);
    return error;
}

static int find(struct endpoint *ret_endpoint, bool start, struct hearth_failure *failure)
{
    struct endpoint endpoint = {0};
    const char *url = environment_text("HEARTH_URL");
    int error = find_token(&endpoint.token, failure);
    if (!error)
        error = url ? use_url(&endpoint, url, failure) : use_local(&endpoint, start, failure);
    if (error) {
        endpoint_free(&endpoint);
        return error;
    }
    *ret_endpoint = endpoint;
    return 0;
}

int endpoint_find(struct endpoint *ret_endpoint, struct hearth_failure *failure)
{
    return find(ret_endpoint, true, failure);
}

int endpoint_find_running(struct endpoint *ret_endpoint, struct hearth_failure *failure)
{
    return find(ret_endpoint, false, failure);
}
