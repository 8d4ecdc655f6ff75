#include "agent_fixture.h"

#include "base/path_at.h"
#include "guestagent/agent/agent.h"

#include <check.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

char workspace[64];
static struct agent agent;
static struct link *client;
static struct event *child;

static void on_child(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    exec_reap(arg);
}

static void on_down(struct link *link, void *arg, const struct hearth_failure *why)
{
    (void)link;
    (void)arg;
    ck_abort_msg("the link is down: %s", why->detail);
}

static const struct link_events link_events = {.on_down = on_down};

void agent_setup(void)
{
    int fds[2];
    signal(SIGPIPE, SIG_IGN); /* as the agent itself */
    strcpy(workspace, "/tmp/hearth-agent-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(workspace));
    agent = (struct agent){
        .base = event_base_new(),
        .options = {.workspace = workspace, .listen_fd = -1, .connected_fd = -1, .serial_fd = -1},
        .root_fd = open(workspace, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .execs_max = 4};
    ck_assert_int_eq(agent_begin(&agent), 0);
    child = evsignal_new(agent.base, SIGCHLD, on_child, &agent);
    ck_assert_int_eq(event_add(child, NULL), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    agent_adopt_stream(&agent, fds[0], NULL, NULL);
    ck_assert_int_eq(link_new_client(&client, agent.base, fds[1], &link_events, NULL, NULL), 0);
}

void agent_teardown(void)
{
    link_free(client);
    event_free(child);
    exec_signal_all(&agent, SIGKILL);
    agent_end(&agent);
    close(agent.root_fd);
    event_base_free(agent.base);
    (void)path_remove_tree(open("/tmp", O_PATH | O_CLOEXEC), strrchr(workspace, '/') + 1);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct asked *asked = arg;
    (void)call;
    buf_clear(&asked->last);
    ck_assert_int_eq(buf_append(&asked->last, data, length), 0);
    Hearth__Agent__V1__FileReadReply *piece =
        hearth__agent__v1__file_read_reply__unpack(NULL, length, data);
    if (!piece)
        return;
    ck_assert_int_eq(buf_append(&asked->data, piece->data.data, piece->data.len), 0);
    hearth__agent__v1__file_read_reply__free_unpacked(piece, NULL);
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    struct asked *asked = arg;
    (void)call;
    asked->call = NULL;
    asked->ended = true;
    asked->status = status;
    snprintf(asked->text, sizeof asked->text, "%s", message);
}

static const struct link_call_events call_events = {.on_message = on_message, .on_end = on_end};

void ask_begin(struct asked *asked, const char *method)
{
    char path[80];
    snprintf(path, sizeof path, AGENT_SERVICE "%s", method);
    ck_assert_int_eq(link_call_start(&asked->call, client, path, 0, &call_events, asked, NULL), 0);
}

enum link_status ask_end(struct asked *asked)
{
    while (!asked->ended)
        ck_assert_int_eq(event_base_loop(agent.base, EVLOOP_ONCE), 0);
    return asked->status;
}

enum link_status ask(struct asked *asked, const char *method, const ProtobufCMessage *request)
{
    ask_begin(asked, method);
    ck_assert_int_eq(link_call_send(asked->call, request), 0);
    link_call_finish(asked->call);
    return ask_end(asked);
}

void asked_free(struct asked *asked)
{
    buf_free(&asked->last);
    buf_free(&asked->data);
}
