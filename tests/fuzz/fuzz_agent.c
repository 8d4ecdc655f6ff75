/* guestagent/agent/server.c and what it hands calls to: the input is calls, one after the other. Of
 * each its first byte picks the method, its second says what is done with it (1: no more messages,
 * 2: given up, 4: not a new call but a further message of the last one, 8: the loop turns before),
 * two bytes give a length, and so many bytes are one message. Files lie in a directory of their
 * own; commands are not run, the machine is not configured, nothing is connected to. */
#include "fuzz.h"

#include "guestagent/agent/agent.h"
#include "guestagent/agent/spawn_command.h"

#include "base/path_at.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALLS_MAX 64
#define TURNS_MAX 400
#define NO_PROCESS 0x7ffffff0 /* above what the kernel gives */

/* In the order of make_agent_corpus.py. */
static const char *const methods[] = {
    "Hello",        "Configure",   "ExecStart",    "ExecRead",    "ExecInput",     "ExecCancel",
    "ExecList",     "ExecForget",  "FileStat",     "FileList",    "FileRead",      "FileWrite",
    "FileDelete",   "TreeApply",   "Shutdown",     "NoSuchCall",  "DirectoryMake", "FileMove",
    "FileSearch",   "FilesChange", "TreeExport",   "TreeScan",    "TreeRead",      "ShellOpen",
    "ShellRead",    "ShellInput",  "ShellSignal",  "ShellResize", "ShellClose",    "ShellList",
    "ServiceStart", "ServiceStop", "ServiceWatch", "ServiceLogs", "PortDial",
};
#define METHODS (sizeof methods / sizeof *methods)

struct caller {
    struct link_call *call; /* NULL once it has ended */
    unsigned ended;
};

static int top_fd = -1;
static struct caller callers[CALLS_MAX];
static unsigned count;

/* The edge of the system. */

void sync(void)
{
}

void configure_handle(struct agent *agent, struct link_call *call,
                      const Hearth__Agent__V1__ConfigureRequest *request)
{
    Hearth__Agent__V1__ConfigureReply reply = HEARTH__AGENT__V1__CONFIGURE_REPLY__INIT;
    (void)agent;
    (void)request;
    link_call_reply(call, &reply.base);
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    (void)fd;
    (void)address;
    (void)length;
    errno = ECONNREFUSED;
    return -1;
}

/* A command that says "output" and reads what its pipe holds; or cannot be started. */
int spawn_command(const struct command *command, pid_t *ret_pid, struct command_pipes *ret_pipes,
                  char *problem, size_t problem_size, int *ret_exit_code)
{
    int in[2], out[2], err[2];
    if (command->arguments[0][0] == '!' || pipe2(in, O_CLOEXEC | O_NONBLOCK))
        goto refuse;
    if (pipe2(out, O_CLOEXEC | O_NONBLOCK))
        abort();
    if (pipe2(err, O_CLOEXEC | O_NONBLOCK))
        abort();
    PROMISE(write(out[1], "output", 6) == 6);
    close(out[1]);
    close(err[1]);
    close(in[0]);
    *ret_pid = NO_PROCESS;
    *ret_pipes = (struct command_pipes){in[1], out[0], err[0]};
    return 0;
refuse:
    snprintf(problem, problem_size, "it is not to be");
    *ret_exit_code = 127;
    return -ENOENT;
}

/* A shell that nobody runs in. */
int spawn_on_terminal(const struct command *command, const char *terminal, pid_t *ret_pid,
                      char *problem, size_t problem_size, int *ret_exit_code)
{
    PROMISE(command->argument_count && *terminal == '/');
    *ret_pid = NO_PROCESS;
    if (command->arguments[0][0] != '!')
        return 0;
    snprintf(problem, problem_size, "it is not to be");
    *ret_exit_code = 127;
    return -ENOENT;
}

