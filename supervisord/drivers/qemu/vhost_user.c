/* vsock where the host's kernel has none: vhost-device-vsock, one process a machine, in a jail like
 * QEMU's and of a user of its own. QEMU is given a connection to its control socket; the agent is
 * reached over its other one, which takes "CONNECT PORT\n" and answers "OK …\n". The machine's
 * memory is shared with it, so that such a machine cannot be saved.
 *
 * Nobody connects before the agent has greeted: a connection that comes while the machine's kernel
 * sets up its queues ends the thread that serves them (vhost-device-vsock 0.3.0), and with it all
 * vsock of that machine. The greeting is a connection from the machine to the host's port, which
 * vhost-device-vsock makes to the socket GREETING. */
#include "supervisord/drivers/qemu/qemu.h"

#include "base/cleanup.h"
#include "guestagent/preamble.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DIRECTORY "vsock"
#define CONTROL DIRECTORY "/control"
#define GUEST DIRECTORY "/guest"
#define GREETING GUEST "_1023" /* its name for that port of the host's */
#define CID 3                  /* each process knows one machine alone */
#define UP_ATTEMPTS 1000
#define UP_PAUSE_NS (5 * 1000 * 1000)
#define RETRY_US (20 * US_PER_MS)
#define ANSWER_MAX 32

struct connecting {
    struct qemu_guest *guest;
    int fd, greeting_fd; /* -1: none */
    int64_t deadline_us;
    struct timer retry;
    struct watch watch;
    char answer[ANSWER_MAX]; /* "OK PORT\n" */
    size_t have;
    transport_connected done;
    void *arg;
};

static bool find_program(char out[PATH_MAX])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const struct {
        const char *directory, *below;
    } places[] = {{"/usr/local/bin", ""},
                  {"/usr/bin", ""},
                  {cache, "/hearth/bin"},
                  {home, "/.cache/hearth/bin"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!places[i].directory || !*places[i].directory)
            continue;
        snprintf(out, PATH_MAX, "%s%s/vhost-device-vsock", places[i].directory, places[i].below);
        if (access(out, X_OK) == 0)
            return true;
    }
    return false;
}

static bool usable(const struct qemu_driver *driver, char *ret_reason, size_t size)
{
    char path[PATH_MAX];
    (void)driver;
    if (find_program(path))
        return true;
    snprintf(ret_reason, size,
             "vhost-device-vsock is not installed (make deps builds it with cargo)");
    return false;
}

/* --- before the machine: blocking, on a starter --- */

