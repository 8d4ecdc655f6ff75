/* hearth mcp serve: MCP on standard input and output. The daemon speaks the protocol; lines are
 * only moved, over two connections: one that the daemon reads from, one that it writes to. Host
 * paths are made uploads on the way (mcp_files.h). A daemon that ends is waited for, and told again
 * what it has to know (mcp_replay.h). */

#include "base/clock.h"
#include "cli/command.h"
#include "cli/endpoint.h"
#include "cli/mcp_files.h"
#include "cli/mcp_replay.h"
#include "cli/output.h"
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
    ((size_t)16 << 20) /* queued for one side before the other is not read any more */
#define LINE_READ_MAX ((size_t)32 << 20) /* of a line past this not even the ID is looked for */
#define END_US (1800 * US_PER_MS)        /* from the end of the input to ours, whatever happens */
#define RETRY_US (200 * US_PER_MS)       /* between tries to reach a daemon that has gone */
#define PATIENCE_US (20 * US_PER_S)      /* that a request waits for it */

struct pump {
    struct endpoint endpoints[2]; /* the one in use, and the next */
    unsigned used;
    const char *profile;
    struct wire in, out; /* as the daemon sees them */
    bool connected;
    int64_t retry_us; /* when it is not */
    struct mcp_files *files;
    struct mcp_replay *replay;
    int done_pipe[2];
    struct buf line;        /* of standard input, not yet whole */
    struct buf from_daemon; /* a line that is not yet whole */
    size_t scanned;         /* of it: no end of a line */
    size_t line_max;        /* what the daemon takes */
    bool skipping;          /* the rest of a line of standard input that is too long by far */
    struct buf to_daemon;   /* chunks */
    struct buf to_client;
    size_t daemon_sent, client_sent; /* of these */
    bool input_ended, stdout_gone;
    bool finished; /* nothing more comes for the client */
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

/* What goes to a daemon that is not there is kept by the replay. */
static int queue_chunk(struct pump *pump, const char *data, size_t length)
{
    if (!length || !pump->connected)
        return 0;
    int error = buf_printf(&pump->to_daemon, "%zx\r\n", length);
    if (!error)
        error = buf_append(&pump->to_daemon, data, length);
    return error ? error : buf_text(&pump->to_daemon, "\r\n");
}

static int collect(struct pump *pump)
{
    auto_buf struct buf ready = {0};
    char drained[64];
    const char *at, *newline;
    while (read(pump->done_pipe[0], drained, sizeof drained) > 0)
        ;
    mcp_files_collect(pump->files, &ready, &pump->to_client);
    if (pump->input_ended)
        return 0;
    for (at = ready.data; at && (newline = strchr(at, '\n')); at = newline + 1)
        mcp_replay_take(pump->replay, at, (size_t)(newline - at), pump->connected);
    return queue_chunk(pump, ready.data, ready.length);
}

/* A line that is ours: it does not go on as it is. */
static bool take_line(struct pump *pump, const char *line, size_t length)
{
    if (pump->skipping || length > pump->line_max) {
        mcp_replay_too_long(line, pump->skipping ? 0 : length, &pump->to_client);
        pump->skipping = false;
        return true;
    }
    if (mcp_files_take(pump->files, line, length))
        return true;
    mcp_replay_take(pump->replay, line, length, pump->connected);
    return false;
}

/* Whole lines that are not ours go on as one chunk. */
static int take_lines(struct pump *pump)
{
    const char *at = pump->line.data, *end = at + pump->line.length, *plain = at;
    const char *newline;
    int error = 0;
    while (!error && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        if (take_line(pump, at, (size_t)(newline - at))) {
            error = queue_chunk(pump, plain, (size_t)(at - plain));
            plain = newline + 1;
        }
        at = newline + 1;
    }
    if (!error)
        error = queue_chunk(pump, plain, (size_t)(at - plain));
    buf_consume(&pump->line, (size_t)(at - pump->line.data));
    if (pump->line.length > LINE_READ_MAX) {
        pump->skipping = true;
        buf_clear(&pump->line);
    }
    return error;
}

static int end_input(struct pump *pump)
{
    struct hearth_failure failure;
    int error = queue_chunk(pump, pump->line.data, pump->line.length);
    pump->input_ended = true;
    pump->deadline_us = clock_monotonic_us() + END_US;
    if (pump->connected)
        return error ? error : buf_text(&pump->to_daemon, "0\r\n\r\n");
    hearth_fail(&failure, HEARTH_EUNAVAILABLE, "connection_lost", "the daemon has gone");
    mcp_replay_refuse(pump->replay, INT64_MAX, &failure, &pump->to_client);
    pump->finished = true;
    return 0;
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

static void close_connection(struct pump *pump)
{
    pump->connected = false;
    wire_close(&pump->in);
    wire_close(&pump->out);
    buf_clear(&pump->to_daemon);
    buf_clear(&pump->from_daemon);
    pump->daemon_sent = pump->scanned = 0;
}

/* The daemon ended the connection: rightly, where the input has ended. */
static void lose(struct pump *pump)
{
    close_connection(pump);
    pump->finished = pump->input_ended;
    if (pump->finished)
        return;
    fputs("hearth: the daemon ended the connection; it is waited for\n", stderr);
    mcp_replay_lost(pump->replay, &pump->to_client);
    pump->retry_us = clock_monotonic_us();
}

static void write_daemon(struct pump *pump)
{
    ssize_t sent = wire_send(&pump->in, pump->to_daemon.data + pump->daemon_sent,
                             pump->to_daemon.length - pump->daemon_sent);
    if (sent < 0)
        lose(pump);
    else
        advance(&pump->to_daemon, &pump->daemon_sent, (size_t)sent);
}

/* What has come, to from_daemon; negative: the connection has ended. */
static ssize_t receive(struct pump *pump)
{
    if (buf_reserve(&pump->from_daemon, PIECE))
        return -1;
    ssize_t got =
        wire_receive(&pump->out, pump->from_daemon.data + pump->from_daemon.length, PIECE);
    if (got > 0)
        pump->from_daemon.length += (size_t)got;
    return got;
}

static int read_daemon(struct pump *pump)
{
    struct buf *from = &pump->from_daemon;
    const char *newline;
    size_t done = 0;
    int error = 0;
    if (receive(pump) < 0) {
        lose(pump);
        return 0;
    }
    while (!error && from->length > pump->scanned &&
           (newline = memchr(from->data + pump->scanned, '\n', from->length - pump->scanned))) {
        size_t end = (size_t)(newline + 1 - from->data);
        if (mcp_replay_answer(pump->replay, from->data + done, end - 1 - done, &pump->to_client))
            error = buf_append(&pump->to_client, from->data + done, end - done);
        done = pump->scanned = end;
    }
    buf_consume(from, done);
    pump->scanned = from->length;
    return error;
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
    return pump->stdout_gone || (pump->finished && !pump->to_client.length) ||
           (pump->input_ended && clock_monotonic_us() >= pump->deadline_us);
}

static int wait_ms(const struct pump *pump)
{
    int64_t until = pump->input_ended                     ? pump->deadline_us
                    : !pump->connected && !pump->finished ? pump->retry_us
                                                          : INT64_MAX;
    int64_t left = until == INT64_MAX ? 0 : until - clock_monotonic_us();
    return until == INT64_MAX ? -1 : left > 0 ? (int)(left / US_PER_MS) + 1 : 0;
}

static int turn(struct pump *pump)
{
    bool hungry = !pump->input_ended && !pump->finished && pump->to_daemon.length < QUEUE_HIGH &&
                  mcp_replay_size(pump->replay) < QUEUE_HIGH;
    bool room = pump->connected && pump->to_client.length < QUEUE_HIGH;
    struct pollfd fds[] = {
        {.fd = hungry ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = room ? pump->out.fd : -1, .events = POLLIN},
        {.fd = pump->to_daemon.length ? pump->in.fd : -1, .events = POLLOUT},
        {.fd = pump->to_client.length ? STDOUT_FILENO : -1, .events = POLLOUT},
        {.fd = pump->done_pipe[0], .events = POLLIN},
    };
    int error = 0;
    if (poll(fds, sizeof fds / sizeof *fds, wait_ms(pump)) < 0)
        return errno == EINTR ? 0 : HEARTH_EIO;
    if (fds[0].revents)
        error = read_input(pump);
    if (!error && fds[4].revents)
        error = collect(pump);
    if (pump->to_daemon.length && (fds[0].revents || fds[2].revents || fds[4].revents))
        write_daemon(pump);
    if (!error && fds[1].revents && pump->connected)
        error = read_daemon(pump);
    /* Where it was not waited for, it may be full. */
    if (fds[3].revents)
        write_output(pump);
    return error;
}

/* The stream's first line names it. */
static int read_stream_id(struct pump *pump, char *out, size_t size)
{
    struct buf *from = &pump->from_daemon;
    char *newline = NULL;
    while (!(from->length && (newline = memchr(from->data, '\n', from->length)))) {
        struct pollfd poll_fd = {.fd = pump->out.fd, .events = POLLIN};
        poll(&poll_fd, 1, -1);
        if (receive(pump) < 0)
            return HEARTH_EIO;
    }
    auto_json cJSON *hello = cJSON_ParseWithLength(from->data, (size_t)(newline - from->data));
    const char *id = json_text(hello, "stream_id", NULL);
    if (!id)
        return HEARTH_EIO;
    snprintf(out, size, "%s", id);
    pump->line_max = (size_t)json_number(hello, "line_max", LINE_READ_MAX);
    buf_consume(from, (size_t)(newline + 1 - from->data));
    return 0;
}

static int connect_stream(struct pump *pump, const struct endpoint *endpoint,
                          struct hearth_failure *failure)
{
    char path[128], id[64];
    snprintf(path, sizeof path, "/mcp/streams?profile=%s", pump->profile);
    /* HTTP/1.0: the reply has no chunks, its bytes are the lines. */
    int error = wire_open(&pump->out, endpoint, failure);
    if (!error)
        error = wire_ask(&pump->out, "POST", path, "HTTP/1.0", "Content-Length: 0\r\n", failure);
    if (!error)
        error = wire_answer(&pump->out, &pump->from_daemon, failure);
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
    pump->connected = !error;
    return error;
}

/* Tries to reach a daemon once. One that refuses the token is the end; a private one is started
 * only where somebody waits for it. */
static int reconnect(struct pump *pump, struct hearth_failure *failure)
{
    auto_buf struct buf lines = {0};
    struct endpoint *next = &pump->endpoints[!pump->used];
    int error = mcp_replay_waits(pump->replay) ? endpoint_find(next, failure)
                                               : endpoint_find_running(next, failure);
    if (!error)
        error = connect_stream(pump, next, failure);
    if (!error) {
        mcp_files_use(pump->files, next);
        endpoint_free(&pump->endpoints[pump->used]);
        pump->used = !pump->used;
        mcp_replay_again(pump->replay, &lines);
        return queue_chunk(pump, lines.data, lines.length);
    }
    int64_t now = clock_monotonic_us();
    close_connection(pump);
    endpoint_free(next);
    pump->retry_us = now + RETRY_US;
    pump->finished = error == HEARTH_EUNAUTHENTICATED || error == HEARTH_EFORBIDDEN;
    mcp_replay_refuse(pump->replay, pump->finished ? INT64_MAX : now - PATIENCE_US, failure,
                      &pump->to_client);
    return 0;
}

static int open_pump(struct pump *pump, struct hearth_failure *failure)
{
    const struct endpoint *endpoint = &pump->endpoints[0];
    int error = endpoint_find(&pump->endpoints[0], failure);
    if (!error)
        error = connect_stream(pump, endpoint, failure);
    if (!error &&
        (!(pump->replay = mcp_replay_new()) || pipe2(pump->done_pipe, O_CLOEXEC | O_NONBLOCK) < 0 ||
         mcp_files_open(&pump->files, endpoint, pump->profile, pump->done_pipe[1])))
        error = hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "out of memory");
    return error;
}

static int run_pump(struct cli *cli, struct pump *pump)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    int error = open_pump(pump, &failure);
    while (!error && !over(pump)) {
        error = turn(pump);
        if (!error && !pump->connected && !pump->finished && clock_monotonic_us() >= pump->retry_us)
            error = reconnect(pump, &failure);
        if (error)
            hearth_fail(&failure, (enum hearth_error)error, NULL, "the connection was lost");
    }
    bool refused = pump->finished && !pump->input_ended;
    return error || refused ? cli_fail(cli, &failure, NULL) : 0;
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

    struct pump pump = {.profile = profile, .in.fd = -1, .out.fd = -1};
    cli->json = false;
    /* A path may be on its way still in a thread: all ends with the process. */
    status = run_pump(cli, &pump);
    fflush(stdout);
    _exit(status);
}

const struct command mcp_commands[] = {
    {"mcp", "serve", "serve MCP on standard input and output", serve}, {0}};