/* The other end. */

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    const struct caller *caller = arg;
    PROMISE(caller->call == call && !caller->ended && length <= LINK_MESSAGE_MAX);
    PROMISE(!length || data);
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    struct caller *caller = arg;
    PROMISE(caller->call == call && caller->ended++ == 0);
    PROMISE(status != LINK_STATUS_UNKNOWN && strlen(message) < 4096);
    caller->call = NULL;
}

static void on_down(struct link *link, void *arg, const struct hearth_failure *why)
{
    (void)link;
    (void)arg;
    fprintf(stderr, "the agent broke the protocol: %s\n", why->detail);
    abort();
}

static const struct link_call_events call_events = {.on_message = on_message, .on_end = on_end};
static const struct link_events link_events = {.on_down = on_down};

static void begin_call(struct link *link, uint8_t method)
{
    char path[80];
    struct caller *caller = &callers[count];
    snprintf(path, sizeof path, AGENT_SERVICE "%s", methods[method % METHODS]);
    if (count < CALLS_MAX &&
        link_call_start(&caller->call, link, path, 0, &call_events, caller, NULL) == 0)
        count++;
}

static void say(struct event_base *base, struct link *link, const uint8_t **at, size_t *left)
{
    uint8_t method = (*at)[0], what = (*at)[1];
    size_t length = (size_t)(*at)[2] | (size_t)(*at)[3] << 8;
    *at += 4;
    *left -= 4;
    if (length > *left)
        length = *left;
    if (what & 8)
        event_base_loop(base, EVLOOP_NONBLOCK);
    if (!(what & 4))
        begin_call(link, method);
    struct link_call *call = count ? callers[count - 1].call : NULL;
    if (call && link_call_send_bytes(call, *at, length))
        what = 2; /* it takes no more */
    if (call && what & 1)
        link_call_finish(call);
    if (call && what & 2)
        link_call_cancel(call);
    *at += length;
    *left -= length;
}

/* The directory that the workspace lies in: nothing else may come to be there. */
static char top[] = "/tmp/fuzz-agent-XXXXXX";

static void remove_top(void)
{
    (void)path_remove_tree(open("/tmp", O_PATH | O_CLOEXEC), strrchr(top, '/') + 1);
}

static void make_top(void)
{
    if (top_fd >= 0)
        return;
    PROMISE(mkdtemp(top));
    top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    PROMISE(top_fd >= 0 && symlinkat("/nowhere", top_fd, "outside") == 0);
    atexit(remove_top);
}

static void check_top(void)
{
    auto_closedir DIR *dir = fdopendir(openat(top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    PROMISE(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        PROMISE(entry->d_name[0] == '.' ? entry->d_name[1] == '.' || !entry->d_name[1]
                                        : strcmp(entry->d_name, "workspace") == 0 ||
                                              strcmp(entry->d_name, "outside") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    struct link *link;
    char workspace[] = "/workspace";
    make_top();
    signal(SIGPIPE, SIG_IGN); /* as the agent itself */
    (void)path_remove_tree(top_fd, "workspace");
    PROMISE(mkdirat(top_fd, "workspace", 0755) == 0);
    struct agent agent = {
        .base = event_base_new(),
        .options = {.workspace = workspace, .listen_fd = -1, .connected_fd = -1, .serial_fd = -1},
        .root_fd = openat(top_fd, "workspace", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .execs_max = 4};
    PROMISE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    PROMISE(agent_begin(&agent) == 0);
    agent_adopt_stream(&agent, fds[0], NULL, NULL);
    PROMISE(link_new_client(&link, agent.base, fds[1], &link_events, NULL, NULL) == 0);
    memset(callers, 0, sizeof callers);
    count = 0;
    while (size >= 4)
        say(agent.base, link, &data, &size);
    for (int i = 0; i < TURNS_MAX && agent.stop.phase == STOP_NONE; i++)
        event_base_loop(agent.base, EVLOOP_NONBLOCK);
    link_free(link);
    for (unsigned i = 0; i < count; i++)
        PROMISE(callers[i].ended == 1);
    agent_end(&agent);
    close(agent.root_fd);
    event_base_free(agent.base);
    check_top();
    return 0;
}
