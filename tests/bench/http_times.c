/* How long requests take on HTTP connections that are kept alive.
 *
 *   http_times [--together] [--token TOKEN] SOCKET ROUNDS THREADS METHOD PATH BODY [METHOD PATH
 * BODY]…
 *
 * A round is every request once, one after the other, on the thread's own connection to the Unix
 * socket; each must be answered with a 2xx. BODY is JSON, or empty. "{id}" in a path becomes the
 * workspace_id that this thread was told last. */
#include "rounds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_SIZE (64 << 10)
#define REPLY_SIZE (1 << 20)
#define ID_LENGTH 19 /* ws_ and 16 characters */

struct connection {
    int fd;
    size_t length;
    char id[ID_LENGTH + 1];
    char request[REQUEST_SIZE], reply[REPLY_SIZE + 1];
};

static struct rounds rounds;
static const char *socket_path, *token = ""; /* "": whom the socket trusts */
static char **words;                         /* three for each step */

static void *begin(unsigned thread)
{
    (void)thread;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection || strlen(socket_path) >= sizeof address.sun_path)
        rounds_die("out of memory");
    strcpy(address.sun_path, socket_path);
    connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0)
        rounds_die("cannot connect to %s", socket_path);
    return connection;
}

static size_t print_request(struct connection *connection, char *const word[3])
{
    const char *id = strstr(word[1], "{id}");
    int before = id ? (int)(id - word[1]) : (int)strlen(word[1]);
    int length = snprintf(connection->request, REQUEST_SIZE,
                          "%s %.*s%s%s HTTP/1.1\r\nHost: localhost\r\n"
                          "%s%s%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                          word[0], before, word[1], id ? connection->id : "", id ? id + 4 : "",
                          *token ? "Authorization: Bearer " : "", token, *token ? "\r\n" : "",
                          strlen(word[2]), word[2]);
    if (length < 0 || length >= REQUEST_SIZE)
        rounds_die("a request is too long");
    return (size_t)length;
}

static void write_all(int fd, const char *at, size_t length)
{
    while (length) {
        ssize_t put = write(fd, at, length);
        if (put <= 0)
            rounds_die("the connection has broken");
        at += put;
        length -= (size_t)put;
    }
}

static void read_more(struct connection *connection)
{
    ssize_t got = connection->length < REPLY_SIZE
                      ? read(connection->fd, connection->reply + connection->length,
                             REPLY_SIZE - connection->length)
                      : -1;
    if (got <= 0)
        rounds_die("a reply has broken off or is too long");
    connection->length += (size_t)got;
    connection->reply[connection->length] = '\0';
}

static void read_reply(struct connection *connection)
{
    const char *end;
    connection->length = 0;
    do
        read_more(connection);
    while (!(end = strstr(connection->reply, "\r\n\r\n")));
    const char *field = strcasestr(connection->reply, "\r\ncontent-length:");
    size_t head = (size_t)(end + 4 - connection->reply);
    size_t body = field && field < end ? strtoul(field + 17, NULL, 10) : 0;
    while (connection->length < head + body)
        read_more(connection);
}

static void step(void *state, unsigned round, unsigned number)
{
    static const char key[] = "\"workspace_id\":\"";
    struct connection *connection = state;
    (void)round;
    write_all(connection->fd, connection->request, print_request(connection, words + 3 * number));
    read_reply(connection);
    if (strncmp(connection->reply, "HTTP/1.1 2", 10) != 0)
        rounds_die("%s %s: %.600s", words[3 * number], words[3 * number + 1], connection->reply);
    const char *id = strstr(connection->reply, key);
    if (id)
        snprintf(connection->id, sizeof connection->id, "%.*s", ID_LENGTH, id + sizeof key - 1);
}

int main(int argc, char **argv)
{
    int at = 1;
    if (at < argc && strcmp(argv[at], "--together") == 0) {
        rounds.together = true;
        at++;
    }
    if (at + 1 < argc && strcmp(argv[at], "--token") == 0) {
        token = argv[at + 1];
        at += 2;
    }
    if (argc - at < 6 || (argc - at) % 3)
        rounds_die("usage: http_times [--together] [--token TOKEN] SOCKET ROUNDS THREADS METHOD "
                   "PATH BODY …");
    socket_path = argv[at];
    rounds.count = (unsigned)strtoul(argv[at + 1], NULL, 10);
    rounds.threads = (unsigned)strtoul(argv[at + 2], NULL, 10);
    rounds.step_count = (unsigned)(argc - at - 3) / 3;
    words = argv + at + 3;
    rounds.begin = begin;
    rounds.step = step;
    rounds_run(&rounds);
    return 0;
}