/* To the user that the program runs as. */
static int give_away(const struct qemu_guest *guest, const char *path)
{
    if (guest->driver->as_root && fchownat(guest->driver->runtime_fd, path, guest->owner + 1,
                                           guest->owner + 1, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return 0;
}

static int make_directory(const struct qemu_guest *guest)
{
    char path[64];
    snprintf(path, sizeof path, "%s/" DIRECTORY, guest->guest_id);
    if (mkdirat(guest->driver->runtime_fd, path, 0700) < 0)
        return -errno;
    return give_away(guest, path);
}

static int listen_for_greeting(struct qemu_guest *guest)
{
    char path[64];
    _Static_assert(HOST_VSOCK_PORT == 1023, "the socket's name has it");
    guest->greeting_fd = qemu_files_listen(guest, GREETING);
    if (guest->greeting_fd < 0)
        return guest->greeting_fd;
    snprintf(path, sizeof path, "%s/" GREETING, guest->guest_id);
    return give_away(guest, path);
}

static void make_command(const struct qemu_guest *guest, const char *program,
                         struct arguments *arguments)
{
    const struct qemu_driver *driver = guest->driver;
    arguments_add(arguments, "%s", driver->launch_path);
    arguments_add(arguments, "--machine");
    if (driver->as_root)
        arguments_add(arguments, "--uid=%u", (unsigned)guest->owner + 1);
    for (size_t i = 0; i < driver->cgroups.base_count; i++) {
        char file[CGROUP_PATH_SIZE];
        cgroup_join_file(&driver->cgroups, i, guest->guest_id, file);
        arguments_add(arguments, "--cgroup=%s", file);
    }
    arguments_add(arguments, "--run=program=%s", program);
    arguments_add(arguments, "--own=" DIRECTORY "=%s/machines/%s/" DIRECTORY,
                  driver->config.runtime_dir, guest->guest_id);
    arguments_add(arguments, "--");
    arguments_add(arguments, "/program");
    arguments_add(arguments, "--guest-cid=%d", CID);
    arguments_add(arguments, "--socket=/" CONTROL);
    arguments_add(arguments, "--uds-path=/" GUEST);
}

/* hearth-launch ends once what it launches runs. */
static int launch(const struct qemu_guest *guest, const struct arguments *arguments)
{
    char variable[64];
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status;
    snprintf(variable, sizeof variable, "HEARTH_GUEST_ID=%s", guest->guest_id);
    char *const environment[] = {(char *)"PATH=/usr/bin:/bin", variable, NULL};
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd <= 2; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    int error =
        -posix_spawn(&pid, arguments->items[0], &actions, NULL, arguments->items, environment);
    posix_spawn_file_actions_destroy(&actions);
    if (error)
        return error;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECANCELED;
}

/* A connection to its control socket, once it listens; or a negative errno. */
static int wait_until_up(const struct qemu_guest *guest)
{
    const struct timespec pause = {.tv_nsec = UP_PAUSE_NS};
    int fd = -ENOENT;
    for (int i = 0; i < UP_ATTEMPTS && (fd = qemu_files_connect(guest, CONTROL)) < 0; i++)
        nanosleep(&pause, NULL);
    if (fd >= 0)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

static int prepare(struct qemu_guest *guest, struct hearth_failure *failure)
{
    char program[PATH_MAX];
    auto_arguments struct arguments arguments = {0};
    int error = find_program(program) ? make_directory(guest) : -ENOENT;
    if (!error)
        error = listen_for_greeting(guest);
    if (!error) {
        make_command(guest, program, &arguments);
        error = arguments.failed ? -ENOMEM : launch(guest, &arguments);
    }
    if (!error) {
        guest->agent_fd = wait_until_up(guest);
        error = guest->agent_fd < 0 ? guest->agent_fd : 0;
    }
    return error ? hearth_fail_errno(failure, -error, "start_failed",
                                     "cannot start vhost-device-vsock")
                 : 0;
}

static void add_arguments(const struct qemu_guest *guest, struct arguments *arguments)
{
    arguments_add(arguments, "-object");
    arguments_add(arguments, "memory-backend-memfd,id=memory,size=%uM,share=on",
                  (unsigned)guest->mem_mib);
    arguments_add(arguments, "-machine");
    arguments_add(arguments, "memory-backend=memory");
    arguments_add(arguments, "-chardev");
    arguments_add(arguments, "socket,id=vsock,fd=%d", QEMU_FD_AGENT);
    arguments_add(arguments, "-device");
    arguments_add(arguments, "vhost-user-vsock-device,chardev=vsock");
}

/* --- connecting --- */

static void connecting_free(void *arg)
{
    struct connecting *connecting = arg;
    watch_free(&connecting->watch);
    timer_free(&connecting->retry);
    cleanup_close(&connecting->fd);
    cleanup_close(&connecting->greeting_fd);
    free(connecting);
}

static void cancel(void *arg)
{
    struct connecting *connecting = arg;
    watch_free(&connecting->watch);
    timer_unset(&connecting->retry);
    loop_defer(qemu_loop(connecting->guest), connecting_free, connecting);
}

static void give_up(struct connecting *connecting, const char *why)
{
    struct hearth_failure failure;
    hearth_fail(&failure, HEARTH_EUNAVAILABLE, "guest_unreachable", "%s", why);
    cancel(connecting);
    connecting->done(connecting->arg, -1, &failure);
}

static void try_later(struct connecting *connecting)
{
    watch_free(&connecting->watch);
    cleanup_close(&connecting->fd);
    connecting->fd = -1;
    timer_set(&connecting->retry, clock_monotonic_us() + RETRY_US);
}

/* A byte at a time up to the line's end: what follows it is the agent's. */
static void on_answer(void *arg)
{
    struct connecting *connecting = arg;
    char *answer = connecting->answer;
    for (;;) {
        ssize_t got = read(connecting->fd, answer + connecting->have, 1);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0 || (answer[connecting->have] != '\n' && ++connecting->have == ANSWER_MAX)) {
            try_later(connecting);
            return;
        }
        if (answer[connecting->have] == '\n')
            break;
    }
    if (connecting->have < 3 || memcmp(answer, "OK ", 3) != 0) {
        try_later(connecting);
        return;
    }
    int fd = steal_fd(&connecting->fd);
    cancel(connecting);
    connecting->done(connecting->arg, fd, NULL);
}

/* One may still be closed again, by a machine that is very busy. */
static void try_connect(void *arg)
{
    static const char request[] = "CONNECT 1023\n";
    _Static_assert(AGENT_VSOCK_PORT == 1023, "the request names the agent's port");
    struct connecting *connecting = arg;
    int64_t now = clock_monotonic_us();
    if (now >= connecting->deadline_us) {
        give_up(connecting, "the agent did not answer in time");
        return;
    }
    connecting->have = 0;
    cleanup_close(&connecting->fd); /* one that was not answered at all */
    watch_free(&connecting->watch);
    connecting->fd = qemu_files_connect(connecting->guest, GUEST);
    /* Whoever listens no more does not come back, and neither does the machine's vsock: it is
     * ended, and that is told. */
    if (connecting->fd == -ECONNREFUSED) {
        connecting->guest->end_reason = "the machine's vhost-device-vsock ended";
        qemu_kill(connecting->guest);
        give_up(connecting, connecting->guest->end_reason);
        return;
    }
    if (connecting->fd < 0 ||
        send(connecting->fd, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1 ||
        watch_init(&connecting->watch, qemu_loop(connecting->guest), connecting->fd, on_answer,
                   connecting) != 0) {
        try_later(connecting);
        return;
    }
    int64_t again = now + US_PER_S; /* … or be left hanging */
    timer_set(&connecting->retry,
              again < connecting->deadline_us ? again : connecting->deadline_us);
}

static void on_greeting(void *arg)
{
    struct connecting *connecting = arg;
    watch_free(&connecting->watch);
    cleanup_close(&connecting->greeting_fd);
    connecting->greeting_fd = -1;
    try_connect(connecting);
}

/* What has booted already has greeted: before a daemon that is gone, or for another connect. */
static void *connect_agent(struct qemu_guest *guest, int64_t deadline_us, transport_connected done,
                           void *arg)
{
    struct connecting *connecting = calloc(1, sizeof *connecting);
    if (!connecting)
        abort();
    *connecting = (struct connecting){.guest = guest,
                                      .fd = -1,
                                      .greeting_fd = steal_fd(&guest->greeting_fd),
                                      .deadline_us = deadline_us,
                                      .done = done,
                                      .arg = arg};
    timer_init(&connecting->retry, qemu_loop(guest), try_connect, connecting);
    bool waits = connecting->greeting_fd >= 0 &&
                 watch_init(&connecting->watch, qemu_loop(guest), connecting->greeting_fd,
                            on_greeting, connecting) == 0;
    timer_set(&connecting->retry, waits ? deadline_us : clock_monotonic_us());
    return connecting;
}

const struct vm_transport transport_vhost_user = {
    .name = "vhost-user",
    .execution_mode = "guest_vsock",
    .choice = "vsock",
    .exact = "vhost-user-vsock",
    .restorable = false,
    .agent_words = " --greet",
    .usable = usable,
    .prepare = prepare,
    .add_arguments = add_arguments,
    .connect = connect_agent,
    .cancel = cancel,
};
