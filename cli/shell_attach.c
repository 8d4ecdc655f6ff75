/* hearth workspace shell attach: a shell of a workspace in this terminal. What is typed goes there
 * unread but for the keys that detach; the terminal is put back however this ends, short of a
 * SIGKILL. The frames are described in docs/shells.md. */
#include "cli/shell_attach.h"

#include "base/shell_frame.h"
#include "cli/endpoint.h"
#include "cli/output.h"
#include "cli/wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#define FRAME_MAX ((size_t)1 << 20) /* of the daemon's */
#define KEYS_MAX 8
#define PIECE 4096
#define QUEUE_MAX 65536 /* that the daemon has not taken: no more is read from the keyboard */

enum ending { GOES_ON, DETACHED, SHELL_ENDED, CONNECTION_LOST, SIGNALLED };

struct terminal {
    struct wire wire;
    struct termios cooked;
    bool raw;
    int signals; /* signalfd */
    struct buf in, out;
    size_t sent; /* of out */
    unsigned char keys[KEYS_MAX];
    size_t key_count, matched; /* of the keys that detach */
    enum ending ending;
    int signal, exit_code;
    char reason[64];
};

/* "ctrl-p,ctrl-q" or "a,b": what is typed to detach. */
static bool parse_keys(struct terminal *terminal, const char *text)
{
    while (*text) {
        size_t length = strcspn(text, ",");
        bool control = length == 6 && strncmp(text, "ctrl-", 5) == 0;
        char key = control ? text[5] : text[0];
        if ((!control && length != 1) || terminal->key_count == KEYS_MAX ||
            (control && !strchr("abcdefghijklmnopqrstuvwxyz@[\\]^_", key)))
            return false;
        terminal->keys[terminal->key_count++] = (unsigned char)(control ? key & 0x1f : key);
        text += length + (text[length] == ',');
    }
    return terminal->key_count > 0;
}

/* The terminal of the person. */

static void make_raw(struct terminal *terminal)
{
    struct termios raw = terminal->cooked;
    cfmakeraw(&raw);
    terminal->raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

static void put_back(struct terminal *terminal)
{
    if (terminal->raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal->cooked);
    terminal->raw = false;
}

static void queue(struct terminal *terminal, char type, const void *data, size_t length)
{
    unsigned char head[SHELL_FRAME_HEAD];
    shell_frame_write(head, type, length);
    if (buf_append(&terminal->out, head, sizeof head) || buf_append(&terminal->out, data, length))
        terminal->ending = CONNECTION_LOST;
}

static void tell_size(struct terminal *terminal)
{
    struct winsize size;
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col || !size.ws_row)
        return;
    const unsigned char data[4] = {(unsigned char)(size.ws_col >> 8), (unsigned char)size.ws_col,
                                   (unsigned char)(size.ws_row >> 8), (unsigned char)size.ws_row};
    queue(terminal, 'R', data, sizeof data);
}

/* What is typed, up to the keys that detach: those before the last stay back until it is known
 * whether they are. */
static void take_typed(struct terminal *terminal, const unsigned char *typed, size_t length)
{
    unsigned char pass[PIECE + KEYS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        if (typed[i] == terminal->keys[terminal->matched]) {
            if (++terminal->matched == terminal->key_count) {
                terminal->ending = DETACHED;
                break;
            }
            continue;
        }
        memcpy(pass + count, terminal->keys, terminal->matched);
        count += terminal->matched;
        terminal->matched = typed[i] == terminal->keys[0] && terminal->key_count > 1;
        if (!terminal->matched)
            pass[count++] = typed[i];
    }
    if (count)
        queue(terminal, 'I', pass, count);
}

static void read_keyboard(struct terminal *terminal)
{
    unsigned char typed[PIECE / KEYS_MAX];
    ssize_t length = read(STDIN_FILENO, typed, sizeof typed);
    if (length > 0) {
        take_typed(terminal, typed, (size_t)length);
    } else if (length == 0 || (errno != EINTR && errno != EAGAIN)) {
        terminal->ending = SIGNALLED; /* the terminal is gone */
        terminal->signal = SIGHUP;
    }
}

/* Signals. */

static void stop_here(struct terminal *terminal)
{
    put_back(terminal);
    raise(SIGSTOP);
}

