/* hearth-net: outbound network for one guest, with no privilege outside the guest's user namespace.
 *
 *   hearth-net [--cgroup FILE]… [--allow CIDR]… --pid PID
 *
 * Between the guest and the host is a network namespace of its own, the gate. One pasta carries
 * connections from the guest's namespace into the gate, where they become sockets; another carries
 * the gate's to the host's network. What may not be reached has no route in the gate: the guest
 * has no process there, and no capability over it.
 *
 *   guest ── eth0 ── pasta ──▶ gate (routes) ── tap ── pasta ──▶ host ──▶ internet
 *
 * Name servers: NET_NAME_SERVER stands for the host's first. Nothing is forwarded inwards. With the
 * line "ready" on descriptor 1 the guest has its network and the first process ends; what stays
 * behind ends with the guest, or takes the rest along when a part of it dies. What goes wrong is
 * one line on descriptor 2 and exit status 1. */
#include "supervisord/net/net.h"
#include "supervisord/launch/enter.h"
#include "supervisord/launch/userns.h"
#include "supervisord/net/denied.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define PREFIXES_MAX 256
#define OUTER_INTERFACE "out"
/* The gate's own end; the guest's is as in net.h. */
#define GATE_ADDRESS "10.0.3.2"
#define GATE_ROUTER "10.0.3.1"
/* In pasta: where it writes its PID once it is up, and the guest's network namespace. */
#define READY_FD 3
#define NET_FD 4
#define NET_PATH "/proc/self/fd/4"

struct order {
    pid_t guest;
    struct net_prefix allowed[PREFIXES_MAX];
    struct net_prefix own[PREFIXES_MAX]; /* the host's */
    size_t allowed_count, own_count;
};

static void parse(int argc, char **argv, struct order *order)
{
    static const struct option options[] = {{"cgroup", required_argument, NULL, 'c'},
                                            {"allow", required_argument, NULL, 'a'},
                                            {"pid", required_argument, NULL, 'p'},
                                            {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'c')
            launch_join_cgroup(optarg); /* before there is anything that could stay outside */
        else if (option == 'p')
            order->guest = (pid_t)strtol(optarg, NULL, 10);
        else if (option != 'a')
            exit(2);
        else if (order->allowed_count == PREFIXES_MAX ||
                 !net_prefix_parse(optarg, &order->allowed[order->allowed_count++]))
            launch_die(EINVAL, "cannot allow %s", optarg);
    }
    if (order->guest < 2 || optind != argc)
        exit(2);
}

static int open_namespace(pid_t pid, const char *kind)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kind);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        launch_die(errno, "cannot open a %s namespace", kind);
    return fd;
}

/* Where root alone may use the tun device, what is to run without root's privileges gets one that
 * only it sees. */
static void make_tun(void)
{
    if (geteuid() != 0)
        return;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        launch_die(errno, "cannot make a private mount namespace");
    if (mkdir("/dev/net", 0755) < 0 && errno != EEXIST)
        launch_die(errno, "cannot make /dev/net");
    mode_t mask = umask(0);
    if (mount("none", "/dev/net", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=4k,mode=0755") < 0 ||
        mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)) < 0)
        launch_die(errno, "cannot make a tun device");
    umask(mask);
}

/* --- children --- */

static pid_t start(const char *const *argv, int ready_fd, int errors_fd, int net_fd)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        launch_die(errno, "cannot start %s", argv[0]);
    if (pid)
        return pid;
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(1);
    dup2(null_fd, 0);
    dup2(null_fd, 1);
    dup2(errors_fd, 2);
    /* Above what they become: none is written over before it is used. */
    ready_fd = fcntl(ready_fd, F_DUPFD_CLOEXEC, NET_FD + 1);
    net_fd = fcntl(net_fd, F_DUPFD_CLOEXEC, NET_FD + 1);
    dup2(ready_fd, READY_FD);
    dup2(net_fd, NET_FD);
    close_range(NET_FD + 1, ~0U, 0);
    execvp(argv[0], (char *const *)argv);
    dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(1);
}

struct pasta {
    pid_t pid;
    int ready_fd, errors_fd;
};

static struct pasta start_pasta(const char *const *argv, int net_fd)
{
    int ready[2], errors[2];
    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0)
        launch_die(errno, "cannot make a pipe");
    struct pasta pasta = {.pid = start(argv, ready[1], errors[1], net_fd),
                          .ready_fd = ready[0],
                          .errors_fd = errors[0]};
    close(ready[1]);
    close(errors[1]);
    return pasta;
}

