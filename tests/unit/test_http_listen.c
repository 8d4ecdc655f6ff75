/* Who may connect, how many, and where: sockets, caps, running out of descriptors, activation. */
#include "http_fixture.h"
#include "suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct reply reply;

static void start(void)
{
    fixture_start((struct http_config){0});
}

static void stop(void)
{
    buf_free(&reply.body);
    fixture_stop();
}

static void get(struct client *client, const char *headers)
{
    char text[512];
    snprintf(text, sizeof text, "GET /hello HTTP/1.1\r\nHost: localhost\r\n%s\r\n", headers);
    client_send(client, text);
}

static int status(struct client *client, const char *headers)
{
    get(client, headers);
    client_reply(client, &reply);
    return reply.status;
}

START_TEST(the_socket_is_for_its_user_and_group)
{
    struct stat node;
    ck_assert_int_eq(stat(fixture_socket(), &node), 0);
    ck_assert_uint_eq(node.st_mode & 0777, 0660);
}
END_TEST

START_TEST(the_sockets_own_user_needs_no_token_and_others_do)
{
    struct client *client = client_local();
    ck_assert_int_eq(status(client, ""), 200);
    ck_assert_int_eq(status(client, "Authorization: Bearer nonsense\r\n"), 401);
    supervisor_double_trust_peer(false);
    ck_assert_int_eq(status(client, ""), 401);
    ck_assert_int_eq(status(client, AUTH), 200);
    client_free(client);
}
END_TEST

START_TEST(failures_to_authenticate_look_the_same)
{
    static const char *const attempts[] = {"", "Authorization: Bearer nonsense\r\n",
                                           "Authorization: Basic eDp5\r\n",
                                           "Authorization: Bearer\r\n"};
    auto_buf struct buf first = {0};
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) {
        struct client *client = client_tcp();
        char headers[256];
        snprintf(headers, sizeof headers, "X-Request-Id: same\r\n%s", attempts[i]);
        ck_assert_int_eq(status(client, headers), 401);
        if (i == 0)
            buf_text(&first, reply.body.data);
        ck_assert_str_eq(first.data, reply.body.data);
        client_free(client);
    }
}
END_TEST

static int fails_to_listen(const char *socket_path, const char *listen)
{
    struct http_config config = {
        .supervisor = supervisor_double(loop), .socket_path = socket_path, .listen = listen};
    struct http_server *other = NULL;
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    static const struct http_handler handler;
    int error = http_server_new(&other, &config, &handler, NULL, &failure);
    if (error)
        ck_assert_str_eq(failure.code, "listen_failed");
    http_server_free(other);
    return error;
}