static void read_signals(struct terminal *terminal)
{
    struct signalfd_siginfo info;
    if (read(terminal->signals, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    switch ((int)info.ssi_signo) {
    case SIGTSTP:
        stop_here(terminal);
        break;
    case SIGCONT:
        make_raw(terminal);
        tell_size(terminal);
        break;
    case SIGWINCH:
        tell_size(terminal);
        break;
    default:
        terminal->ending = SIGNALLED;
        terminal->signal = (int)info.ssi_signo;
    }
}

static bool take_signals(struct terminal *terminal)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&set, numbers[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    terminal->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return terminal->signals >= 0;
}

/* The daemon. */

static void show(const char *data, size_t length)
{
    while (length) {
        ssize_t written = write(STDOUT_FILENO, data, length);
        if (written < 0 && errno != EINTR && errno != EAGAIN)
            return;
        if (written > 0) {
            data += written;
            length -= (size_t)written;
        }
    }
}

static void take_end(struct terminal *terminal, const char *text, size_t length)
{
    auto_json cJSON *end = cJSON_ParseWithLength(text, length);
    snprintf(terminal->reason, sizeof terminal->reason, "%s", json_text(end, "reason", ""));
    terminal->exit_code = (int)json_number(end, "exit_code", 0);
    terminal->ending = SHELL_ENDED;
}

static void take_frames(struct terminal *terminal)
{
    size_t at = 0;
    while (terminal->ending == GOES_ON && terminal->in.length - at >= SHELL_FRAME_HEAD) {
        const unsigned char *head = (const unsigned char *)terminal->in.data + at;
        size_t length = shell_frame_length(head);
        if (length > FRAME_MAX)
            terminal->ending = CONNECTION_LOST;
        if (terminal->in.length - at - SHELL_FRAME_HEAD < length)
            break;
        const char *data = terminal->in.data + at + SHELL_FRAME_HEAD;
        if (head[0] == 'O')
            show(data, length);
        else if (head[0] == 'E')
            take_end(terminal, data, length);
        at += SHELL_FRAME_HEAD + length;
    }
    buf_consume(&terminal->in, at);
}

static void receive(struct terminal *terminal)
{
    char piece[PIECE * 4];
    ssize_t got = wire_receive(&terminal->wire, piece, sizeof piece);
    if (got < 0 || (got > 0 && buf_append(&terminal->in, piece, (size_t)got)))
        terminal->ending = CONNECTION_LOST;
    else if (got > 0)
        take_frames(terminal);
}

static void send_queued(struct terminal *terminal)
{
    ssize_t sent = wire_send(&terminal->wire, terminal->out.data + terminal->sent,
                             terminal->out.length - terminal->sent);
    if (sent < 0) {
        terminal->ending = CONNECTION_LOST;
        return;
    }
    terminal->sent += (size_t)sent;
    if (terminal->sent == terminal->out.length) {
        buf_clear(&terminal->out);
        terminal->sent = 0;
    }
}

static void run(struct terminal *terminal)
{
    make_raw(terminal);
    tell_size(terminal);
    take_frames(terminal);
    while (terminal->ending == GOES_ON) {
        size_t queued = terminal->out.length - terminal->sent;
        struct pollfd fds[3] = {
            {.fd = terminal->wire.fd, .events = (short)(POLLIN | (queued ? POLLOUT : 0))},
            {.fd = terminal->signals, .events = POLLIN},
            {.fd = queued < QUEUE_MAX ? STDIN_FILENO : -1, .events = POLLIN},
        };
        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            read_signals(terminal);
        if (terminal->ending == GOES_ON && fds[2].revents)
            read_keyboard(terminal);
        if (terminal->out.length)
            send_queued(terminal);
        if (terminal->ending == GOES_ON && (fds[0].revents & ~POLLOUT))
            receive(terminal);
    }
    put_back(terminal);
}

static int tell(const struct cli *cli, const struct terminal *terminal)
{
    struct hearth_failure failure;
    switch (terminal->ending) {
    case DETACHED:
        fputs("\n[detached]\n", stderr);
        return 0;
    case SHELL_ENDED:
        fprintf(stderr, "\n[%s]\n",
                strcmp(terminal->reason, "shell_ended") == 0 ? "the shell has ended"
                                                             : terminal->reason);
        return strcmp(terminal->reason, "shell_ended") == 0 ? terminal->exit_code : EXIT_PROBLEM;
    case SIGNALLED:
        return 128 + terminal->signal;
    case GOES_ON:
    case CONNECTION_LOST:
        break;
    }
    fputc('\n', stderr);
    hearth_fail(&failure, HEARTH_EIO, "connection_lost", "the daemon ended the connection");
    hearth_failure_hint(&failure, "The shell goes on where its guest does: attach again.");
    return cli_fail(cli, &failure, NULL);
}

static int connect_shell(struct terminal *terminal, const struct endpoint *endpoint,
                         const char *path, struct hearth_failure *failure)
{
    int error = wire_open(&terminal->wire, endpoint, failure);
    if (!error)
        error = wire_ask(&terminal->wire, "GET", path, "HTTP/1.1",
                         "Connection: Upgrade\r\nUpgrade: " SHELL_PROTOCOL "\r\n", failure);
    return error ? error : wire_answer(&terminal->wire, &terminal->in, failure);
}

static int attach(struct cli *cli, struct terminal *terminal, const struct words *words)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct endpoint endpoint = {0};
    auto_buf struct buf path = {0};
    if (!cli_path(&path, "/v1/workspaces/", words->items[0], "/shells/", words->items[1], "/attach",
                  NULL))
        return cli_out_of_memory(cli);
    int status;
    if (tcgetattr(STDIN_FILENO, &terminal->cooked) < 0 || !isatty(STDOUT_FILENO)) {
        hearth_fail(&failure, HEARTH_EINVALID, "not_a_terminal",
                    "standard input and output must be a terminal");
        hearth_failure_hint(&failure, "`hearth workspace shell read` and `write` need none.");
        status = cli_fail(cli, &failure, NULL);
    } else if (endpoint_find(&endpoint, &failure) ||
               connect_shell(terminal, &endpoint, path.data, &failure) || !take_signals(terminal)) {
        status = cli_fail(cli, &failure, NULL);
    } else {
        run(terminal);
        status = tell(cli, terminal);
    }
    if (terminal->wire.curl)
        wire_close(&terminal->wire);
    endpoint_free(&endpoint);
    return status;
}

int shell_attach(struct cli *cli, int argc, char **argv)
{
    const char *keys = "ctrl-p,ctrl-q";
    const struct option options[] = {
        {"detach-keys", OPTION_TEXT, &keys, "KEYS", "leave it by these (ctrl-p,ctrl-q)"}, {0}};
    const struct usage usage = {
        .line = "workspace shell attach WORKSPACE_ID SHELL_ID [OPTIONS]",
        .summary = "Makes this terminal the shell's; it goes on when this one leaves.",
        .options = options,
        .minimum = 2,
        .maximum = 2};
    struct words words;
    struct terminal terminal = {.signals = -1};
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    if (!parse_keys(&terminal, keys))
        return options_fail(&usage, "--detach-keys: %s is not like ctrl-p,ctrl-q", keys);
    status = attach(cli, &terminal, &words);
    buf_free(&terminal.in);
    buf_free(&terminal.out);
    if (terminal.signals >= 0)
        close(terminal.signals);
    return status;
}

/* The recording goes to standard output as it is. */

static int write_out(void *arg, const void *data, size_t length)
{
    (void)arg;
    return fwrite(data, 1, length, stdout) == length ? 0 : -1;
}

int shell_record(struct cli *cli, int argc, char **argv)
{
    const struct usage usage = {
        .line = "workspace shell record WORKSPACE_ID SHELL_ID",
        .summary = "Prints a shell's recording, as asciinema plays it (asciicast v2).",
        .minimum = 2,
        .maximum = 2};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status != OPTIONS_PARSED)
        return status;
    auto_buf struct buf path = {0};
    if (!cli_path(&path, "/v1/workspaces/", words.items[0], "/shells/", words.items[1],
                  "/recording", NULL))
        return cli_out_of_memory(cli);
    struct hearth_failure failure = {
        .error = HEARTH_EIO, .code = "output_not_written", .detail = "the output is not taken"};
    const struct http_request request = {.method = "GET",
                                         .path = path.data,
                                         .accept = "application/x-asciicast",
                                         .write = write_out,
                                         .own_failure = &failure};
    return cli_call(cli, &request, NULL, NULL);
}
