/* hearth mcp serve: MCP on standard input and output. The daemon speaks the protocol; lines are
 * only moved, over two connections: one that the daemon reads from, one that it writes to. Host
 * paths are made uploads on the way (mcp_files.h). */

#include "base/clock.h"
#include "cli/command.h"
#include "cli/endpoint.h"
#include "cli/mcp_files.h"
#include "cli/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 65536
#define QUEUE_HIGH                                                                                 \
    ((size_t)16 << 20)            /* queued for one side before the other is not read any more */
#define END_US (1800 * US_PER_MS) /* from the end of the input to ours, whatever happens */

struct pump {
    struct wire in, out; /* as the daemon sees them */
    struct mcp_files *files;
    int done_pipe[2];
    struct buf line;      /* of standard input, not yet whole */
    struct buf to_daemon; /* chunks */
    struct buf to_client;
    size_t daemon_sent, client_sent; /* of these */
    bool input_ended, output_ended, stdout_gone;
    int64_t deadline_us;
};

/* Bytes that went out leave their queue once they are most of it: not a move for each write. */
static void advance(struct buf *queue, size_t *sent, size_t more)
{
    *sent += more;
    if (*sent == queue->length || *sent > queue->length / 2) {
        buf_consume(queue, *sent);
        *sent = 0;
    }
}

static int queue_chunk(struct pump *pump, const char *data, size_t length)
{
    int error = length ? buf_printf(&pump->to_daemon, "%zx\r\n", length) : 0;
    if (!error && length)
        error = buf_append(&pump->to_daemon, data, length);
    return error || !length ? error : buf_text(&pump->to_daemon, "\r\n");
}

static int collect(struct pump *pump)
{
    auto_buf struct buf ready = {0};
    char drained[64];
    while (read(pump->done_pipe[0], drained, sizeof drained) > 0)
        ;
    mcp_files_collect(pump->files, &ready, &pump->to_client);
    return pump->input_ended ? 0 : queue_chunk(pump, ready.data, ready.length);
}

/* Whole lines that are not ours go on as one chunk. */
static int take_lines(struct pump *pump)
{
    const char *at = pump->line.data, *end = at + pump->line.length, *plain = at;
    const char *newline;
    int error = 0;
    while (!error && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        if (mcp_files_take(pump->files, at, (size_t)(newline - at))) {
            error = queue_chunk(pump, plain, (size_t)(at - plain));
            plain = newline + 1;
        }
        at = newline + 1;
    }
    if (!error)
        error = queue_chunk(pump, plain, (size_t)(at - plain));
    buf_consume(&pump->line, (size_t)(at - pump->line.data));
    return error;
}

static int end_input(struct pump *pump)
{
    int error = queue_chunk(pump, pump->line.data, pump->line.length);
    pump->input_ended = true;
    pump->deadline_us = clock_monotonic_us() + END_US;
    return error ? error : buf_text(&pump->to_daemon, "0\r\n\r\n");
}

static int read_input(struct pump *pump)
{
    if (buf_reserve(&pump->line, PIECE))
        return HEARTH_ENOMEMORY;
    ssize_t got = read(STDIN_FILENO, pump->line.data + pump->line.length, PIECE);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (got <= 0)
        return end_input(pump);
    pump->line.length += (size_t)got;
    return take_lines(pump);
}

static void write_daemon(struct pump *pump)
{
    ssize_t sent = wire_send(&pump->in, pump->to_daemon.data + pump->daemon_sent,
                             pump->to_daemon.length - pump->daemon_sent);
    if (sent < 0)
        pump->output_ended = true;
    else
        advance(&pump->to_daemon, &pump->daemon_sent, (size_t)sent);
}

static int read_daemon(struct pump *pump)
{
    if (buf_reserve(&pump->to_client, PIECE))
        return HEARTH_ENOMEMORY;
    ssize_t got = wire_receive(&pump->out, pump->to_client.data + pump->to_client.length, PIECE);
    if (got < 0)
        pump->output_ended = true;
    else
        pump->to_client.length += (size_t)got;
    return 0;
}

/* As much as goes without blocking; standard output itself is not made so, for it may be shared. */
static void write_output(struct pump *pump)
{
    const char *data = pump->to_client.data + pump->client_sent;
    size_t length = pump->to_client.length - pump->client_sent;
    ssize_t sent = send(STDOUT_FILENO, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == ENOTSOCK)
        sent = write(STDOUT_FILENO, data, length < PIPE_BUF ? length : PIPE_BUF);
    if (sent >= 0)
        advance(&pump->to_client, &pump->client_sent, (size_t)sent);
    else if (errno != EAGAIN && errno != EINTR)
        pump->stdout_gone = true;
}

static bool over(const struct pump *pump)
{
    return pump->stdout_gone || (pump->output_ended && !pump->to_client.length) ||
           (pump->input_ended && clock_monotonic_us() >= pump->deadline_us);
}