/* What it says when it fails is its last line. */
static void wait_for_pasta(struct pasta *pasta)
{
    char text[2048];
    if (read(pasta->ready_fd, text, 1) == 1) {
        close(pasta->ready_fd);
        close(pasta->errors_fd);
        return;
    }
    size_t length = 0;
    for (ssize_t got; length < sizeof text - 1 &&
                      (got = read(pasta->errors_fd, text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    while (length && text[length - 1] == '\n')
        length--;
    text[length] = '\0';
    char *line = strrchr(text, '\n');
    launch_die(ENETUNREACH, "pasta failed: %.300s", line ? line + 1 : text);
}

/* --- the gate --- */

static void run_ip(const char *batch)
{
    const char *const argv[] = {"ip", "-batch", "-", NULL};
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC) < 0)
        launch_die(errno, "cannot make a pipe");
    pid_t pid = fork();
    if (pid < 0)
        launch_die(errno, "cannot start ip");
    if (pid == 0) {
        dup2(ends[0], 0);
        execvp(argv[0], (char *const *)argv);
        launch_die(errno, "cannot run ip");
    }
    close(ends[0]);
    if (write(ends[1], batch, strlen(batch)) < 0)
        launch_die(errno, "cannot talk to ip");
    close(ends[1]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        launch_die(EIO, "ip cannot set the routes");
}

struct batch {
    char text[PREFIXES_MAX * 3 * 64];
    size_t length;
};

static void add_route(struct batch *batch, const char *kind, const struct net_prefix *prefix,
                      const char *rest)
{
    char text[NET_PREFIX_TEXT];
    net_prefix_print(prefix, text);
    int put = snprintf(batch->text + batch->length, sizeof batch->text - batch->length,
                       "route replace %s %s%s\n", kind, text, rest);
    if (put < 0 || (size_t)put >= sizeof batch->text - batch->length)
        launch_die(E2BIG, "the host has too many networks");
    batch->length += (size_t)put;
}

static void add_denied(struct batch *batch, const struct order *order)
{
    for (size_t i = 0; i < net_special_count; i++)
        add_route(batch, "unreachable", &net_special[i], "");
    for (size_t i = 0; i < order->own_count; i++)
        add_route(batch, "unreachable", &order->own[i], "");
}

/* The most exact route counts: what is allowed is more exact than what it is taken out of, or
 * replaces it. The name server's address, which pasta translates for its port alone, is routed for
 * that port alone. */
static void set_gate_routes(const struct order *order)
{
    static struct batch batch = {
        .text = "route flush dev " OUTER_INTERFACE "\n"
                "route add default dev " OUTER_INTERFACE "\n"
                "route add " NET_NAME_SERVER " dev " OUTER_INTERFACE " table 53\n"
                "rule add priority 53 to " NET_NAME_SERVER " ipproto udp dport 53 lookup 53\n"};
    batch.length = strlen(batch.text);
    add_denied(&batch, order);
    for (size_t i = 0; i < order->allowed_count; i++)
        add_route(&batch, "", &order->allowed[i], " dev " OUTER_INTERFACE);
    run_ip(batch.text);
}

#define QUIET "-f", "-4", "-P", "/proc/self/fd/3", "--netns-only"
#define NOTHING_INWARDS "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"

/* A network namespace of its own, by way of a process whose only work is to be in it until there is
 * a descriptor. */
static int make_namespace(void)
{
    pid_t holder = (pid_t)syscall(SYS_clone, CLONE_NEWNET | SIGCHLD, NULL, NULL, NULL, NULL);
    if (holder < 0)
        launch_die(errno, "cannot make a network namespace");
    if (holder == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() == 1)
            _exit(1);
        for (;;)
            pause();
    }
    int fd = open_namespace(holder, "net");
    kill(holder, SIGKILL);
    while (waitpid(holder, NULL, 0) < 0 && errno == EINTR)
        continue;
    return fd;
}

/* The outer pasta has its sockets in the host's network namespace, which this process leaves for
 * the gate. */
static struct pasta make_gate(const struct order *order)
{
    int gate = make_namespace();
    const char *const argv[] = {"pasta",
                                QUIET,
                                "--netns",
                                NET_PATH,
                                "--config-net",
                                "-I",
                                OUTER_INTERFACE,
                                "-a",
                                GATE_ADDRESS,
                                "-n",
                                "24",
                                "-g",
                                GATE_ROUTER,
                                NOTHING_INWARDS,
                                "--dns-forward",
                                NET_NAME_SERVER,
                                NULL};
    struct pasta outer = start_pasta(argv, gate);
    wait_for_pasta(&outer);
    if (setns(gate, CLONE_NEWNET) < 0)
        launch_die(errno, "cannot enter the gate");
    set_gate_routes(order);
    return outer;
}

/* In the guest's own namespace, so that what is denied fails there at once instead of when
 * somebody's patience ends. Nothing depends on it. */
static void set_guest_routes(const struct order *order, int net_fd)
{
    static struct batch batch;
    int status;
    add_denied(&batch, order);
    for (size_t i = 0; i < order->allowed_count; i++)
        add_route(&batch, "", &order->allowed[i], " via " NET_GUEST_ROUTER);
    pid_t pid = fork();
    if (pid < 0)
        launch_die(errno, "cannot enter the guest's network");
    if (pid == 0) {
        if (setns(net_fd, CLONE_NEWNET) < 0)
            launch_die(errno, "cannot enter the guest's network");
        run_ip(batch.text);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        launch_die(EIO, "cannot set the guest's routes");
}

static struct pasta connect_guest(const struct order *order, int net_fd)
{
    const char *const argv[] = {"pasta",
                                QUIET,
                                "--netns",
                                NET_PATH,
                                "--config-net",
                                "-I",
                                NET_GUEST_INTERFACE,
                                "-a",
                                NET_GUEST_ADDRESS,
                                "-n",
                                "24",
                                "-g",
                                NET_GUEST_ROUTER,
                                "-D",
                                "none",
                                NOTHING_INWARDS,
                                NULL};
    struct pasta inner = start_pasta(argv, net_fd);
    wait_for_pasta(&inner);
    set_guest_routes(order, net_fd);
    return inner;
}

/* --- staying --- */

static void close_stdio(void)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; fd++)
        if (null_fd < 0 || dup2(null_fd, fd) < 0)
            launch_die(errno, "cannot close the standard streams");
}