START_TEST(only_the_loopback_is_listened_on)
{
    static const char *const bad[] = {"0.0.0.0:0",   "[::]:0",          "10.0.0.1:0",   "127.0.0.1",
                                      "127.0.0.1:x", "127.0.0.1:99999", "127.0.0.1:-1", ":0",
                                      "example:80",  "127.0.0.1:80x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(fails_to_listen("", bad[i]) == HEARTH_EINVALID, "%s", bad[i]);
    ck_assert_int_eq(fails_to_listen("", "127.0.0.2:0"), 0);
    ck_assert_int_eq(fails_to_listen("", "localhost:0"), 0);
}
END_TEST

START_TEST(a_stale_socket_is_replaced_and_a_file_is_not)
{
    char path[128];
    snprintf(path, sizeof path, "%s.stale", fixture_socket());
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    ck_assert_int_eq(fails_to_listen(path, ""), 0);
    ck_assert_int_ne(access(path, F_OK), 0);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    ck_assert_int_eq(fails_to_listen(path, ""), HEARTH_ECONFLICT);
    ck_assert_int_eq(access(path, F_OK), 0);
    unlink(path);
}
END_TEST

START_TEST(a_socket_that_another_daemon_took_over_is_left_alone)
{
    ck_assert_int_eq(unlink(fixture_socket()), 0);
    close(open(fixture_socket(), O_CREAT | O_WRONLY, 0600));
    http_server_free(server);
    server = NULL;
    ck_assert_int_eq(access(fixture_socket(), F_OK), 0);
}
END_TEST

START_TEST(too_long_a_path_says_so)
{
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    ck_assert_int_eq(fails_to_listen(path, ""), HEARTH_EINVALID);
}
END_TEST

static void start_capped(void)
{
    fixture_start((struct http_config){.max_connections = 4, .max_connections_per_token = 2});
}

START_TEST(one_uid_has_so_many_connections)
{
    struct client *clients[3] = {client_local(), client_local(), client_local()};
    client_reply(clients[2], &reply);
    ck_assert_int_eq(reply.status, 429);
    ck_assert(reply_has(&reply, "Retry-After: 1"));
    client_until_eof(clients[2]);
    ck_assert_int_eq(status(clients[0], ""), 200);
    ck_assert_int_eq(status(clients[1], ""), 200);
    client_free(clients[0]);
    run_some();
    clients[0] = client_local();
    ck_assert_int_eq(status(clients[0], ""), 200);
    for (int i = 0; i < 3; i++)
        client_free(clients[i]);
}
END_TEST

START_TEST(one_token_has_so_many_connections)
{
    static const char other[] = "Authorization: Bearer " DOUBLE_OTHER_TOKEN "\r\n";
    struct client *clients[3] = {client_tcp(), client_tcp(), client_tcp()};
    ck_assert_int_eq(status(clients[0], AUTH), 200);
    ck_assert_int_eq(status(clients[1], AUTH), 200);
    ck_assert_int_eq(status(clients[0], AUTH), 200);
    ck_assert_int_eq(status(clients[2], AUTH), 429);
    ck_assert(reply_has(&reply, "Retry-After: 1"));
    ck_assert(reply_has(&reply, "Content-Type: application/problem+json"));
    client_until_eof(clients[2]);
    client_free(clients[2]);
    clients[2] = client_tcp();
    ck_assert_int_eq(status(clients[2], other), 200);
    /* Another token on the same connection frees the first one's place. */
    ck_assert_int_eq(status(clients[1], other), 200);
    ck_assert_int_eq(status(clients[2], AUTH), 200);
    for (int i = 0; i < 3; i++)
        client_free(clients[i]);
}
END_TEST

START_TEST(all_together_have_so_many_connections)
{
    struct client *clients[5];
    for (int i = 0; i < 5; i++)
        clients[i] = client_tcp();
    client_reply(clients[4], &reply);
    ck_assert_int_eq(reply.status, 503);
    ck_assert(reply_has(&reply, "Retry-After: 1"));
    client_free(clients[4]);
    client_free(clients[0]);
    run_some();
    clients[0] = client_tcp();
    ck_assert_int_eq(status(clients[0], AUTH), 200);
    for (int i = 0; i < 4; i++)
        client_free(clients[i]);
}
END_TEST

#define CROWD 40

/* A crowd of blocking clients in a process of its own, whose descriptors are not the server's.
 * Exits with how many got the status asked for. */
static pid_t crowd(int wanted_status, int stay_fd)
{
    uint16_t port = fixture_port();
    pid_t pid = fork();
    if (pid)
        return pid;
    static const char text[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n" AUTH "\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval patience = {.tv_sec = 10};
    int fds[CROWD], count = 0;
    for (int i = 0; i < CROWD; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (connect(fds[i], (struct sockaddr *)&address, sizeof address) < 0 ||
            send(fds[i], text, sizeof text - 1, MSG_NOSIGNAL) < 0)
            continue;
    }
    for (int i = 0; i < CROWD; i++) {
        char answer[64] = "";
        if (recv(fds[i], answer, sizeof answer - 1, 0) > 0 &&
            strtol(answer + strlen("HTTP/1.1 "), NULL, 10) == wanted_status)
            count++;
    }
    char byte;
    ssize_t got = read(stay_fd, &byte, 1); /* until the test closes its end */
    _exit(got == 0 ? count : 0);
}

static bool has_exited(void *arg)
{
    int *status_out = arg;
    return waitpid(-1, status_out, WNOHANG) > 0;
}

static bool all_answered(void *arg)
{
    (void)arg;
    struct http_stats now;
    http_server_get_stats(server, &now);
    return now.requests + now.refused >= CROWD;
}

START_TEST(running_out_of_descriptors_refuses_and_recovers)
{
    int pipe_fds[2], exit_status = 0;
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        close(pipe_fds[1]);
        pid_t crowd_pid = crowd(503, pipe_fds[0]);
        int crowd_status;
        waitpid(crowd_pid, &crowd_status, 0);
        _exit(WEXITSTATUS(crowd_status));
    }
    close(pipe_fds[0]);
    int highest = dup(0);
    close(highest);
    struct rlimit before, low;
    getrlimit(RLIMIT_NOFILE, &before);
    low = (struct rlimit){.rlim_cur = (rlim_t)highest + 10, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    run_until(all_answered, NULL);
    struct http_stats crowded;
    http_server_get_stats(server, &crowded);
    ck_assert_uint_gt(crowded.refused, 0);
    ck_assert_uint_le(crowded.connections, 10);
    close(pipe_fds[1]); /* the crowd leaves */
    run_until(has_exited, &exit_status);
    ck_assert_uint_eq((unsigned)WEXITSTATUS(exit_status), crowded.refused);
    run_some();
    /* Still short of descriptors, but not of places. */
    struct client *client = client_tcp();
    ck_assert_int_eq(status(client, AUTH), 200);
    client_free(client);
    setrlimit(RLIMIT_NOFILE, &before);
}
END_TEST

START_TEST(with_no_descriptor_at_all_accepting_pauses_and_comes_back)
{
    struct client *client = client_tcp();
    ck_assert_int_eq(status(client, AUTH), 200);
    struct client *late = client_tcp(); /* waits in the backlog */
    int highest = dup(0);
    close(highest);
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    uint64_t turns = loop_turns(loop);
    run_some();
    ck_assert_uint_lt(loop_turns(loop) - turns, 200);
    ck_assert_int_eq(status(client, AUTH), 200);
    setrlimit(RLIMIT_NOFILE, &before);
    ck_assert_int_eq(status(late, AUTH), 200); /* the tick looks again */
    client_free(client);
    client_free(late);
}
END_TEST

static bool had_a_request(void *arg)
{
    (void)arg;
    struct http_stats now;
    http_server_get_stats(server, &now);
    return now.bytes_out > 0;
}

/* In a process of its own, as systemd would start it: the listener is descriptor 3. */
static void serve_activated(int listener, const char *name)
{
    char pid[16];
    dup2(listener, 3);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_FDNAMES", name, 1);
    fixture_start((struct http_config){.listen = ""});
    if (getenv("LISTEN_FDS") || access(fixture_socket(), F_OK) == 0)
        _exit(2);
    run_until(had_a_request, NULL);
    fixture_stop();
    _exit(0);
}

START_TEST(systemds_socket_is_served_and_left_in_place)
{
    char path[] = "/tmp/hearth-activation-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(path));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/api.sock", path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    static const char *const names[] = {"api", "hearthd.socket"};
    for (size_t i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (pid == 0)
            serve_activated(listener, names[i]);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0), exit_status;
        char answer[64] = "";
        struct timeval patience = {.tv_sec = 10};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        ck_assert_int_gt(send(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", 33, 0), 0);
        ck_assert_int_gt(recv(fd, answer, sizeof answer - 1, 0), 0);
        ck_assert_int_eq(strncmp(answer, "HTTP/1.1 200", 12), 0);
        close(fd);
        ck_assert_int_eq(waitpid(pid, &exit_status, 0), pid);
        ck_assert_int_eq(exit_status, 0);
        ck_assert_int_eq(access(address.sun_path, F_OK), 0);
    }
    close(listener);
    unlink(address.sun_path);
    rmdir(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_listen");
    TCase *open = tcase_create("open");
    tcase_set_timeout(open, 60);
    tcase_add_checked_fixture(open, start, stop);
    tcase_add_test(open, the_socket_is_for_its_user_and_group);
    tcase_add_test(open, the_sockets_own_user_needs_no_token_and_others_do);
    tcase_add_test(open, failures_to_authenticate_look_the_same);
    tcase_add_test(open, only_the_loopback_is_listened_on);
    tcase_add_test(open, a_stale_socket_is_replaced_and_a_file_is_not);
    tcase_add_test(open, a_socket_that_another_daemon_took_over_is_left_alone);
    tcase_add_test(open, too_long_a_path_says_so);
    tcase_add_test(open, running_out_of_descriptors_refuses_and_recovers);
    tcase_add_test(open, with_no_descriptor_at_all_accepting_pauses_and_comes_back);
    suite_add_tcase(suite, open);
    TCase *capped = tcase_create("capped");
    tcase_set_timeout(capped, 60);
    tcase_add_checked_fixture(capped, start_capped, stop);
    tcase_add_test(capped, one_uid_has_so_many_connections);
    tcase_add_test(capped, one_token_has_so_many_connections);
    tcase_add_test(capped, all_together_have_so_many_connections);
    suite_add_tcase(suite, capped);
    TCase *activation = tcase_create("activation");
    tcase_set_timeout(activation, 60);
    tcase_add_test(activation, systemds_socket_is_served_and_left_in_place);
    suite_add_tcase(suite, activation);
    return run_and_free(suite);
}