static int turn(struct pump *pump)
{
    bool hungry = !pump->input_ended && pump->to_daemon.length < QUEUE_HIGH;
    bool room = !pump->output_ended && pump->to_client.length < QUEUE_HIGH;
    struct pollfd fds[] = {
        {.fd = hungry ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = room ? pump->out.fd : -1, .events = POLLIN},
        {.fd = pump->to_daemon.length && !pump->output_ended ? pump->in.fd : -1, .events = POLLOUT},
        {.fd = pump->to_client.length ? STDOUT_FILENO : -1, .events = POLLOUT},
        {.fd = pump->done_pipe[0], .events = POLLIN},
    };
    int64_t left = pump->input_ended ? pump->deadline_us - clock_monotonic_us() : -1;
    int wait_ms = !pump->input_ended ? -1 : left > 0 ? (int)(left / US_PER_MS) + 1 : 0;
    int error = 0;
    if (poll(fds, sizeof fds / sizeof *fds, wait_ms) < 0)
        return errno == EINTR ? 0 : HEARTH_EIO;
    if (fds[0].revents)
        error = read_input(pump);
    if (!error && fds[4].revents)
        error = collect(pump);
    if (pump->to_daemon.length && (fds[0].revents || fds[2].revents || fds[4].revents) &&
        !pump->output_ended)
        write_daemon(pump);
    if (!error && fds[1].revents)
        error = read_daemon(pump);
    /* Where it was not waited for, it may be full. */
    if (fds[3].revents)
        write_output(pump);
    return error;
}

/* The stream's first line names it. */
static int read_stream_id(struct pump *pump, char *out, size_t size)
{
    char *newline = NULL;
    while (!pump->output_ended &&
           !(pump->to_client.length &&
             (newline = memchr(pump->to_client.data, '\n', pump->to_client.length)))) {
        struct pollfd poll_fd = {.fd = pump->out.fd, .events = POLLIN};
        poll(&poll_fd, 1, -1);
        if (read_daemon(pump))
            return HEARTH_ENOMEMORY;
    }
    auto_json cJSON *hello =
        newline
            ? cJSON_ParseWithLength(pump->to_client.data, (size_t)(newline - pump->to_client.data))
            : NULL;
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(hello, "stream_id"));
    if (!id)
        return HEARTH_EIO;
    snprintf(out, size, "%s", id);
    buf_consume(&pump->to_client, (size_t)(newline + 1 - pump->to_client.data));
    return 0;
}

static int connect_stream(struct pump *pump, const struct endpoint *endpoint, const char *profile,
                          struct hearth_failure *failure)
{
    char path[128], id[64];
    snprintf(path, sizeof path, "/mcp/streams?profile=%s", profile);
    /* HTTP/1.0: the reply has no chunks, its bytes are the lines. */
    int error = wire_open(&pump->out, endpoint, failure);
    if (!error)
        error = wire_ask(&pump->out, "POST", path, "HTTP/1.0", "Content-Length: 0\r\n", failure);
    if (!error)
        error = wire_answer(&pump->out, &pump->to_client, failure);
    if (error)
        return error;
    if (read_stream_id(pump, id, sizeof id))
        return hearth_fail(failure, HEARTH_EIO, "bad_reply", "the daemon opened no stream");
    snprintf(path, sizeof path, "/mcp/streams/%s", id);
    error = wire_open(&pump->in, endpoint, failure);
    if (!error)
        error = wire_ask(&pump->in, "POST", path, "HTTP/1.1",
                         "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n",
                         failure);
    return error;
}

static int run_pump(struct cli *cli, struct pump *pump, const struct endpoint *endpoint,
                    const char *profile)
{
    struct hearth_failure failure;
    int error = connect_stream(pump, endpoint, profile, &failure);
    if (!error && (pipe2(pump->done_pipe, O_CLOEXEC | O_NONBLOCK) < 0 ||
                   mcp_files_open(&pump->files, endpoint, profile, pump->done_pipe[1])))
        error = hearth_fail(&failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    while (!error && !over(pump))
        if ((error = turn(pump)))
            hearth_fail(&failure, (enum hearth_error)error, NULL, "the connection was lost");
    if (!error && pump->output_ended && !pump->input_ended)
        error = hearth_fail(&failure, HEARTH_EUNAVAILABLE, "connection_lost",
                            "the daemon ended the connection");
    return error ? cli_fail(cli, &failure, NULL) : 0;
}

static int serve(struct cli *cli, int argc, char **argv)
{
    static const char *const profiles[] = {"vm-run", "workspace-core", "workspace-full", NULL};
    const char *profile = "workspace-core";
    const struct option options[] = {{"profile", OPTION_TEXT, &profile, "NAME",
                                      "vm-run, workspace-core or workspace-full (workspace-core)"},
                                     {0}};
    const struct usage usage = {
        .line = "mcp serve [--profile NAME]",
        .summary = "Serves MCP on standard input and output, for a client that starts this\n"
                   "command: Claude Code, Cursor, Codex and the like.",
        .options = options};
    struct words words;
    bool json = false; /* standard output is the protocol's */
    int status = options_parse(&usage, argc, argv, &json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    const char *const *known = profiles;
    while (*known && strcmp(*known, profile) != 0)
        known++;
    if (!*known)
        return options_fail(&usage, "there is no profile '%s'", profile);

    struct hearth_failure failure;
    struct endpoint endpoint = {0};
    struct pump pump = {.in.fd = -1, .out.fd = -1};
    cli->json = false;
    if (endpoint_find(&endpoint, &failure))
        return cli_fail(cli, &failure, NULL);
    /* A path may be on its way still in a thread: all ends with the process. */
    status = run_pump(cli, &pump, &endpoint, profile);
    fflush(stdout);
    _exit(status);
}

const struct command mcp_commands[] = {
    {"mcp", "serve", "serve MCP on standard input and output", serve}, {0}};