static int watch_process(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        launch_die(errno, "cannot watch a process");
    return fd;
}

/* Until the guest or one of the two ends; the others follow, for they end with their parent. */
_Noreturn static void stay(int guest_fd, pid_t outer, pid_t inner)
{
    struct pollfd watched[] = {{.fd = guest_fd, .events = POLLIN},
                               {.fd = watch_process(outer), .events = POLLIN},
                               {.fd = watch_process(inner), .events = POLLIN}};
    close_stdio();
    while (poll(watched, 3, -1) < 0 && errno == EINTR)
        continue;
    _exit(0);
}

/* In the background process; ready_fd is told when all is there. */
_Noreturn static void serve(const struct order *order, int guest_fd, int net_fd, int ready_fd)
{
    struct pasta outer = make_gate(order), inner = connect_guest(order, net_fd);
    if (write(ready_fd, "", 1) != 1)
        launch_die(ECANCELED, "nobody waits");
    close(ready_fd);
    stay(guest_fd, outer.pid, inner.pid);
}

int main(int argc, char **argv)
{
    static struct order order;
    int ready[2];
    char byte;
    parse(argc, argv, &order);
    if (close_range(3, ~0U, 0) < 0)
        launch_die(errno, "cannot close descriptors");
    launch_raise_oom_score();
    int own_count = net_own(order.own, PREFIXES_MAX);
    if (own_count < 0)
        launch_die(-own_count, "cannot tell the host's networks");
    order.own_count = (size_t)own_count;
    int guest_fd = watch_process(order.guest);
    int net_fd = open_namespace(order.guest, "net"), user_fd = open_namespace(order.guest, "user");
    make_tun();
    userns_become_root(user_fd);
    /* The change of identity has closed /proc/PID to the process itself and its like. */
    if (prctl(PR_SET_DUMPABLE, 1) < 0 || pipe2(ready, O_CLOEXEC) < 0)
        launch_die(errno, "cannot go on");
    pid_t pid = fork();
    if (pid < 0)
        launch_die(errno, "cannot go into the background");
    if (pid == 0)
        serve(&order, guest_fd, net_fd, ready[1]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        return 1;
    puts("ready");
    return 0;
}
